"""Falcon 7B, 11B, 40B and 180B: rows of all queries, then keys, then values; transformers has them KV head by KV head.

A second norm before attention marks the new decoder (40B, 180B); the 11B model has that layout with one norm.
"""

from __future__ import annotations

import numpy as np

from qroar_core.models.formats.gguf.architecture import (
    Architecture,
    Built,
    Config,
    has,
    head_dim,
    reordered,
    sizes,
    whole_rotary,
)
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import rope_parameters

TOP = {"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attention.query_key_value",  # its rows are moved below
    "attn_output": "self_attention.dense",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Falcon's config."""
    found = sizes(meta, files)
    width = whole_rotary(meta, head_dim(meta, found))
    heads, kv = found["num_attention_heads"], found.pop("num_key_value_heads")
    two = has(files, "attn_norm_2.weight")
    if width * heads != found["hidden_size"] or heads % kv:
        raise meta.wrong("attention.head_count", heads)
    return found | {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "activation": "gelu",
        "ffn_hidden_size": found.pop("intermediate_size"),
        "layer_norm_epsilon": meta.real("attention.layer_norm_epsilon"),
        "rope_parameters": rope_parameters(meta, files, width),
        "new_decoder_architecture": two or kv > 1,
        "num_ln_in_parallel_attn": 2 if two else 1,
        "multi_query": True,
        "num_kv_heads": kv,
        "parallel_attn": True,
        "bias": False,
        "alibi": False,
        "hidden_dropout": 0.0,
    }


def layer_names(config: Config) -> dict[str, str]:
    """The norms have other names where there are two."""
    two = {"attn_norm": "ln_mlp", "attn_norm_2": "ln_attn"}
    return LAYER | (two if config["num_ln_in_parallel_attn"] == 2 else {})


def merged(found: Config, files: GgufFiles) -> Built:
    """query_key_value of every layer."""
    built: Built = {}
    hidden, heads, kv = found["hidden_size"], found["num_attention_heads"], found["num_kv_heads"]
    width, group = hidden // heads, heads // kv
    blocks = np.arange(kv * (group + 2)).reshape(kv, group + 2)  # of transformers: KV head, its queries, k, v
    order = np.concatenate((blocks[:, :-2].reshape(-1), blocks[:, -2], blocks[:, -1]))
    rows = (order[:, None] * width + np.arange(width)).reshape(-1)
    for i in range(found["num_hidden_layers"]):
        target = f"transformer.h.{i}.self_attention.query_key_value.weight"
        built |= reordered(files, target, f"blk.{i}.attn_qkv.weight", (len(rows), hidden), rows)
    return built


FALCON = Architecture(
    "falcon",
    config,
    top=TOP,
    layer=LAYER | {"attn_norm_2": "ln_attn"},
    renamed=layer_names,
    layers_at="transformer.h",
    merged=merged,
    no_scales="q, k and v are one matrix",
)
