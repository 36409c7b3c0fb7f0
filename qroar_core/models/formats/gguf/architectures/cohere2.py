"""Cohere 2 (Command R7B, Command A): three layers slide and turn, every fourth reads all and turns nothing."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import ATTENTION, MLP, Architecture, Config
from qroar_core.models.formats.gguf.architectures.command_r import cohere
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

PERIOD = 4


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Cohere 2's config."""
    found = cohere(meta, files, "Cohere2ForCausalLM", "cohere2")
    period = meta.size("attention.sliding_window_pattern", PERIOD)
    layers = range(found["num_hidden_layers"])
    meta.only("rope.freq_base_swa", found["rope_parameters"]["rope_theta"])
    return found | {
        "sliding_window": meta.size("attention.sliding_window"),
        "layer_types": ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in layers],
    }


COHERE2 = Architecture(
    "cohere2",
    config,
    layer=ATTENTION | MLP,
    head="never",
    no_scales="its layout is not known to the in-place writer",
)
