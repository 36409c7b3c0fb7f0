"""Small vocabularies that show every cut: BPE trained on text that nothing cuts, so that merges cross any border.

`write_gguf` puts one into a whole tiny llama GGUF, so that llama.cpp itself can be asked for its tokens.
"""

from __future__ import annotations

import json

import gguf
import numpy as np
from gguf import TokenType
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from qroar_core.models.text import COLLECTIONS, split

ODD = (
    "I'M we'LL it's 'tis THE OldMacDonald's café 1 12 123 1234 12345.678 3,141,592 0x1F $5 + <= >= ^~|` =\n"
    "\tdef f(a_b, *c):  return {'x': [1, 22]}   # note\r\n\r\n  \n   x!!!... \n?? (a) — “q” ‘r’ §1 ½ ² Ⅳ\n"
    "中文字符，测试。 日本語のテキスト カタカナ。 한국어 텍스트 русский ТЕКСТ"
    " ελληνικά हिन्दी عربى ไทย 👩‍👧 🎉🎉 e\u0301 \u00a0 \u3000\n"
)
CONTROL, USER, BYTE, UNKNOWN, NORMAL = (
    TokenType.CONTROL,
    TokenType.USER_DEFINED,
    TokenType.BYTE,
    TokenType.UNKNOWN,
    TokenType.NORMAL,
)
DIM = 32


def texts(characters=30_000):
    """The three embedded collections and odd characters."""
    return {**{name: split("heldout", name)[0].text[:characters] for name in COLLECTIONS}, "odd": ODD}


def byte_level(size=3000):
    """(tokens, merges) of byte-level BPE over whole lines: words, digits, marks and spaces merge with each other."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        show_progress=False,
        max_token_length=12,
        special_tokens=["<|endoftext|>", "<|im_start|>"],
    )
    lines = [line for text in texts(8000).values() for line in [*text.split("\n"), text]]
    tokenizer.train_from_iterator([*lines, *([ODD] * 20)], trainer)
    return _parts(tokenizer)


def sentencepiece(size=2000):
    """(tokens, types, scores) as SentencePiece's trainer leaves them: pieces end at words, the earliest scores best."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, limit_alphabet=200, max_token_length=16)
    lines = [line for text in texts(20_000).values() for line in text.split("\n")]
    tokenizer.train_from_iterator(lines, trainer)
    known, merges = _parts(tokenizer)
    pieces = ["".join(pair) for pair in merges]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "<tag>", "  ", "    "]
    first += ["<|user|>", "<|endoftext|>"]
    joined = [*first, *dict.fromkeys(pieces), *(token for token in known if len(token) == 1)]
    types = [UNKNOWN, CONTROL, CONTROL, *([BYTE] * 256), *([USER] * 3), CONTROL, CONTROL]
    types += [NORMAL] * (len(joined) - len(types))
    scores = [0.0 if kind != NORMAL else -float(i) for i, kind in enumerate(types)]
    return joined, types, scores


def _parts(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [tuple(merge) for merge in model["merges"]]


def write_gguf(path, tokens, types=None, *, model="gpt2", pre="gpt-2", merges=None, scores=None, name="m", **keys):
    """A one-layer llama GGUF with this vocabulary. `keys`: further tokenizer.ggml keys; None leaves one out."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(64)
    writer.add_embedding_length(DIM)
    writer.add_block_count(1)
    writer.add_feed_forward_length(DIM)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(DIM)
    writer.add_vocab_size(len(tokens))
    if model is not None:
        writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    if types is not None:
        writer.add_token_types(types)
    if merges is not None:
        writer.add_token_merges([" ".join(pair) for pair in merges])
    if scores is not None:
        writer.add_token_scores(scores)
    for key, value in ({"bos_token_id": 1, "eos_token_id": 0} | keys).items():
        if isinstance(value, bool):
            writer.add_bool(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"tokenizer.ggml.{key}", value)
        elif value is not None:
            writer.add_string(f"tokenizer.{key}", value)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), DIM), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(DIM, np.float32))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{part}.weight", np.zeros((DIM, DIM), np.float16))
    for part in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{part}.weight", np.ones(DIM, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
