"""Gemma 2: norms stored as 1 + w, soft caps, a sliding window in every other layer, no output head of its own.

The attention's scale is no key: 1 / sqrt(hidden_size / heads) in the 27B model, which llama.cpp knows by its 46
layers, and 1 / sqrt(key_length) in every other.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import STANDARD, Architecture, Config, decoder
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

BIG = 46  # layers of the 27B model
NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def gemma(meta: Metadata, files: GgufFiles, kind: str, model_type: str, big: int, period: int) -> Config:
    """What Gemma 2 and 3 share: `period` - 1 layers slide, then one reads the whole context."""
    found = decoder(meta, files, kind, model_type)
    del found["hidden_act"]
    layers, heads = found["num_hidden_layers"], found["num_attention_heads"]
    period = meta.size("attention.sliding_window_pattern", period)
    return found | {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "query_pre_attn_scalar": found["hidden_size"] // heads if layers == big else found["head_dim"],
        "layer_types": ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(layers)],
    }


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Gemma 2's config; llama.cpp's constants are a window of 4096 and caps of 50 and 30."""
    found = gemma(meta, files, "Gemma2ForCausalLM", "gemma2", BIG, 2)
    meta.only("rope.freq_base_swa", found["rope_parameters"]["rope_theta"])
    return found | {
        "sliding_window": meta.size("attention.sliding_window", 4096),
        "attn_logit_softcapping": meta.real("attn_logit_softcapping", 50.0) or None,
        "final_logit_softcapping": meta.real("final_logit_softcapping", 30.0) or None,
    }


GEMMA2 = Architecture(
    "gemma2",
    config,
    layer=STANDARD | NORMS,
    one_plus=True,
    head="never",
    no_scales="its layout is not known to the in-place writer",
)
