"""What every part of the search stands on: the model under one setting, its bands, texts, bounds and starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.maths.attention_error import Setup
from qroar_core.maths.bands import Bands, band_of_channel, partition
from qroar_core.maths.bounds import log2_bounds
from qroar_core.maths.pressure import Interpolation, frequency_slope, interpolation_pressure, mean_distance
from qroar_core.maths.rescale import Scales, identity, pooled
from qroar_core.maths.statistics_scales import mad_clipped, smooth_attention
from qroar_core.maths.verdict import verdict
from qroar_core.models.capture import Capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.rope import native_inv_freq, rope_of
from qroar_core.models.text import Document, windows
from qroar_core.results import Diagnosis
from qroar_core.results.search import Verdict
from qroar_core.searching.cached import CachedObjective
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec


@dataclass(slots=True, eq=False)
class Frame:
    """One model, one setting, the texts."""

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    spec: SearchSpec
    texts: dict[str, list[Document]]
    native: Tensor = field(init=False)
    bands: Bands = field(init=False)
    length: int = field(init=False)  # tokens per window

    def __post_init__(self) -> None:
        self.loaded.geometry.require_granularity(self.spec.granularity)
        self.loaded.geometry.require_cache(self.quant)
        context = self.loaded.geometry.original_context
        self.native = native_inv_freq(self.loaded)
        self.bands = partition(self.native, context, self.spec.bands)
        self.length = self.spec.length or int(context * self.rope.factor)

    @property
    def none(self) -> Scales:
        """Scales that change nothing."""
        geo = self.loaded.geometry
        return identity(geo.n_layers, geo.n_kv_heads, self.bands, self.spec.mode, self.spec.granularity)

    @property
    def verdict(self) -> Verdict:
        """Whether scales can act here at all."""
        geo = self.loaded.geometry
        return verdict(self.quant, self.spec.mode, bands=self.bands, head_dim=geo.head_dim, rotary_dim=geo.rotary_dim,
                       pairing=geo.pairing, scaled_gain=geo.scaled_gain)  # fmt: skip

    @property
    def weights_only(self) -> bool:
        """True when no cached q or k is quantized, so that the cached objective sees nothing."""
        return self.quant.k is None and self.quant.qk is None

    def windows(self, split: str, length: int, count: int) -> Tensor:
        """Token windows of one split, (count, length)."""
        return windows(self.loaded.tokenizer, self.texts[split], length, count, self.spec.seed).ids

    def scales(self, log2_g: Tensor) -> Scales:
        """log2 g (layers, kv, bands) as Scales."""
        g, granularity = log2_g.double().cpu().exp2(), self.spec.granularity
        one = {"model": g[:1, :1], "layer": g[:, :1], "kv_head": g}[granularity]  # exp2 may round like inputs apart
        return Scales(self.spec.mode, granularity, self.bands, one.expand_as(g).contiguous())

    def objective(self, taken: Capture) -> CachedObjective:
        """The cached objective on what was captured."""
        geo = self.loaded.geometry
        band = band_of_channel(self.bands, geo.head_dim, geo.rotary_dim, geo.pairing).to(self.loaded.device)
        setup = Setup(self.quant, self.spec.mode, band, taken.scaling, geo.pairing, taken.cos, taken.sin)
        return CachedObjective(taken, setup, self.spec.granularity)

    def starts(self, taken: Capture) -> dict[str, Tensor]:
        """Identity and the statistics-only scales, as log2 g (layers, kv, bands)."""
        geo = self.loaded.geometry
        band = band_of_channel(self.bands, geo.head_dim, geo.rotary_dim, geo.pairing)
        ranges = torch.stack([taken.k_absmax[..., band == b].amax(-1) for b in range(len(self.bands))], -1)
        named = {"smooth_attention": smooth_attention(ranges), "mad": mad_clipped(ranges)}
        logs = {name: pooled(g.log2().float(), self.spec.granularity) for name, g in named.items()}
        zero = torch.zeros_like(logs["mad"])
        if self.spec.mode == "shared":  # a temperature: K's range says nothing about it
            return {"identity": zero, **{name: zero.clone() for name in logs}}
        return {"identity": zero, **logs, "equal ranges": 2 * logs["smooth_attention"]}

    def pressure(self) -> Tensor:
        """Interpolation pressure of each band, rad per e-fold of scale; (bands,), float64."""
        rope = rope_of(self.loaded, self.rope, self.length)
        at = Interpolation(
            self.rope, self.native, rope.inv_freq.double(), self.loaded.geometry.original_context, self.length
        )
        per_pair = interpolation_pressure(frequency_slope(at), mean_distance(self.length, "causal"))
        return torch.stack([per_pair[a : b + 1].mean() for a, b in self.bands])

    def bounds(self, diagnosis: Diagnosis | None) -> Tensor:
        """log2 g bounds, (layers, bands, 2), float64: by hand, else from pressure and diagnosed tail inflation."""
        spec, layers = self.spec, self.loaded.geometry.n_layers
        if spec.bounds is not None:
            return torch.tensor(spec.bounds, dtype=torch.float64).expand(layers, -1, -1)
        tails = torch.ones(layers, len(self.bands), dtype=torch.float64)
        if diagnosis is not None and [(b.first_pair, b.last_pair) for b in diagnosis.bands] == list(self.bands):
            for x in ("k",) if spec.mode == "symmetric" else ("q", "k"):
                table = diagnosis.tail_inflation["post"][x]
                ratio = torch.tensor([[v if v else 1.0 for v in row] for row in table], dtype=torch.float64)
                tails = torch.maximum(tails, ratio)
        if spec.granularity == "model":  # one scale for all layers keeps to the narrowest
            tails = tails.clamp_min(1).amin(0, keepdim=True).expand_as(tails)
        pressure, geo = self.pressure(), self.loaded.geometry
        kappa = {"kappa0": spec.kappa0, "eta": spec.eta, "tau": spec.tau_tail}
        out = log2_bounds(pressure, tails, spec.mode, **kappa)
        apart = [i for i in range(layers) if geo.kind_of(i) != geo.interpolated_kind]
        if apart and spec.granularity != "model":  # layers that no interpolation touches are under no pressure
            out[apart] = log2_bounds(torch.zeros_like(pressure), tails[apart], spec.mode, **kappa)
        return out

    def plan(self, diagnosis: Diagnosis | None) -> Plan:
        """What a search would start from."""
        waves = (2 * math.pi / rope_of(self.loaded, self.rope, self.length).inv_freq.double()).tolist()
        return Plan(self.none, self.pressure(), [(waves[a], waves[b]) for a, b in self.bands], self.bounds(diagnosis))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Bands of a search before anything is read: identity, pressure, wavelengths in tokens, log2 g bounds."""

    none: Scales
    pressure: Tensor  # (bands,), rad per e-fold
    wavelengths: list[tuple[float, float]]  # shortest and longest of each band
    bounds: Tensor  # (layers, bands, 2)
