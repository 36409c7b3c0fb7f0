"""SmolLM2 as every benchmark loads it, and what it has to be called."""

from __future__ import annotations

import hashlib

from torch import Tensor

from qroar_core.models import load, smollm2
from qroar_core.models.loaded import LoadedModel

NAME = "SmolLM2-135M-Instruct with 4-bit Q4_1 weights"  # the file of models/smollm2, which is known by its hash
ABOUT = f"Reference: {NAME}, dequantized to float32; only the K/V cache and what else a row names is quantized anew."


def smollm2_loaded(said: bool = True) -> LoadedModel:
    """Fetch and load it in float32 on the CPU, and print what the reference of the tables below is."""
    smollm2.fetch()
    if said:
        print(f"{ABOUT}\n", flush=True)
    return load.run("smollm2", device="cpu", dtype="float32")


def loaded_as(model: str) -> LoadedModel:
    """`smollm2_loaded`, or another model by name."""
    return smollm2_loaded() if model == "smollm2" else load.run(model, device="cpu", dtype="float32")


def digest_of(ids: Tensor) -> str:
    """8 hex digits naming these tokens, as `Windows.digest` does."""
    return hashlib.sha256(ids.contiguous().numpy().tobytes()).hexdigest()[:8]
