"""What every part of the search stands on: the model under one setting, its bands, texts, bounds and starts."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.interpolations.bands import Bands
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.interpolations.frequencies import bands_of, layer_group_ropes, rope_of
from qroar_core.interpolations.pressure import frequency_slope, interpolation_pressure, mean_distance
from qroar_core.maths.attention_error import ErrorSetup, channel_log2
from qroar_core.maths.channel_groups import ChannelGroup, numbers_in
from qroar_core.maths.transform_point import TransformParts
from qroar_core.models.applicability import applicability_on, reads_all_exactly
from qroar_core.models.capture import Capture, capture
from qroar_core.models.layer_groups import layer_groups
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts, Windows, windows
from qroar_core.progress import OnStep
from qroar_core.quantizers.exact_keys import first_rounded_row
from qroar_core.scale_search.cached import CachedObjective
from qroar_core.scale_search.l2_penalty import pull
from qroar_core.scale_search.result import Verdict
from qroar_core.setting import Setting
from qroar_core.shared import Shared
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.specs.labels import capital
from qroar_core.transforms.baselines import spread_axes_evenly
from qroar_core.transforms.bounds import log2_bounds
from qroar_core.transforms.groups import groups_of
from qroar_core.transforms.refusals import require
from qroar_core.transforms.scales import Scales, identity


@dataclass(slots=True, eq=False)
class SearchProblem:
    """One model, one setting, the texts."""

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    spec: SearchSpec
    texts: Texts
    captures: Shared[Capture] | None = None  # of searches before this one
    bands: Bands = field(init=False)
    length: int = field(init=False)  # tokens per window

    @classmethod
    def of(
        cls, loaded: LoadedModel, setting: Setting, texts: Texts, captures: Shared[Capture] | None = None
    ) -> SearchProblem:
        """What the search of a setting is about."""
        return cls(loaded, setting.rope, setting.quant, setting.search, texts, captures)

    def __post_init__(self) -> None:
        self.loaded.geometry.require_granularity(self.spec.granularity)
        self.loaded.geometry.require_cache(self.quant)
        for name in self.spec.kinds:
            require(name, self.loaded.geometry, self.rope, self.quant)
        self.bands = bands_of(self.loaded, self.spec.bands)
        self.length = self.spec.length or promised_length(self.loaded, self.rope)

    @property
    def none(self) -> Scales:
        """Scales that change nothing."""
        geo = self.loaded.geometry
        return identity(geo.n_layers, geo.n_kv_heads, self.bands, self.spec.mode, self.spec.granularity)

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The channels that maps are searched for; empty without any."""
        return groups_of(self.loaded.geometry, self.rope) if self.spec.maps else ()

    @property
    def offset(self) -> int:
        """Channels of the offset of K that is searched; 0: none is."""
        return self.loaded.geometry.head_dim if self.spec.k_offset else 0

    @property
    def verdict(self) -> Verdict:
        """Whether scales, or value maps where they are searched, can act here at all."""
        found = self.of_scales
        if self.spec.k_offset and (bare := self.loaded.geometry.bare_keys):
            found = Verdict(acts=found.acts, reason=f"{found.reason} {capital(bare)}: it goes into GGUF files alone.")
        if not self.spec.value_maps:
            return found
        return Verdict(acts="yes", reason=f"{found.reason} Value maps can act: the V cache is rounded.")

    @property
    def of_scales(self) -> Verdict:
        """Whether scales, or what is done to q and k beside them, can act here at all."""
        found = applicability_on(
            self.loaded.geometry, self.quant, self.spec.mode, self.bands, self.spec.angles, self.length
        )
        k = self.quant.k
        if not self.spec.k_offset or found.acts == "yes" or k is None or self.all_exact:
            return found
        if k.scale == "channel" and k.levels == "affine":
            nor = "Nor can a K offset: each channel's min..max moves with it."
            return Verdict(acts=found.acts, reason=f"{found.reason} {nor}")
        return Verdict(acts="yes", reason=f"{found.reason} A K offset can act: it narrows what is rounded.")

    @property
    def all_exact(self) -> bool:
        """True when K is quantized, but no query of a window reads any key rounded."""
        return reads_all_exactly(self.quant, self.length)

    @property
    def weights_only(self) -> bool:
        """True when no q or k is read rounded, so that the cached objective sees nothing."""
        return self.quant.qk is None and (self.quant.k is None or self.all_exact)

    @property
    def pull(self) -> Tensor | None:
        """What leaving 1 costs each layer and band, (layers, bands), by the bounds that pressure alone would set."""
        spec = self.spec
        if spec.l2_penalty == 0 or spec.max_log2_scale == 0:
            return None
        return pull(spec.l2_penalty, replace(self, spec=replace(spec, bounds=None)).bounds(None)[..., 1])

    def read(self, split: str, length: int, count: int, *, fewer: bool = False) -> Windows:
        """Windows of one split; `fewer`: as many of them as the text holds."""
        return windows(self.loaded.tokenizer, self.texts[split], length, count, self.spec.seed, fewer=fewer)

    def windows(self, split: str, length: int, count: int, *, fewer: bool = False) -> Tensor:
        """Token windows of one split, (count, length)."""
        return self.read(split, length, count, fewer=fewer).ids

    def calibration(self) -> Windows:
        """What the search reads."""
        return self.read("calibration", self.length, self.spec.windows, fewer=self.spec.fewer)

    def development(self) -> Windows:
        """What the full objective reads."""
        return self.read("development", self.length, min(2, self.spec.windows), fewer=True)

    def scales(self, point: Tensor) -> Scales:
        """A point of the search (see maths/transform_point) as Scales."""
        at, granularity = point.double().cpu(), self.spec.granularity
        one = {"model": at[:1, :1], "layer": at[:, :1], "kv_head": at}[granularity]  # exp2 may round like inputs apart
        at = one.expand_as(at)
        log2_g, angles, maps, _ = self.parts(at)
        turns = None if angles is None else angles.contiguous()
        scales = Scales(self.spec.mode, granularity, self.bands, log2_g.exp2().contiguous(), turns, self.groups, maps)
        offset = self.parts(point.double().cpu()).offset  # every KV head's own, whatever the granularity
        return scales if offset is None else replace(scales, k_offset=offset.contiguous())

    def parts(self, point: Tensor) -> TransformParts:
        """What a point of the search holds."""
        return TransformParts.of(point, self.loaded.geometry.n_pairs, self.groups, self.offset)

    def limits(self, bounds: Tensor) -> Tensor:
        """Bounds of a point: those of log2 g, (layers, bands, 2), and none for angles, maps and offset after it."""
        if not self.behind:
            return bounds
        free = torch.tensor([-math.inf, math.inf], dtype=bounds.dtype)
        return torch.cat((bounds, free.expand(len(bounds), self.behind, 2)), dim=1)

    def captured(self, ids: Tensor, on_step: OnStep) -> Capture:
        """q, k and v of windows of text, q at sampled rows that read some key rounded."""
        spec, first_row = self.spec, first_rounded_row(self.quant)

        def read() -> Capture:
            return capture(
                self.loaded,
                self.rope,
                ids,
                spec.query_rows,
                seed=spec.seed,
                on_step=on_step,
                first_row=first_row,
                offset=spec.k_offset,
            )

        if self.captures is None:
            return read()
        text = hashlib.sha256(ids.cpu().numpy().tobytes()).hexdigest()
        asked = (tuple(ids.shape), text, self.rope, spec.query_rows, spec.seed, first_row, spec.k_offset)
        return self.captures.of((self.loaded.checksum, str(self.loaded.dtype), *asked), read)

    def objective(self, taken: Capture) -> CachedObjective:
        """The cached objective on what was captured."""
        geo = self.loaded.geometry
        band = geo.channel_band(self.bands).to(self.loaded.device)
        setup = ErrorSetup(
            *(
                self.quant,
                self.spec.mode,
                band,
                taken.scaling,
                geo.pairing,
                taken.cos,
                taken.sin,
                self.spec.error_metric,
            ),
            groups=self.groups,
            offset=self.offset,
        )
        return CachedObjective(taken, setup, self.spec.granularity, kept=self.kept)

    @property
    def kept(self) -> frozenset[int]:
        """Layers whose cache is not rounded, of a cache that is in others."""
        every = range(self.loaded.geometry.n_layers)
        return frozenset(every).difference(self.loaded.geometry.rounding_layers(self.quant))

    def even_maps(self, k: Tensor, log2_g: Tensor, groups: tuple[ChannelGroup, ...]) -> list[Tensor]:
        """Maps that spread K evenly over each group once it is scaled, (..., size, size) each.

        Args:
            k: sum of k k^T over tokens, (..., head_dim, head_dim), float64.
            log2_g: (..., bands).
        """
        geo = self.loaded.geometry
        band = geo.channel_band(self.bands)
        up = channel_log2(log2_g, band).exp2().double()
        scaled = k / (up[..., :, None] * up[..., None, :])
        at = [group.channels(geo.rotary_dim, geo.pairing).to(k.device) for group in groups]
        return [
            spread_axes_evenly(group, scaled[..., one[:, None], one]).to(log2_g)
            for group, one in zip(groups, at, strict=True)
        ]

    @property
    def behind(self) -> int:
        """How many numbers of a point come after log2 g: angles, maps and offset."""
        return self.loaded.geometry.n_pairs * self.spec.angles + numbers_in(self.groups) + self.offset

    def pressure(self) -> Tensor:
        """Interpolation pressure of each band in every layer, rad per e-fold of scale; (layers, bands), float64.

        Each group of layers turns by its own frequencies and meets the distances its window lets it see; layers that
        are not rotated, or that no interpolation touches, are under none.
        """
        out = torch.zeros(self.loaded.geometry.n_layers, len(self.bands), dtype=torch.float64)
        for turning in layer_group_ropes(self.loaded, self.rope, self.length):
            distance = mean_distance(self.length, "causal", turning.group.window)
            per_pair = interpolation_pressure(frequency_slope(turning.at), distance)
            out[list(turning.group.layers)] = torch.stack([per_pair[a : b + 1].mean() for a, b in self.bands])
        return out

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
        pressure = self.pressure()
        typical = float(pressure[self._leading].quantile(0.5))
        if spec.granularity == "model":
            pressure = pressure[self._leading].expand_as(pressure)
        return log2_bounds(
            pressure,
            tails,
            spec.mode,
            max_log2_scale=spec.max_log2_scale,
            pressure_weight=spec.pressure_weight,
            tau=spec.tail_weight,
            median=typical,
        )

    @property
    def _leading(self) -> int:
        """A layer of the group that sees furthest under the interpolation: its bands are under the most pressure."""
        return layer_groups(self.loaded.geometry)[0].layers[0]

    def plan(self, diagnosis: Diagnosis | None) -> SearchPlan:
        """What a search would start from."""
        waves = (2 * math.pi / rope_of(self.loaded, self.rope, self.length).inv_freq.double()).tolist()
        return SearchPlan(
            self.none,
            self.pressure()[self._leading],
            [(waves[a], waves[b]) for a, b in self.bands],
            self.bounds(diagnosis),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SearchPlan:
    """Bands of a search before anything is read: identity, pressure, wavelengths in tokens, log2 g bounds."""

    none: Scales
    pressure: Tensor  # (bands,), rad per e-fold, of the layers that see furthest
    wavelengths: list[tuple[float, float]]  # shortest and longest of each band
    bounds: Tensor  # (layers, bands, 2)
