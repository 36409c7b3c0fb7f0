"""Gemma 3 (text): QK-norm, five layers that slide to one that does not, and a base of their own for the sliding ones.

RoPE scaling holds for the layers that read the whole context alone. llama.cpp's constant for the other base is 10000.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import QK_NORM, STANDARD, Architecture, Config
from qroar_core.models.formats.gguf.architectures.gemma2 import NORMS, gemma
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

BIG = 62  # layers of the 27B model
SLIDING_BASE = 10_000.0


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Gemma 3's config."""
    found = gemma(meta, files, "Gemma3ForCausalLM", "gemma3_text", BIG, 6)
    sliding = {"rope_type": "default", "rope_theta": meta.real("rope.freq_base_swa", SLIDING_BASE)}
    return found | {
        "sliding_window": meta.size("attention.sliding_window"),
        "rope_parameters": {"full_attention": found["rope_parameters"], "sliding_attention": sliding},
        "attn_logit_softcapping": None,
        "final_logit_softcapping": meta.real("final_logit_softcapping", 0.0) or None,
        "use_bidirectional_attention": False,
    }


GEMMA3 = Architecture(
    "gemma3",
    config,
    layer=STANDARD | QK_NORM | NORMS,
    one_plus=True,
    no_scales="a norm follows q and k",
)
