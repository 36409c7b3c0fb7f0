"""SmolLM3: Llama whose every fourth layer turns nothing."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import MLP_BIASES, PAIRED, Architecture, Config, decoder
from qroar_core.models.formats.gguf.architectures.llama import BIASES, biases
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

STEP = 4  # llama.cpp's n_no_rope_layer_step


def config(meta: Metadata, files: GgufFiles) -> Config:
    """SmolLM3's config."""
    found = decoder(meta, files, "SmolLM3ForCausalLM", "smollm3")
    return (
        found
        | biases(files)
        | {
            "no_rope_layers": [int((i + 1) % STEP != 0) for i in range(found["num_hidden_layers"])],
            "no_rope_layer_interval": STEP,
            "use_sliding_window": False,
            "sliding_window": None,
        }
    )


SMOLLM3 = Architecture(
    "smollm3",
    config,
    moved=PAIRED,
    optional_biases=(*BIASES, *MLP_BIASES),
)
