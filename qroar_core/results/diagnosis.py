"""diagnosis.json: everything the diagnose stage found, small enough to read and to plot.

The first five fields are the contract of DESIGN section 7; the rest is what the figures draw. Lists
are indexed as named; None stands where there is no data (an empty bin, a tensor not quantized).
"""

from __future__ import annotations

from typing import Literal

from qroar_core.results.base import Result
from qroar_core.results.search import Verdict
from qroar_core.specs import Mode

Number = float | None
PerBand = list[Number]
LayerBand = list[PerBand]  # [layer][band]
LayerHeadBand = list[LayerBand]  # [layer][kv_head][band]


class Band(Result):
    """One frequency band; wavelengths in tokens under the interpolation, pressures in rad per e-fold of s."""

    index: int
    first_pair: int
    last_pair: int
    wavelength_min: float
    wavelength_max: float
    turns: float  # mean full turns per native window
    interpolation_pressure: float
    phase_displacement: float  # rad
    logit_weighted_pressure: float  # nats per e-fold, mean over layers and heads
    side_peak: Number  # highest side peak of the band kernel, None if it has none
    unseen_phase: float  # share of phases at L never seen in training
    compression: float  # mean omega(s) / omega


class Pairs(Result):
    """The same per RoPE pair, for the figures that need the finer grain."""

    native_inv_freq: list[float]  # rad/token
    inv_freq: list[float]
    turns: list[float]
    interpolation_pressure: list[float]
    phase_displacement: list[float]
    logit_weighted_pressure: list[float]
    unseen_phase: list[float]
    attention_factor: float


class Kernel(Result):
    """Band kernel C_b(distance): least and greatest value per bucket of distances, [band][bucket]."""

    distance: list[int]
    low: list[list[float]]
    high: list[list[float]]
    side_peak_at: list[int]


class TailTable(Result):
    """Tail inflation of one tensor on one side of RoPE; intervals by bootstrap over windows."""

    ratio: LayerHeadBand
    low: LayerHeadBand
    high: LayerHeadBand
    long: LayerHeadBand  # the quantile itself at long context
    short: LayerHeadBand
    native: LayerHeadBand | None  # long under this PI over short under the checkpoint's own RoPE


class Survival(Result):
    """How |x| is distributed, one tensor on one side of RoPE: the same tokens at long and at short context.

    Element i of a curve is the least |x| that at most `share[i]` of the entries exceed; None where fewer than
    1 / share[i] were seen. The tail is exact, the body within `body_bound` of its value.
    """

    share: list[float]
    long: list[LayerHeadBand]  # [layer][kv_head][band][share]
    short: list[LayerHeadBand]
    body_bound: float


class Dilation(Result):
    """Range by position, K after RoPE, [layer][band][bin], largest over KV heads."""

    absmax: list[list[PerBand]]
    rms: list[list[PerBand]]
    bits_lost: list[list[PerBand]]
    quantiles: dict[str, list[list[PerBand]]]  # "0.5", "0.99", "0.999" -> [layer][band][bin]


class Anisotropy(Result):
    """Error energy of a pair by its angle on its axes (mean over layers), [band][angle bin]."""

    angle: list[float]  # rad, 0..pi/2
    error: list[PerBand]
    ratio: LayerBand  # worst angle over best, [layer][band]


class Outliers(Result):
    """Channel x position maps (largest |x|) and how the outlier channels move from short to long."""

    maps: dict[str, list[list[list[PerBand]]]]  # "k/post" -> [layer][kv_head][channel][bin]
    rule: str
    jaccard: dict[str, LayerBand]  # "k/post" -> [layer][kv_head]
    mass_moved: dict[str, LayerBand]
    error_share: dict[str, LayerBand]  # "int8", "int4" -> [layer][band]
    entry_share: LayerBand  # [layer][band]


class PairErrors(Result):
    """Quantized K pairs as complex numbers, mean over layers, [band][bin]."""

    amplitude: list[PerBand]  # RMS of |z^|/|z| - 1
    phase: list[PerBand]  # RMS of arg(z^ conj z), rad
    length_share: list[PerBand]  # share of the error energy that is length, the rest is angle


