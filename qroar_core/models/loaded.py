"""`LoadedModel`: the one mutable thing of the core, with a lock, an identity and an applied state."""

from __future__ import annotations

import hashlib
import html
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from qroar_core.models.condition import StaticRange
from qroar_core.models.families import Family, QKSlot
from qroar_core.models.file_stamp import Stamp, stamp_of
from qroar_core.models.geometry import Geometry
from qroar_core.transforms.scales import Scales

FINGERPRINT_SAMPLES = 256  # about as many values are hashed per tensor, evenly spaced


@dataclass(slots=True, eq=False, repr=False)
class LoadedModel:
    """A causal language model on its device, with everything needed to run, patch and restore it.

    `lock` is held by every stream and every change of parameters: one job at a time.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer.
        family: where this architecture keeps q, k and RoPE.
        geometry: layers, heads, channels, RoPE pairs and the native window.
        name: short, for people.
        source: what was loaded: a name, a folder, a file.
        fingerprint: of a sample of the weights: what scales are made for.
        checksum: of weights, config and tokenizer (models.checksum): what a measured number belongs to.
        device: where token ids go in; layers may lie on others (`device_of`).
        dtype: of the weights.
        note: what the reader must know about this checkpoint, as "dequantized from Q4_1".
        template: folder with the tokenizer's own files, copied on export.
        file: the GGUF file that was read; what `source` names on the hub may be another by now.
        config: config.json as it was read; None for a model without one.
        stored: number formats of the folder's tensors, as safetensors spells them; none of a GGUF file.
        cache_scales: ranges that the checkpoint's scales of an fp8 K/V cache stand for; None: it has none.
        stamp: of the files when they were read; () for a model that was built in memory.
        lock: see above.
        applied: the scales that a person has applied to these weights (models.patch); None: none.
        applied_under: what `applied` was made for, as who applied it says it; None where nobody said.
        originals: the weights that `applied` has replaced; None: there was none.
    """

    model: Any
    tokenizer: Any
    family: Family
    geometry: Geometry
    name: str
    source: str
    fingerprint: str
    checksum: str
    device: torch.device
    dtype: torch.dtype
    note: str = ""
    template: Path | None = None
    file: Path | None = None
    config: dict[str, Any] | None = None
    stored: frozenset[str] = frozenset()
    cache_scales: StaticRange | None = None
    stamp: Stamp = ()
    lock: Any = field(default_factory=threading.RLock)
    applied: Scales | None = None
    applied_under: Any = None
    originals: dict[str, torch.Tensor | None] = field(default_factory=dict)

    def __repr__(self) -> str:
        geo = self.geometry
        note = f", {self.note}" if self.note else ""
        return (
            f"Model {self.name!r} ({geo.family}): {geo.n_layers} layers, {geo.n_heads} heads on {geo.n_kv_heads} KV "
            f"heads of {geo.head_dim} channels, {geo.n_pairs} RoPE pairs, native window {geo.original_context:,} "
            f"tokens; {geo.parameters:,} parameters, {str(self.dtype).removeprefix('torch.')} on {self.device}{note}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"

    def files_changed(self) -> bool:
        """Are the files that this model was read from other ones now?"""
        return bool(self.stamp) and stamp_of(self.template, self.file) != self.stamp

    @property
    def routing(self) -> tuple[PretrainedConfig, Geometry, Tensor | None]:
        """What `models.attention.attention_by` needs of a model to hand its attention to a stream."""
        return self.model.config, self.geometry, self.family.channel_order_in(self.geometry)

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

    def value_slots(self) -> list[tuple[QKSlot, str]]:
        """Value slot of every layer, and the name of the W_O that reads it."""
        names, family = self.parameter_names(), self.family
        at = [self.geometry.decoder_layer(layer) for layer in range(self.geometry.n_layers)]
        return [(family.value(i, self.geometry, names), family.output_projection(i)) for i in at]


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
