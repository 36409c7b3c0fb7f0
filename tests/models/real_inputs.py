"""Checkpoints as people really have them, rebuilt small from the demo model; each stands for a public bug report.

`build(name, folder)` writes one and returns its path. What is right for each stands in test_real_inputs.py.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGUFValueType as T
from safetensors.torch import load_file, save_file

DEMO = Path(__file__).parents[2] / "assets" / "demo"
PERMUTED = ("q_proj", "k_proj")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": "4.0", "original_max_position_embeddings": 256}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
DIVISORS = np.linspace(1, 8, 32).astype(np.float32)  # rope_freqs.weight of the case of that name


@cache
def config():
    return json.loads((DEMO / "config.json").read_text())


@cache
def tokenizer():
    return json.loads((DEMO / "tokenizer.json").read_text())


@cache
def weights():
    return load_file(DEMO / "model.safetensors")


def permuted(w, heads):
    """A head's rows (i, i + d/2) laid as (2i, 2i + 1), as llama.cpp has them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


@cache
def gguf_tensors():
    """The demo's tensors under their GGUF names, float16 where they are matrices."""
    out = {}
    for name, tensor in weights().items():
        x = tensor.float().numpy()
        if name == "model.embed_tokens.weight":
            out["token_embd.weight"] = x.astype(np.float16)
        elif name == "model.norm.weight":
            out["output_norm.weight"] = x
        else:
            _, _, i, rest = name.split(".", 3)
            stem, leaf = rest.rsplit(".", 1)
            if stem.endswith(PERMUTED):
                heads = "num_attention_heads" if stem.endswith("q_proj") else "num_key_value_heads"
                x = permuted(x, config()[heads])
            out[f"blk.{i}.{NAMES[stem]}.{leaf}"] = x.astype(np.float16) if x.ndim > 1 else x
    return out


def write_gguf(path, tensors, more=None):
    """A Llama GGUF of the demo's sizes and tokenizer; `more` sets keys, (type, value), or takes them out (None)."""
    c, vocab = config(), tokenizer()["model"]["vocab"]
    keys = {
        "llama.context_length": (T.UINT32, c["max_position_embeddings"]),
        "llama.embedding_length": (T.UINT32, c["hidden_size"]),
        "llama.block_count": (T.UINT32, c["num_hidden_layers"]),
        "llama.feed_forward_length": (T.UINT32, c["intermediate_size"]),
        "llama.attention.head_count": (T.UINT32, c["num_attention_heads"]),
        "llama.attention.head_count_kv": (T.UINT32, c["num_key_value_heads"]),
        "llama.attention.key_length": (T.UINT32, c["head_dim"]),
        "llama.attention.value_length": (T.UINT32, c["head_dim"]),
        "llama.attention.layer_norm_rms_epsilon": (T.FLOAT32, c["rms_norm_eps"]),
        "llama.rope.freq_base": (T.FLOAT32, c["rope_parameters"]["rope_theta"]),
        "llama.rope.dimension_count": (T.UINT32, c["head_dim"]),
        "llama.vocab_size": (T.UINT32, c["vocab_size"]),
        "tokenizer.ggml.model": (T.STRING, "gpt2"),
        "tokenizer.ggml.pre": (T.STRING, "gpt-2"),
        "tokenizer.ggml.bos_token_id": (T.UINT32, 0),
        "tokenizer.ggml.eos_token_id": (T.UINT32, 0),
    } | (more or {})
    writer = gguf.GGUFWriter(path, "llama")
    for key, said in keys.items():
        if said is not None:
            writer.add_key_value(key, said[1], said[0])
    writer.add_token_list(sorted(vocab, key=vocab.get))
    writer.add_token_types([3 if i == 0 else 1 for i in range(len(vocab))])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer()["model"]["merges"]])
    _write(writer, tensors)
    return path


def _write(writer, tensors):
    for name, x in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(x))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _split(folder, keep_second=True):
    whole = gguf_tensors()
    second = [name for name in whole if name.startswith(("blk.2.", "blk.3.", "output_norm"))]
    first = {name: x for name, x in whole.items() if name not in second}
    count = {"split.no": (T.UINT16, 0), "split.count": (T.UINT16, 2), "split.tensors.count": (T.INT32, len(whole))}
    path = write_gguf(folder / "demo-00001-of-00002.gguf", first, count)
    if keep_second:
        writer = gguf.GGUFWriter(folder / "demo-00002-of-00002.gguf", "llama")
        writer.add_uint16("split.no", 1)
        writer.add_uint16("split.count", 2)
        _write(writer, {name: whole[name] for name in second})
    return path


def _mixtral(folder):
    experts = dict(gguf_tensors())
    for i in range(config()["num_hidden_layers"]):
        for x in ("gate", "up", "down"):
            matrix = experts.pop(f"blk.{i}.ffn_{x}.weight")
            experts[f"blk.{i}.ffn_{x}_exps.weight"] = np.stack([matrix, matrix])
        experts[f"blk.{i}.ffn_gate_inp.weight"] = np.zeros((2, 256), np.float32)
    counts = {"llama.expert_count": (T.UINT32, 2), "llama.expert_used_count": (T.UINT32, 1)}
    return write_gguf(folder / "mixtral.gguf", experts, counts)


def _gguf(tensors=lambda whole: whole, **more):
    keys = {f"llama.{key}": said for key, said in more.items()}
    return lambda folder: write_gguf(folder / "demo.gguf", tensors(dict(gguf_tensors())), keys)


def _plus(**arrays):
    return lambda whole: whole | {name.replace("__", "."): x for name, x in arrays.items()}


def _without(*names):
    return lambda whole: {name: x for name, x in whole.items() if name not in names}


