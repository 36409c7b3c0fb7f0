"""The vocabulary of a GGUF file: its tokens, their types, scores and merges, and what the special ones are for.

Everything is checked before it is believed: one missing or repeated token moves every id behind it.
Source: ggml-org/ggml docs/gguf.md (Tokenizer); llama.cpp src/llama-vocab.cpp (load) for what its reader takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf import GGUFValueType, Keys, TokenType

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.header_entries import Header, array_items, array_kind

Key = Keys.Tokenizer
KINDS = ("gpt2", "llama")  # tokenizer.ggml.model: byte-level BPE, SentencePiece BPE
NO_TOKENIZER = ("none", "no_vocab")
ENDS = (  # texts that llama.cpp takes as control tokens, whatever type the file gives them
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"),
    *("<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>"),
    *("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"),
    *("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"),
    *("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>"),
    *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|file_sep|>"),
    *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    *("<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~["),
)
PASSED_OVER = ("pad_token", "unk_token")  # no text gets them here: a number of no token (4294967295) says none
SPECIAL = {"bos_token": Key.BOS_ID, "eos_token": Key.EOS_ID, "unk_token": Key.UNK_ID, "pad_token": Key.PAD_ID}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a file says of its tokenizer. `special`: bos_token, eos_token, ...: id."""

    kind: str  # "gpt2" or "llama"
    pre: str | None
    tokens: list[str]  # by id, all different
    types: list[TokenType]
    scores: list[float]  # empty where the file has none
    merges: list[tuple[str, str]]
    special: dict[str, int]
    add_bos: bool | None  # None: the file does not say
    add_eos: bool
    space_prefix: bool | None
    chat_template: str | None
    name: str  # general.name, in lower case


def read_vocabulary(header: Header, where: str) -> Vocabulary:
    """The tokenizer of a GGUF file, checked.

    Raises:
        UnsupportedModel: a kind of tokenizer that this software does not read, or none.
        BadCheckpoint: a key that is missing, of a wrong type, or contradicts another.
    """
    kind = _get(header, Key.MODEL, str, where)
    if kind is None:
        raise BadCheckpoint(f"it has no {Key.MODEL}", where=where, do="give a file that holds its tokenizer")
    if kind in NO_TOKENIZER:
        raise UnsupportedModel(f"it has no tokenizer ({Key.MODEL} is {kind})", where=where, do="give a whole model")
    if kind not in KINDS:
        raise UnsupportedModel(
            f"its tokenizer is of the kind {kind[:40]!r} ({Key.MODEL})", where=where, do=f"known are {', '.join(KINDS)}"
        )
    tokens = _tokens(header, where)
    types = _types(header, len(tokens), where)
    special = {}
    for name, key in SPECIAL.items():
        number = _get(header, key, int, where)
        if number is not None:
            if name in PASSED_OVER and not 0 <= number < len(tokens):
                continue
            if not 0 <= number < len(tokens):
                raise BadCheckpoint(f"{key} is {number}, it has {len(tokens)} tokens", where=where)
            special[name] = number
    return Vocabulary(
        kind=kind,
        pre=_get(header, Key.PRE, str, where),
        tokens=tokens,
        types=[TokenType.CONTROL if text in ENDS else kind for text, kind in zip(tokens, types, strict=True)],
        scores=[float(score) for score in _numbers(header, Key.SCORES, len(tokens), where)],
        merges=_merges(header, set(tokens), where) if kind == "gpt2" else [],
        special=special,
        add_bos=_get(header, Key.ADD_BOS, bool, where),
        add_eos=bool(_get(header, Key.ADD_EOS, bool, where)),
        space_prefix=_get(header, Key.ADD_PREFIX, bool, where),
        chat_template=_get(header, Key.CHAT_TEMPLATE, str, where),
        name=str(header.get(Keys.General.NAME, "")).lower(),
    )


def _get(header: Header, key: str, kind: type, where: str) -> Any:
    value = header.get(key)
    if key in header.entries and type(value) is not kind:
        raise BadCheckpoint(f"{key} has another type than it should", where=where)
    return value


def _numbers(header: Header, key: str, count: int, where: str) -> list[Any]:
    """Items of an array of `count` numbers; empty where the key is missing."""
    if key not in header.entries:
        return []
    kind = array_kind(header.entries[key])
    items = array_items(header.entries[key]) if kind in (GGUFValueType.INT32, GGUFValueType.FLOAT32) else []
    if len(items) != count:
        raise BadCheckpoint(f"{key} has {len(items)} numbers for {count} tokens", where=where, do="fetch it again")
    return items


def _texts(header: Header, key: str, where: str) -> list[str]:
    array = header.entries.get(key)
    if array is None or array_kind(array) != GGUFValueType.STRING:
        raise BadCheckpoint(f"it has no {key}", where=where, do="give a file that holds its tokenizer")
    texts = []
    for i, raw in enumerate(array_items(array)):
        try:
            texts.append(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadCheckpoint(f"{key}: item {i} is not UTF-8", where=where) from error
    return texts


def _tokens(header: Header, where: str) -> list[str]:
    tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(_texts(header, Key.LIST, where))]
    ids: dict[str, int] = {}
    for i, text in enumerate(tokens):
        if ids.setdefault(text, i) != i:
            raise BadCheckpoint(
                f"{Key.LIST}: token {text[:40]!r} comes twice, as {ids[text]} and {i}",
                where=where,
                do="convert it again",
            )
    return tokens


def _types(header: Header, count: int, where: str) -> list[TokenType]:
    numbers = _numbers(header, Key.TOKEN_TYPE, count, where) or [int(TokenType.NORMAL)] * count
    try:
        return [TokenType(number) for number in numbers]
    except ValueError as error:
        raise BadCheckpoint(f"{Key.TOKEN_TYPE}: {error}", where=where) from error


def _merges(header: Header, tokens: set[str], where: str) -> list[tuple[str, str]]:
    """In their order, the first of two that are alike."""
    merges: dict[tuple[str, str], None] = {}
    for i, text in enumerate(_texts(header, Key.MERGES, where)):
        cut = text.find(" ", 1)
        pair = text[:cut], text[cut + 1 :]
        if cut < 0 or not {*pair, "".join(pair)} <= tokens:
            raise BadCheckpoint(f"{Key.MERGES}: merge {i} ({text[:40]!r}) makes no token of its list", where=where)
        merges.setdefault(pair)
    return list(merges)
