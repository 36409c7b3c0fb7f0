"""`LoadedModel`: the one mutable thing of the core, with a lock, an identity and an applied state."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qroar_core.maths.rescale import Scales
from qroar_core.models.families import Family, QKSlot
from qroar_core.models.file_stamp import Stamp, stamp_of
from qroar_core.models.geometry import Geometry

FINGERPRINT_SAMPLES = 256  # about as many values are hashed per tensor, evenly spaced


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A causal language model on its device, with everything needed to run, patch and restore it.

    `lock` is held by every stream and every change of parameters: one job at a time.
    `applied` holds the scales a person applied to these weights, if any (models.patch).
    """

    model: Any  # transformers PreTrainedModel
    tokenizer: Any
    family: Family
    geometry: Geometry
    name: str
    source: str
    fingerprint: str  # of a sample of the weights: what scales are made for
    checksum: str  # of weights, config and tokenizer (models.checksum): what a measured number belongs to
    device: torch.device  # where token ids go in; layers may lie on others (`device_of`)
    dtype: torch.dtype
    note: str = ""  # what the reader must know about this checkpoint: "dequantized from Q4_1"
    template: Path | None = None  # folder with the tokenizer's own files, copied on export
    file: Path | None = None  # the GGUF file that was read; what `source` names on the hub may be another by now
    stamp: Stamp = ()  # of the files when they were read; () for a model that was built in memory
    lock: Any = field(default_factory=threading.RLock)
    applied: Scales | None = None
    applied_under: Any = None  # what `applied` was made for, as who applied it says it; None where nobody said
    originals: dict[str, torch.Tensor] = field(default_factory=dict)

    def files_changed(self) -> bool:
        """Are the files that this model was read from other ones now?"""
        return bool(self.stamp) and stamp_of(self.template, self.file) != self.stamp

    def parameter_names(self) -> set[str]:
        """State-dict keys of all parameters."""
        return {name for name, _ in self.model.named_parameters()}

    def device_of(self, layer: int) -> torch.device:
        """Where an attention layer's parameters are, and with them its q, k, v and cache."""
        decoder = self.family.layers(self.model)[self.geometry.decoder_layer(layer)]
        return next(decoder.parameters()).device

    def devices(self) -> list[torch.device]:
        """`device_of` every attention layer."""
        return [self.device_of(layer) for layer in range(self.geometry.n_layers)]

    def slots(self) -> list[tuple[QKSlot, QKSlot]]:
        """(query, key) slot of every layer."""
        names, geo = self.parameter_names(), self.geometry
        at = [geo.decoder_layer(layer) for layer in range(geo.n_layers)]
        return [(self.family.query(i, geo, names), self.family.key(i, geo, names)) for i in at]


def fingerprint(model: nn.Module) -> str:
    """16 hex digits naming the weights: SHA-256 over names, shapes and evenly spaced values.

    Values are hashed as float32, so a checkpoint keeps its fingerprint across devices; a change of
    dtype that rounds weights is a different model and gets another one.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().flatten()
        step = max(1, flat.numel() // FINGERPRINT_SAMPLES)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