def _folder(edit_config=None, edit_tokenizer=None, tensors=lambda w: w, **files):
    def write(folder):
        (folder / "config.json").write_text(json.dumps(config() | (edit_config or {})))
        table = json.loads((DEMO / "tokenizer.json").read_text())
        if edit_tokenizer:
            edit_tokenizer(table)
        (folder / "tokenizer.json").write_text(json.dumps(table))
        (folder / "tokenizer_config.json").write_text((DEMO / "tokenizer_config.json").read_text())
        save_file(tensors(weights()), folder / "model.safetensors", metadata={"format": "pt"})
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return write


def _digits(table):
    single = {"type": "Digits", "individual_digits": True}
    table["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [single, table["pre_tokenizer"]]}


def _bos(table):
    text = {"type_id": 0}
    table["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>"} | text}, {"Sequence": {"id": "A"} | text}],
        "pair": [{"Sequence": {"id": "A"} | text}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }


def _past(table):
    table["added_tokens"] += [
        dict(table["added_tokens"][0], id=2048 + i, content=c) for i, c in enumerate(("<|im_start|>", "<|im_end|>"))
    ]


def _fp8(tensors):
    out = {}
    for name, t in tensors.items():
        if name.endswith("_proj.weight"):
            scale = t.float().abs().max() / 448
            out[name] = (t.float() / scale).to(torch.float8_e4m3fn)
            out[name + "_scale"] = scale.reshape(())
            out[name.replace(".weight", ".input_scale")] = torch.tensor(0.02)
        else:
            out[name] = t.bfloat16()
    return out


def rounded_gptq(weight):
    """Codes 0..15 around a zero of 8, (in, out), and scales, (in / 32, out), of an (out, in) matrix."""
    w = weight.float().T.contiguous()
    groups = w.view(len(w) // 32, 32, -1)
    scale = (groups.abs().amax(1) / 7).half().float().clamp_min(1e-6)
    codes = (groups / scale[:, None]).round().clamp(-8, 7) + 8
    return codes.view(w.shape).long(), scale


def _words(codes, axis):
    """Eight 4-bit codes a word along an axis, the first in the lowest bits."""
    eight = codes.movedim(axis, 0).reshape(-1, 8, codes.shape[1 - axis])
    word = sum(eight[:, i] << (4 * i) for i in range(8))
    return torch.where(word >= 1 << 31, word - (1 << 32), word).to(torch.int32).movedim(0, axis).contiguous()


def _gptq(tensors):
    """Symmetric 4 bits whose zeros are stored as they are, 8: the second way of GPTQ folders."""
    out = {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            out[name] = tensor.half()
            continue
        stem = name.removesuffix(".weight")
        codes, scale = rounded_gptq(tensor)
        out[f"{stem}.qweight"] = _words(codes, 0)
        out[f"{stem}.qzeros"] = _words(torch.full(scale.shape, 8), 1)
        out[f"{stem}.scales"] = scale.half()
        out[f"{stem}.g_idx"] = (torch.arange(len(codes)) // 32).to(torch.int32)
    return out


CLASS = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
MODELOPT = {"producer": {"name": "modelopt", "version": "0.17.0"}, "quantization": {"quant_algo": "FP8"}}
GPTQ = {
    "quant_method": "gptq",
    "bits": 4,
    "group_size": 32,
    "sym": True,
    "desc_act": False,
    "checkpoint_format": "gptq",
}
F32 = T.FLOAT32
INPUTS = {
    "plain": _gguf(),
    "split": _split,
    "split, the second shard is gone": lambda folder: _split(folder, keep_second=False),
    "a layer's matrix is missing": _gguf(_without("blk.2.ffn_up.weight")),
    "block_count says less": _gguf(block_count=(T.UINT32, 3)),
    "norms on q and k": _gguf(
        _plus(**{f"blk__{i}__attn_{x}_norm__weight": np.full(64, 3, np.float32) for i in range(4) for x in "qk"})
    ),
    "a tensor nobody knows": _gguf(_plus(blk__0__attn_sub_norm__weight=np.full(256, 3, np.float32))),
    "mixtral": _mixtral,
    "rope.scale_linear": _gguf(**{"rope.scale_linear": (F32, 4.0)}),
    "a factor without a type": _gguf(**{"rope.scaling.factor": (F32, 4.0)}),
    "linear": _gguf(**{"rope.scaling.type": (T.STRING, "linear"), "rope.scaling.factor": (F32, 4.0)}),
    "rope_freqs": _gguf(_plus(rope_freqs__weight=DIVISORS)),
    "no size": _gguf(block_count=None),
    "pre deepseek-coder": lambda folder: write_gguf(
        folder / "demo.gguf", gguf_tensors(), {"tokenizer.ggml.pre": (T.STRING, "deepseek-coder")}
    ),
    "pre unknown": lambda folder: write_gguf(
        folder / "demo.gguf", gguf_tensors(), {"tokenizer.ggml.pre": (T.STRING, "of-next-year")}
    ),
    "GPT2Tokenizer with digits": _folder(edit_tokenizer=_digits, tokenizer_config=CLASS),
    "adds BOS": _folder(edit_tokenizer=_bos),
    "tokens past the embedding": _folder(edit_tokenizer=_past),
    "modelopt FP8": _folder(tensors=_fp8, hf_quant_config=MODELOPT),
    "GPTQ v2 zeros that say v1": _folder({"quantization_config": GPTQ}, tensors=_gptq),
    "a factor in quotes": _folder({"rope_parameters": YARN}),
    "theta null": _folder({"rope_parameters": {"rope_type": "default", "rope_theta": None}}),
    "its own llama3": _folder({"max_position_embeddings": 1024, "rope_parameters": LLAMA3}),
}


def build(name, folder):
    """Write an input into an empty folder; returns what a person would type."""
    return INPUTS[name](folder)
