"""A Hugging Face byte-level BPE tokenizer as llama.cpp's metadata.

llama.cpp splits text before it merges, by rules it knows by name (`tokenizer.ggml.pre`). A name is only
written when the tokenizer's own splitting is the one llama.cpp has under that name; anything else is
refused, because a wrong split gives other tokens without a word. SentencePiece tokenizers are refused too.
Source: ggml-org/llama.cpp src/llama-vocab.cpp (llm_tokenizer_bpe), convert_hf_to_gguf.py (get_vocab_base).
"""

from __future__ import annotations

import json
from typing import Any

from gguf import GGUFValueType, Keys, TokenType

from qroar_core.errors import UnsupportedModel
from qroar_core.models.bos import bos_id
from qroar_core.models.formats.gguf.header_entries import Entry, entry
from qroar_core.models.formats.gguf.pretokenizers import DIGIT, GPT2, RULE_NAMES
from qroar_core.models.token_ids import put_around

NORMALIZERS = {"qwen2": ("NFC",)}  # llama.cpp does none; its own converter accepts this one


def tokenizer_entries(tokenizer: Any, vocab_size: int, where: str) -> list[Entry]:
    """The `tokenizer.*` keys of a fast tokenizer, padded to the embedding's rows.

    Raises:
        UnsupportedModel: a tokenizer llama.cpp would not reproduce, or one without an end token.
    """

    def refuse(what: str) -> UnsupportedModel:
        return UnsupportedModel(
            what, where=where, do="export the hf format and convert it with llama.cpp's convert_hf_to_gguf.py"
        )

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise refuse("its tokenizer is not a fast one")
    content = json.loads(backend.to_str())
    model = content["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise refuse(f"its tokenizer is {model['type']}{' with byte fallback' if model.get('byte_fallback') else ''}")
    steps, mergeless = _steps(content["pre_tokenizer"]), bool(model.get("ignore_merges"))
    pre = RULE_NAMES.get((steps, mergeless))
    if pre is None and (steps, not mergeless) in RULE_NAMES:
        raise refuse("its tokenizer treats merges otherwise than llama.cpp")
    if pre is None:
        raise refuse("its tokenizer splits text in a way that has no name here")
    normalizer = _flat(content["normalizer"], "normalizers")
    if tuple(n["type"] for n in normalizer) not in ((), NORMALIZERS.get(pre, ())):
        raise refuse("its tokenizer normalizes text, which llama.cpp does not")
    if tokenizer.eos_token_id is None:
        raise refuse("its tokenizer names no end token, and llama.cpp would take token 11")
    tokens, types = _tokens(content, vocab_size)
    if len(tokens) > vocab_size:
        raise refuse(f"its tokenizer has {len(tokens)} tokens, its embedding {vocab_size} rows")
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    keys = [
        entry(Keys.Tokenizer.MODEL, GGUFValueType.STRING, "gpt2"),
        entry(Keys.Tokenizer.PRE, GGUFValueType.STRING, pre),
        entry(Keys.Tokenizer.LIST, GGUFValueType.STRING, tokens),
        entry(Keys.Tokenizer.TOKEN_TYPE, GGUFValueType.INT32, types),
        entry(Keys.Tokenizer.MERGES, GGUFValueType.STRING, merges),
        *_special(tokenizer),
    ]
    if isinstance(tokenizer.chat_template, str):
        keys.append(entry(Keys.Tokenizer.CHAT_TEMPLATE, GGUFValueType.STRING, tokenizer.chat_template))
    return keys


def _flat(step: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    return list(step[inner]) if step["type"] == "Sequence" else [step]


def _steps(pre_tokenizer: dict[str, Any] | None) -> tuple[str, ...]:
    """The expressions of its steps, as `splits` has them; a step with options not looked at here is `unknown`."""
    steps = _flat(pre_tokenizer, "pretokenizers")
    words = [_step(step) for step in steps[:-1]]
    last = steps[-1] if steps else {"type": "nothing"}
    if last["type"] != "ByteLevel" or last.get("add_prefix_space"):
        return (*words, f"unknown {last['type']}")
    return (*words, GPT2) if last.get("use_regex", True) else tuple(words)


def _step(step: dict[str, Any]) -> str:
    if step["type"] == "Digits" and step.get("individual_digits"):
        return DIGIT
    if step["type"] == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return str(step["pattern"].get("Regex", "unknown text"))
    return f"unknown {step['type']}"


def _tokens(content: dict[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    """Token texts by id and their types; ids the tokenizer leaves free are padded as llama.cpp's converter does."""
    texts = {i: text for text, i in content["model"]["vocab"].items()}
    types = dict.fromkeys(texts, TokenType.NORMAL)
    for added in content["added_tokens"]:
        texts[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    count = max(vocab_size, *(i + 1 for i in texts))
    return (
        [texts.get(i, f"[PAD{i}]") for i in range(count)],
        [int(types.get(i, TokenType.UNUSED)) for i in range(count)],
    )


def _special(tokenizer: Any) -> list[Entry]:
    """Ids of the special tokens, and which of them a text gets."""
    ids = {
        Keys.Tokenizer.BOS_ID: bos_id(tokenizer),
        Keys.Tokenizer.EOS_ID: tokenizer.eos_token_id,
        Keys.Tokenizer.UNK_ID: tokenizer.unk_token_id,
        Keys.Tokenizer.PAD_ID: tokenizer.pad_token_id,
    }
    keys = [entry(key, GGUFValueType.UINT32, int(i)) for key, i in ids.items() if i is not None]
    before, behind = put_around(tokenizer.backend_tokenizer)
    for key, given in (
        (Keys.Tokenizer.ADD_BOS, before[:1] == [bos_id(tokenizer)]),
        (Keys.Tokenizer.ADD_EOS, behind[-1:] == [tokenizer.eos_token_id]),
    ):
        keys.append(entry(key, GGUFValueType.BOOL, given))
    return keys
