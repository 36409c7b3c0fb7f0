"""LFM2: layers of attention, named by their KV heads, between short convolutions; the last norm is the embedding's."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import (
    Architecture,
    Built,
    Config,
    head_dim,
    rows_of,
    take,
    whole_rotary,
)
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import rope_parameters
from qroar_core.models.formats.gguf.reading import TensorPart, assembled

LAYER = {
    "attn_norm": "operator_norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.out_proj",
    "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.out_proj": "conv.out_proj",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """LFM2's config; feed_forward_length is the width after all of its adjustments."""
    layers = meta.size("block_count")
    kv = meta.sizes("attention.head_count_kv", layers)
    heads = {count for count in kv if count}
    if len(heads) != 1:
        raise meta.wrong("attention.head_count_kv", kv)
    found: Config = {
        "architectures": ["Lfm2ForCausalLM"],
        "model_type": "lfm2",
        "vocab_size": rows_of(files, "token_embd.weight"),
        "hidden_size": meta.size("embedding_length"),
        "intermediate_size": meta.size("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": meta.size("attention.head_count"),
        "num_key_value_heads": heads.pop(),
        "max_position_embeddings": meta.size("context_length"),
        "norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "layer_types": ["full_attention" if count else "conv" for count in kv],
        "conv_L_cache": meta.size("shortconv.l_cache"),
        "conv_bias": False,
        "block_auto_adjust_ff_dim": False,
        "tie_word_embeddings": "output.weight" not in files.tensors,
    }
    width = whole_rotary(meta, head_dim(meta, found))
    if width != found["hidden_size"] // found["num_attention_heads"]:
        raise meta.wrong("attention.key_length", width)
    return found | {"rope_parameters": rope_parameters(meta, files, width)}


def merged(found: Config, files: GgufFiles) -> Built:
    """The kernels of the convolutions, which a file keeps without their one channel."""
    built: Built = {}
    hidden, taps = found["hidden_size"], found["conv_L_cache"]
    for i, kind in enumerate(found["layer_types"]):
        name = f"blk.{i}.shortconv.conv.weight"
        if kind == "conv":
            stored = assembled((hidden, 1, taps), [TensorPart(take(files, name, (hidden, taps)))])
            built[f"model.layers.{i}.conv.conv.weight"] = stored, (name,)
    return built


LFM2 = Architecture(
    "lfm2",
    config,
    top={"token_embd": "model.embed_tokens", "token_embd_norm": "model.embedding_norm", "output": "lm_head"},
    layer=LAYER,
    merged=merged,
    no_scales="a norm follows q and k",
)