class LogitNoise(Result):
    """RMS of (quantized - reference) attention logits, nats, mean over layers unless said."""

    position: list[int]
    rms: list[Number]
    attention_kl: list[Number]  # nats per row
    distance: list[int]
    rms_by_distance: list[Number]
    by_layer: list[list[Number]]  # [layer][row]
    kl_by_layer: list[list[Number]]  # attention KL, [layer][row]
    by_band: LayerBand  # [layer][band], RMS over rows
    by_band_position: list[PerBand]  # [band][row], mean over layers
    by_band_distance: list[PerBand]  # [band][distance], mean over layers
    kind: str  # which error: local to the layer's own q and k, or propagated through the model


class NoiseCurves(Result):
    """What LogitNoise pools over layers, over the layers of one group; same positions and distances."""

    rms: list[Number]
    attention_kl: list[Number]
    rms_by_distance: list[Number]
    by_band_position: list[PerBand]  # [band][row]; empty where the layers are not rotated, as the next
    by_band_distance: list[PerBand]


class LayerGroup(Result):
    """Layers that turn by the same frequencies and see equally far; the bands are the same pairs in every group."""

    name: str  # short words that tell it from the other groups
    layers: list[int]
    theta: float | None  # RoPE base, None where the layers are not rotated
    window: int | None  # newest keys a query sees, tokens; None: all
    interpolated: bool  # whether an interpolation changes their frequencies
    reach: int  # how many tokens a query of the long context sees
    bands: list[Band]  # empty where the layers are not rotated, as the next two
    pairs: Pairs | None
    kernel: Kernel | None
    noise: NoiseCurves | None = None  # of these layers alone, as the next two; None: not quantized, or an older file
    pair_error: PairErrors | None = None  # None too where the layers are not rotated, as the next
    anisotropy: Anisotropy | None = None  # rows of `ratio` are those of `layers`


class HiddenSimilarity(Result):
    """Each layer's output, reference against quantized, [layer][bin]."""

    cosine: list[list[Number]]
    sqnr_db: list[list[Number]]


class Diagnosis(Result):
    """The nine diagnostics of DESIGN section 3."""

    bands: list[Band]
    tail_inflation: dict[str, dict[str, LayerBand]]  # pre|post -> q|k -> [layer][band], largest over KV heads
    logit_noise: LogitNoise | None
    pair_error: PairErrors | None
    verdict: Verdict
    pairs: Pairs
    kernel: Kernel
    groups: list[LayerGroup] = []  # empty: all layers are alike; else bands, pairs and kernel are those of the first
    tails: dict[str, TailTable]  # "q/pre", "q/post", "k/pre", "k/post"
    survival: dict[str, Survival]  # the same keys
    dilation: Dilation
    anisotropy: Anisotropy | None
    outliers: Outliers
    hidden: HiddenSimilarity | None
    position_edges: list[int]  # of the position bins, tokens; one more than bins
    length: int
    short_length: int
    windows: int
    paired_tokens: int
    eps: float
    pairing: Literal["half", "interleaved"]  # which channels make a RoPE pair: (i, i + r/2) or (2i, 2i + 1)
    rotary_dim: int  # r; channels from r on carry no rotation
    head_dim: int
    n_kv_heads: int
    decoder_layers: list[int] = []  # of a hybrid: number of each layer, all of them with attention, in its decoder
    scales_mode: Mode | None  # of the scales in W_Q and W_K while measuring; None: the checkpoint's own weights
    text: str
    seconds: dict[str, float] = {}  # wall time of each pass, and of the bare passes it is compared with

    def layer_number(self, layer: int) -> int:
        """What people call layer `layer`: its number in the decoder, where others without attention stand between."""
        return self.decoder_layers[layer] if self.decoder_layers else layer

    def layer_names(self) -> list[str]:
        """A row's name for every layer."""
        return [f"layer {self.layer_number(i)}" for i in range(len(self.dilation.absmax))]

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
        own = {"bands": group.bands, "pairs": group.pairs, "kernel": group.kernel, "length": group.reach}
        if self.logit_noise is not None and group.noise is not None:
            own["logit_noise"] = self.logit_noise.model_copy(update=dict(group.noise))
        for name, found in (("pair_error", group.pair_error), ("anisotropy", group.anisotropy)):
            if found is not None:
                own[name] = found
        return self.model_copy(update=own)
