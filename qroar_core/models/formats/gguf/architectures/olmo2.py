"""OLMo 2: norms behind attention and MLP, and one over all channels of q and of k.

Its successor has the same name here and a sliding window besides; that key is refused.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import MLP, QK_NORM, Architecture, Config, decoder
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

LAYER = (
    QK_NORM
    | MLP
    | {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
)


def config(meta: Metadata, files: GgufFiles) -> Config:
    """OLMo 2's config."""
    return decoder(meta, files, "Olmo2ForCausalLM", "olmo2") | {"attention_bias": False}


OLMO2 = Architecture("olmo2", config, layer=LAYER, no_scales="a norm follows q and k")
