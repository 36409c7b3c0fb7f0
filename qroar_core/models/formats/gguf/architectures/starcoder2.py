"""StarCoder2: LayerNorm, biases everywhere, an MLP without gate. llama.cpp applies no sliding window here."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import (
    ATTENTION,
    Architecture,
    Config,
    has,
    head_dim,
    sizes,
    whole_rotary,
)
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import rope_parameters

LAYER = ATTENTION | {"ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """StarCoder2's config."""
    found = sizes(meta, files)
    width = whole_rotary(meta, head_dim(meta, found))
    return found | {
        "architectures": ["Starcoder2ForCausalLM"],
        "model_type": "starcoder2",
        "hidden_act": "gelu_pytorch_tanh",
        "head_dim": width,
        "norm_epsilon": meta.real("attention.layer_norm_epsilon"),
        "rope_parameters": rope_parameters(meta, files, width),
        "use_bias": has(files, "attn_q.bias"),
        "sliding_window": None,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
    }


STARCODER2 = Architecture("starcoder2", config, layer=LAYER, no_scales="its layout is not known to the in-place writer")
