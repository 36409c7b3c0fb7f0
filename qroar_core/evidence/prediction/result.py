"""prediction.json: what rounding each band alone costs, and whether the diagnostics tell it beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, Number, PerBand, Result
from qroar_core.result_shapes import ANY, Sizes, axes
from qroar_core.scale_search.gain import targets_of


class Cost(Result):
    """NLL under rounding of some channels less the reference's, nats per token, paired over windows."""

    name: str  # "band 3", "unrotated channels", "all together"
    pairs: tuple[int, int] | None  # first and last RoPE pair of a band
    nll: float
    low: float
    high: float


class Sum(Result):
    """Do the single costs add up to that of all together? Nats per token, paired over windows."""

    nll: float  # sum of the parts
    low: float
    high: float
    apart: float  # the sum less all together
    apart_low: float
    apart_high: float
    ratio: Number  # the sum over all together; None where all together is not proven to cost anything


class Rank(Result):
    """Spearman's rho with its interval."""

    rho: float
    low: float
    high: float
    points: int


class RankedDiagnostic(Result):
    """One number a band that might tell its cost, and how well it does."""

    name: str
    words: str
    unit: str
    baseline: bool  # no diagnostic of length or interpolation, only how large K is
    bands: PerBand  # mean over layers that turn
    layers: LayerBand  # [layer][band]; a number of the frequencies alone is the same in all layers of a group
    by_band: Rank | None  # with the measured cost of the band; None: under four bands, or the same in all
    by_cell: Rank | None  # with the estimated cost of layer and band; None: not estimated, or as above


class Prediction(Result):
    """Bands, what each costs alone, and the diagnostics beside it."""

    spec: dict[str, Any]  # the PredictionSpec that was asked
    length: int
    windows: int
    confidence: float
    text: str
    parts: Annotated[list[Cost], axes("part")]  # the bands, then the unrotated channels where there are some
    whole: Cost
    sum: Sum
    # second-order KL of layer and band alone, nats per token; empty: not estimated, None: no RoPE
    kl: Annotated[LayerBand, axes("map_layer", "band", empty=True)]
    # of a hybrid: number of each layer of that map in the decoder
    decoder_layers: Annotated[list[int], axes("map_layer")] = []
    kl_windows: int
    kl_length: int
    repeated: Rank | None  # the measured cost on every other window, with that on the windows between
    estimate: Rank | None  # that KL summed over layers, with the measured cost of the band
    diagnostics: Annotated[list[RankedDiagnostic], axes("diagnostic")]
    window_nll: Annotated[dict[str, list[float]], axes("window")]  # "reference", and each part by name
    headline: str  # does pressure predict?
    findings: Annotated[list[str], axes(ANY)]  # what else there is to say, a sentence each
    sample: Sample | None = None  # of the costs; None: an older file
    diagnosis_sample: Sample | None = None  # of the diagnostics beside them; None: they come from an older diagnosis

    def sizes(self) -> Sizes:
        """Lengths that other fields name."""
        return {"band": (len(self.bands), "parts"), "window": (self.windows, "windows")}

    @property
    def measured_on(self) -> str:
        """The windows, and what of them is scored."""
        return f"{self.text}, {targets_of(self.length - 1, self.length)}"

    def contradictions(self) -> Iterator[str]:
        """What the figures take for granted."""
        if any(part.pairs is None for part in self.parts[: len(self.bands)]):
            yield "parts: a band behind the channels without rotation"
        if self.kl and not sum(v for row in self.kl for v in row if v is not None) > 0:
            yield "kl: nothing in it"

    @property
    def bands(self) -> list[Cost]:
        """The parts that are bands."""
        return [part for part in self.parts if part.pairs is not None]
