"""GPT-NeoX and Pythia: rows of all queries, then keys, then values; transformers has them head by head."""

from __future__ import annotations

import numpy as np

from qroar_core.models.formats.gguf.architecture import (
    Architecture,
    Built,
    Config,
    head_dim,
    partial_rotary,
    reordered,
    sizes,
)
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

TOP = {"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "attention.query_key_value",  # its rows are moved below
    "attn_output": "attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """GPT-NeoX's config."""
    found = sizes(meta, files)
    heads = found["num_attention_heads"]
    if found.pop("num_key_value_heads") != heads or found["hidden_size"] % heads:
        raise meta.wrong("attention.head_count", heads)
    return found | {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "layer_norm_eps": meta.real("attention.layer_norm_epsilon"),
        "rope_parameters": partial_rotary(meta, files, head_dim(meta, found)),
        "use_parallel_residual": meta.flag("use_parallel_residual"),
        "attention_bias": True,
        "hidden_dropout": 0.0,
    }


def merged(found: Config, files: GgufFiles) -> Built:
    """query_key_value of every layer, weight and bias."""
    built: Built = {}
    hidden, heads = found["hidden_size"], found["num_attention_heads"]
    rows = np.arange(3 * hidden).reshape(heads, 3, -1).swapaxes(0, 1).reshape(-1)
    for i in range(found["num_hidden_layers"]):
        stem = f"gpt_neox.layers.{i}.attention.query_key_value"
        built |= reordered(files, f"{stem}.weight", f"blk.{i}.attn_qkv.weight", (3 * hidden, hidden), rows)
        built |= reordered(files, f"{stem}.bias", f"blk.{i}.attn_qkv.bias", (3 * hidden,), rows)
    return built


GPT_NEOX = Architecture(
    "gptneox",
    config,
    top=TOP,
    layer=LAYER,
    layers_at="gpt_neox.layers",
    merged=merged,
    head="always",
    no_scales="q, k and v are one matrix",
)
