"""Stage 1: a checkpoint becomes a `LoadedModel`, or one line says why not."""

from __future__ import annotations

from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import load_model
from qroar_core.progress import OnStep, no_progress


def run(source: str, *, device: str = "auto", dtype: str = "auto", on_step: OnStep = no_progress) -> LoadedModel:
    """Load `source` (demo, smollm2, a folder, a GGUF file or a name on the hub); see models.loading.load_model."""
    return load_model(source, device=device, dtype=dtype, on_step=on_step)
