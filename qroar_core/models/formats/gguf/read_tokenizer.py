"""The tokenizer of a GGUF file as a Hugging Face tokenizer.json that gives the tokens llama.cpp gives.

Byte-level BPE ("gpt2") is cut by the rule its file names (`splits`). SentencePiece ("llama": Llama 2, Mistral,
Gemma, Phi-3) joins the two neighbours that make the token with the highest score; written as merges in the order of
the scores, which is the same as long as no two tokens share one. As in llama.cpp no text is normalized (NFC); control
tokens are found in a text, as Hugging Face tokenizers find them. A file that names no split rule is refused.
Source: ggml-org/llama.cpp src/llama-vocab.cpp (llm_tokenizer_bpe, llm_tokenizer_spm, tokenize).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import Keys, TokenType

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.header_entries import Header
from qroar_core.models.formats.gguf.pretokenizers import GPT2, SPLIT_RULES
from qroar_core.models.formats.gguf.vocabulary import Vocabulary, read_vocabulary

Key = Keys.Tokenizer
SPACE = "▁"  # how SentencePiece writes a space
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)  # found in a text before it is cut
PHI3_NAMES = ("phi-3", "phi3")  # llama.cpp: in these, white space behind a special token is dropped,
PHI3_KEEPS = ("<unk>", "<s>", "<|endoftext|>")  # but not behind these


def write_tokenizer(header: Header, folder: Path, where: str) -> None:
    """Write tokenizer.json and tokenizer_config.json into an existing folder.

    Args:
        header: of the file, or of the first file of several.
        where: the file's name, for messages.
    Raises:
        UnsupportedModel: a tokenizer or a split rule that is not known here.
        BadCheckpoint: a vocabulary that is broken.
    """
    vocabulary = read_vocabulary(header, where)
    content, bos = _byte_level(vocabulary, where) if vocabulary.kind == "gpt2" else _sentencepiece(vocabulary, where)
    add_bos = bos if vocabulary.add_bos is None else vocabulary.add_bos
    for wanted, name, key in ((add_bos, "bos_token", Key.BOS_ID), (vocabulary.add_eos, "eos_token", Key.EOS_ID)):
        if wanted and name not in vocabulary.special:
            raise BadCheckpoint(f"texts get a {name}, but it has no {key}", where=where, do="convert it again")
    content["post_processor"] = _around(vocabulary, add_bos)
    named = {name: vocabulary.tokens[i] for name, i in vocabulary.special.items()}
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= named | {"add_bos_token": add_bos, "add_eos_token": vocabulary.add_eos}
    if vocabulary.chat_template is not None:
        config["chat_template"] = vocabulary.chat_template
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")


def _byte_level(vocabulary: Vocabulary, where: str) -> tuple[dict[str, Any], bool]:
    """tokenizer.json, and whether texts begin with BOS unless the file says otherwise."""
    if vocabulary.pre is None:
        raise UnsupportedModel(
            f"it has no {Key.PRE}, the rule by which text is cut", where=where, do="convert it with a newer llama.cpp"
        )
    rule = SPLIT_RULES.get(vocabulary.pre)
    if rule is None:
        raise UnsupportedModel(
            f"its split rule {vocabulary.pre[:40]!r} ({Key.PRE}) is not known",
            where=where,
            do="give the Hugging Face checkpoint of this model",
        )
    steps = [_split(step) for step in rule.steps]
    whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    if rule.steps[-1] == GPT2:
        steps, whole = steps[:-1], whole | {"use_regex": True}
    model = {"vocab": _ids(vocabulary), "merges": vocabulary.merges, "ignore_merges": rule.mergeless}
    return _content(
        vocabulary,
        normalizer=None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, whole]},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model=model | {"unk_token": None, "byte_fallback": False, "fuse_unk": False},
    ), rule.bos


def _split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def _sentencepiece(vocabulary: Vocabulary, where: str) -> tuple[dict[str, Any], bool]:
    if not vocabulary.scores:
        raise BadCheckpoint(f"it has no {Key.SCORES}", where=where, do="convert it again")
    ids = _ids(vocabulary)
    lacking = next((byte for byte in range(256) if f"<0x{byte:02X}>" not in ids), None)
    if lacking is not None:
        raise UnsupportedModel(f"its vocabulary lacks the byte token <0x{lacking:02X}>", where=where)
    prefix = vocabulary.space_prefix is not False
    spaces: list[dict[str, Any]] = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    spaces.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    back: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    back += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = vocabulary.special.get("unk_token")
    model = {"vocab": ids, "merges": _joins(vocabulary, ids, where), "ignore_merges": False}
    model |= {"unk_token": None if unknown is None else vocabulary.tokens[unknown]}
    return _content(
        vocabulary,
        normalizer={"type": "Sequence", "normalizers": spaces},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": back},
        model=model | {"byte_fallback": True, "fuse_unk": True},
    ), True


def _joins(vocabulary: Vocabulary, ids: dict[str, int], where: str) -> list[tuple[str, str]]:
    """Every pair of tokens that makes a third one, the third's highest score first."""
    never = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE)
    made: dict[float, int] = {}
    pairs: list[tuple[float, int, str, str]] = []
    for i, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if len(text) == 1 or kind in never or (kind == TokenType.USER_DEFINED and SPACE not in text):
            continue  # one found in the text before it is cut never stands whole in what is joined
        score, found = vocabulary.scores[i], False
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                pairs.append((-score, cut, left, right))
                found = True
        if not found and kind == TokenType.NORMAL and (odd := next((c for c in text if c not in ids), None)):
            raise UnsupportedModel(f"its token {text[:40]!r} holds {odd!r}, which is no token of its own", where=where)
        if found and made.setdefault(score, i) != i:
            first = vocabulary.tokens[made[score]]
            raise UnsupportedModel(
                f"tokens {first[:40]!r} and {text[:40]!r} both have score {score:g}: the order of merges is not known",
                where=where,
                do="give the Hugging Face checkpoint of this model",
            )
    return [(left, right) for _, _, left, right in sorted(pairs, key=lambda pair: pair[:2])]


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    return {text: i for i, text in enumerate(vocabulary.tokens)}


def _content(vocabulary: Vocabulary, *, model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A tokenizer.json but for its post-processor."""
    options = {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocabulary),
        **parts,
        "model": {"type": "BPE", **options, **model},
    }


def _added(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    strips = any(name in vocabulary.name for name in PHI3_NAMES)
    return [
        {
            "id": i,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": strips and text not in PHI3_KEEPS,
            "normalized": False,
            "special": kind != TokenType.USER_DEFINED,
        }
        for i, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind in ADDED
    ]


def _around(vocabulary: Vocabulary, add_bos: bool) -> dict[str, Any]:
    """What a text gets before and behind it."""

    def special(name: str, part: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": vocabulary.tokens[vocabulary.special[name]], "type_id": part}}

    def dressed(letter: str, part: int) -> list[dict[str, Any]]:
        before = [special("bos_token", part)] if add_bos else []
        behind = [special("eos_token", part)] if vocabulary.add_eos else []
        return [*before, {"Sequence": {"id": letter, "type_id": part}}, *behind]

    used = {name for name, wanted in (("bos_token", add_bos), ("eos_token", vocabulary.add_eos)) if wanted}
    known = {vocabulary.tokens[i]: i for name, i in vocabulary.special.items() if name in used}
    return {
        "type": "TemplateProcessing",
        "single": dressed("A", 0),
        "pair": [*dressed("A", 0), *dressed("B", 1)],
        "special_tokens": {text: {"id": text, "ids": [i], "tokens": [text]} for text, i in known.items()},
    }
