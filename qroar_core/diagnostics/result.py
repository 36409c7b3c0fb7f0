"""diagnosis.json: everything the diagnose stage found, small enough to read and to plot.

The first five fields are the contract of docs/method.md section 7; the rest is what the figures draw. Lists
are indexed as named; None stands where there is no data (an empty bin, a tensor not quantized).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field, SerializeAsAny

from qroar_core.diagnostics.aliasing.result import AliasingKernel
from qroar_core.diagnostics.anisotropy.result import Anisotropy
from qroar_core.diagnostics.bands.result import Band, BandCost, Pairs
from qroar_core.diagnostics.bands.result import null_rows as band_nulls
from qroar_core.diagnostics.dilation.result import Dilation
from qroar_core.diagnostics.logit_noise.result import LogitNoise, NoiseCurves
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.outliers.result import Outliers
from qroar_core.diagnostics.pair_error.result import PairErrors
from qroar_core.diagnostics.pressure.result import LogitChange
from qroar_core.diagnostics.registry import diagnostics, others
from qroar_core.diagnostics.result_base import DiagnosticResult
from qroar_core.diagnostics.result_measured import MeasuredOn
from qroar_core.diagnostics.result_types import result_type
from qroar_core.diagnostics.rounding.result import Roundings
from qroar_core.diagnostics.sample import briefly
from qroar_core.diagnostics.similarity.result import HiddenSimilarity
from qroar_core.diagnostics.tail_inflation.result import TENSORS, Survival, TailTable
from qroar_core.diagnostics.tail_inflation.result import null_rows as tail_nulls
from qroar_core.plain_file import MIB
from qroar_core.result import LayerBand, Result
from qroar_core.result_shapes import Sizes, axes
from qroar_core.scale_search.result import Verdict
from qroar_core.specs import Mode
from qroar_core.transforms.result import band_order

AnyOther = TypeVar("AnyOther", bound=DiagnosticResult)


def _typed(found: object) -> object:
    """Results of a file as those of their diagnostics: the name says which."""
    if not isinstance(found, dict):
        return found
    if unknown := sorted(found.keys() - set(others())):
        raise ValueError(f"{unknown[0]!r} is no diagnostic of this installation")
    return {name: result_type(name).model_validate(value) for name, value in found.items()}


class LayerGroupDiagnosis(Result):
    """Layers that turn by the same frequencies and see equally far; the bands are the same pairs in every group."""

    LOCAL: ClassVar = ("layer",)

    name: str  # short words that tell it from the other groups
    layers: Annotated[list[int], axes("layer")]
    theta: float | None  # RoPE base, None where the layers are not rotated
    window: int | None  # newest keys a query sees, tokens; None: all
    interpolated: bool  # whether an interpolation changes their frequencies
    reach: int  # how many tokens a query of the long context sees
    bands: Annotated[list[Band], axes("band", empty=True)]  # empty where the layers are not rotated, as the next two
    pairs: Pairs | None
    kernel: AliasingKernel | None
    noise: NoiseCurves | None = None  # of these layers alone, as the next two; None: not quantized, or an older file
    pair_error: PairErrors | None = None  # None too where the layers are not rotated, as the next
    anisotropy: Anisotropy | None = None  # rows of `ratio` are those of `layers`
    logit_change: LogitChange | None = None  # by the interpolation; None: not rotated, or an older file

    def contradictions(self) -> Iterator[str]:
        """Bands without frequencies, or the other way round."""
        if len({bool(self.bands), self.pairs is not None, self.kernel is not None}) > 1:
            yield "bands, pairs and kernel: only some of them are there"
        if self.noise is not None and bool(self.bands) != bool(self.noise.by_band_position):
            yield "noise: of other bands"


class Diagnosis(Result):
    """The diagnostics of docs/method.md section 3."""

    MOST: ClassVar[int] = 512 * MIB  # 16 numbers a channel, head, layer and tensor: of 40 layers by 40 heads 160 MB

    bands: Annotated[list[Band], axes("band")]
    # pre (rho_W, before RoPE) | post (rho_A, after it) -> q|k -> [layer][band], largest over KV heads
    tail_inflation: dict[str, dict[str, LayerBand]]
    logit_noise: LogitNoise | None
    pair_error: PairErrors | None
    verdict: Verdict
    pairs: Pairs
    kernel: AliasingKernel
    # empty: all layers are alike; else bands, pairs and kernel are those of the first
    groups: Annotated[list[LayerGroupDiagnosis], axes("group")] = []
    logit_change: LogitChange | None = None  # of the same layers as the bands; None: an older file
    tails: dict[str, TailTable]  # "q/pre", "q/post", "k/pre", "k/post"
    survival: dict[str, Survival]  # the same keys
    dilation: Dilation
    anisotropy: Anisotropy | None
    rounding: Roundings | None = None  # None: q and K are not quantized, or an older file
    outliers: Outliers
    band_cost: BandCost | None = None  # None: an older file
    hidden: HiddenSimilarity | None
    position_edges: Annotated[list[int], axes("edge")]  # of the position bins, tokens; one more than bins
    length: int
    short_length: int
    windows: int
    paired_tokens: int
    eps: float
    pairing: Literal["half", "interleaved"]  # which channels make a RoPE pair: (i, i + r/2) or (2i, 2i + 1)
    rotary_dim: int  # r; channels from r on carry no rotation
    head_dim: int
    n_kv_heads: int
    # of a hybrid: number of each layer, all of them with attention, in its decoder
    decoder_layers: Annotated[list[int], axes("layer")] = []
    scales_mode: Mode | None  # of the scales in W_Q and W_K while measuring; None: the checkpoint's own weights
    text: str
    measured: MeasuredOn | None = None  # None: an older file
    # of diagnostics that have no field here, by the name of their folder; none: there are no others, or an older file
    others: Annotated[dict[str, SerializeAsAny[DiagnosticResult]], BeforeValidator(_typed)] = {}
    of_one_group: bool = Field(default=False, exclude=True, repr=False)  # a view by `of_group`; in no file
    seconds: dict[str, float] = {}  # wall time of each pass, and of the bare passes it is compared with

    def sizes(self) -> Sizes:
        """Lengths that other fields name."""
        return {
            **dict.fromkeys(("kv_head", "head of k/pre", "head of k/post"), (self.n_kv_heads, "n_kv_heads")),
            "channel": (self.head_dim, "head_dim"),
            "pair": (self.rotary_dim // 2, "half of rotary_dim"),
            "bin": (len(self.position_edges) - 1, "position_edges"),
        }

    def contradictions(self) -> Iterator[str]:
        """What figures take for granted beyond lengths."""
        if self.rotary_dim > self.head_dim:
            yield f"rotary_dim: {self.rotary_dim}, head_dim is {self.head_dim}"
        if sorted(set(self.position_edges)) != self.position_edges:
            yield "position_edges: they do not rise"
        yield from band_order([(band.first_pair, band.last_pair) for band in self.bands], self.rotary_dim // 2)
        if [band.index for band in self.bands] != list(range(len(self.bands))):
            yield "bands: not numbered one after the other"
        if not 0 < self.eps < 1:
            yield f"eps: {self.eps:g}"
        if self.band_cost is not None and len(self.band_cost.channels) != len(self.bands) + 1:
            yield f"band_cost.channels: {len(self.band_cost.channels)} parts of {len(self.bands)} bands"
        for name in ("tails", "survival"):
            if set(getattr(self, name)) != set(TENSORS):
                yield f"{name}: not the tensors {', '.join(TENSORS)}"
        if any(set(self.tail_inflation.get(side, ())) != {"q", "k"} for side in ("pre", "post")):
            yield "tail_inflation: not q and k, pre and post"
        if any(len(layers[0]) % self.n_kv_heads for layers in self.outliers.maps.values() if layers):
            yield f"outliers.maps: heads that {self.n_kv_heads} KV heads do not share evenly"
        layers = len(self.dilation.absmax)
        told = sorted(layer for group in self.groups for layer in group.layers)
        if self.groups and told != list(range(layers)):
            yield f"groups: not each of {layers} layers in one of them"
        changes = [self.logit_change, *(group.logit_change for group in self.groups)]
        if any(not 0 <= layer < layers for change in changes if change is not None for layer in change.layers):
            yield f"logit_change.layers: not among {layers} layers"

    def other(self, kind: type[AnyOther]) -> AnyOther | None:
        """The result of a diagnostic that has no field here; None where it was not measured, as in an older file."""
        return next((found for found in self.others.values() if isinstance(found, kind)), None)

    def layer_number(self, layer: int) -> int:
        """What people call layer `layer`: its number in the decoder, where others without attention stand between."""
        return self.decoder_layers[layer] if self.decoder_layers else layer

    def layer_names(self) -> list[str]:
        """A row's name for every layer."""
        return [f"layer {self.layer_number(i)}" for i in range(len(self.dilation.absmax))]

    def null_rows(self, *parts: str) -> list[NullRow]:
        """Every diagnostic beside its null: what each of `parts` says for itself.

        A part is a field's name or one of `others`; none: all of them, or in the view of one layer group those of it.

        It says it by a method `null_rows` of its class, and the entries of a dict are asked one by one. Parts that
        `of_group` leaves whole speak of all layers. A null that was drawn once has no range.
        """
        rows = []
        every = [*(name for name in type(self).model_fields if name != "others"), *self.others]
        of_frequencies = {name for one in diagnostics().values() if one.frequencies for name in one.fields}
        for name in parts or (OF_GROUP if self.of_one_group else every):
            part = self.others.get(name) if name in others() else getattr(self, name)
            own = WHOLE.get(name)
            apart = self._turning() if name in of_frequencies and not self.of_one_group else {}
            for group, view in apart.items():
                rows += _named(group, view.null_rows(name))
            if not apart:
                rows += own(part) if own else _null_rows(part)
        return [row.model_copy(update={"low": None, "high": None}) if row.low == row.high else row for row in rows]

    def _turning(self) -> dict[str, Diagnosis]:
        """Name and view of every group of layers that turns; none where layers are alike."""
        return {group.name: self.of_group(i) for i, group in enumerate(self.groups) if group.bands}

    def of_group(self, index: int) -> Diagnosis:
        """The same with what one group of layers says for itself; its `length` is how far they see.

        Bands, pairs, kernel, pair errors and anisotropy are the group's, and so is of the noise what is pooled over
        layers; what is kept layer by layer stays whole.

        Raises:
            IndexError: no such group, or one that is not rotated.
        """
        if not self.groups and index == 0:
            return self
        group = self.groups[index]
        if group.pairs is None or group.kernel is None:
            raise IndexError(f"layer group {index} is not rotated and has no bands")
        own = {
            "bands": group.bands,
            "pairs": group.pairs,
            "kernel": group.kernel,
            "length": group.reach,
            "of_one_group": True,
        }
        if self.logit_noise is not None and group.noise is not None:
            own["logit_noise"] = self.logit_noise.model_copy(update=dict(group.noise))
        for name in GROUP_FIELDS:
            found = getattr(group, name)
            if found is not None:
                own[name] = found
        return self.model_copy(update=own)


GROUP_FIELDS = ("pair_error", "anisotropy", "logit_change")  # a group's own result in place of the whole model's
OF_GROUP = ("bands", "kernel", "logit_noise", *GROUP_FIELDS)  # what speaks of a group's layers alone in its view
# fields whose null speaks of all their entries at once, the worst band for example
WHOLE: dict[str, Callable[[Any], list[NullRow]]] = {"bands": band_nulls, "tails": tail_nulls}


def _named(name: str, rows: list[NullRow]) -> list[NullRow]:
    return [row.model_copy(update={"quantity": f"{name}: {row.quantity}"}) for row in rows]


def _null_rows(part: Any) -> list[NullRow]:
    """By the part's own method, with which error it compares; the entries of a dict are asked one by one."""
    if isinstance(part, dict):
        return [row for key, inner in part.items() for row in _named(key, _null_rows(inner))]
    own = getattr(part, "null_rows", None)
    rows = list(own()) if callable(own) else []
    said = briefly(getattr(part, "kind", "") or getattr(getattr(part, "sample", None), "compares", ""))
    return [row.model_copy(update={"quantity": f"{row.quantity}; {said}"}) for row in rows] if said else rows
