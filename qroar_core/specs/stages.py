"""What each stage is asked to do: bands, diagnosis, search, evaluation. Lengths in tokens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from qroar_core.checks import Compact, at_least, check_numbers, member_of, one_of
from qroar_core.errors import BadSpec
from qroar_core.members import names_in
from qroar_core.number_of import number_of
from qroar_core.specs.outliers import OutlierRule, outlier_parameter
from qroar_core.transforms.registry import flag, kinds, switches

Partition = Literal["count", "log", "turns"]
Mode = Literal["symmetric", "shared"]
Granularity = Literal["model", "layer", "kv_head"]
DistanceLaw = Literal["causal", "uniform"]
Sampler = Literal["tpe", "grid", "random"]
_CORE = Path(__file__).parents[1]  # names of files; the folders' registries say what they are
ERROR_METRICS = names_in(_CORE / "maths" / "error_metrics")
OBJECTIVES = names_in(_CORE / "scale_search" / "objectives")
SEARCH_METHODS = names_in(_CORE / "scale_search" / "methods")
RetrievalTask = Literal["passkey", "needles"]
WIDEST = 16.0  # octaves a scale may go by hand: past that float16 weights overflow
MOST_CHOICES = 32  # named needles of the multi-key retrieval


BANDS = 8  # where nobody asks
LEAST_DIAGNOSED = 64  # tokens: the shortest context that a diagnosis is offered for


@dataclass(frozen=True, slots=True, repr=False)
class BandSpec(Compact):
    """How RoPE pairs are grouped into contiguous bands (docs/method.md section 2).

    Args:
        count: bands a head, at least 1 and at most one a pair.
        partition: `count` (equal numbers of pairs), `log` (equal spans of log frequency), `turns` (YaRN's regions).
    Raises:
        BadSpec: no band, or an unknown partition.
    """

    PUBLIC: ClassVar = "qroar.Bands"

    count: int = BANDS
    partition: Partition = "count"

    def __post_init__(self) -> None:
        check_numbers(self)
        one_of("partition", self.partition, Partition)
        at_least("bands", self.count, 1)

    @classmethod
    def default(cls, pairs: int, partition: Partition = "count") -> BandSpec:
        """What a model with `pairs` RoPE pairs a head gets where nobody asks: never more bands than pairs."""
        return cls(min(BANDS, pairs), partition)


@dataclass(frozen=True, slots=True, repr=False)
class DiagnosisSpec(Compact):
    """What to measure and where. None lengths are filled from the model (see diagnostics.run.plan)."""

    length: int | None = None  # long context L, tokens
    short_length: int | None = None  # length of each short window, at most L0
    paired_tokens: int = 64  # at most; tokens at each short window's end, compared with themselves in the long context
    windows: int = 8  # at most, and at least 2; short windows spread over the long context
    eps: float = 1e-3  # tail probability of the inflation ratios
    bands: BandSpec = BandSpec()
    law: DistanceLaw = "causal"
    paired: bool = True
    query_rows: int = 48  # sampled query rows for logits, log-spaced in position
    position_bins: int = 16
    chunk: int = 512
    seed: int = 0
    # how often the null of each diagnostic is drawn, where it is random; 19 times or more where a title answers by it
    null_draws: int = 1
    outlier_rule: OutlierRule = "iqr"
    outlier_parameter: float | None = None  # fence, modified z-score or quantile; None: the rule's usual one
    band_cost: bool = False  # also what each band alone costs the output, by a backward pass a probe

    def __post_init__(self) -> None:
        check_numbers(self)
        object.__setattr__(self, "outlier_parameter", outlier_parameter(self.outlier_rule, self.outlier_parameter))
        one_of("distance law", self.law, DistanceLaw)
        if not 0 < self.eps < 0.5:
            raise BadSpec(f"eps must lie in (0, 0.5), got {self.eps}")
        for name in ("paired_tokens", "windows", "query_rows", "position_bins", "chunk", "null_draws"):
            at_least(name, getattr(self, name), 1)
        for name in ("length", "short_length"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 2)


@dataclass(frozen=True, slots=True, repr=False)
class SearchSpec(Compact):
    """Which scales to search and how (docs/method.md section 4)."""

    mode: Mode = "symmetric"
    granularity: Granularity = "kv_head"
    angles: bool = False  # also turn every RoPE pair of q and k by one angle
    maps: bool = False  # and mix channels that turn alike, as tied pairs do, by a matrix
    k_offset: bool = False  # also take a constant off K's channels that do not turn
    value_maps: bool = False  # also a matrix for V of each KV head, its inverse in W_O
    polish: bool = False  # first change rows of tied pairs, so that the tie costs less: it changes the model
    objective: str = "cached"  # a name of OBJECTIVES
    error_metric: str = "rows"  # of the cached objective, what damage to attention is: a name of ERROR_METRICS
    method: str = "gradient"  # a name of SEARCH_METHODS
    bands: BandSpec = BandSpec()
    length: int | None = None  # tokens per window
    windows: int = 6
    max_log2_scale: float = 4.0  # |log2 g| bound of a band without pressure
    pressure_weight: float = 0.1  # how much pressure narrows it
    tail_weight: float = 1.0  # how much an inflated tail widens it
    grid_points: int = 9  # odd: log-spaced, 1 included
    sweeps: int = 1
    steps: int = 60  # gradient steps
    polish_steps: int = 64  # of the kl objective: a forward and a backward pass over one window each
    polish_windows: int = 8
    polish_length: int = 768  # tokens per window; a shorter searched length wins
    trials: int = 40  # optuna trials / full-objective candidates
    query_rows: int = 64
    guard_tau: float = 0.01  # nats a candidate may cost at short context
    sampler: Sampler = "tpe"
    l2_penalty: float = 0.0  # cost, as a share of identity's error, of log2 g at the bound its band's pressure sets
    seed: int = 0
    bounds: tuple[tuple[float, float], ...] | None = None  # log2 g (low, high) per band by hand; None: diagnosed
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        one_of("mode", self.mode, Mode)
        one_of("granularity", self.granularity, Granularity)
        member_of("objective", self.objective, OBJECTIVES)
        member_of("error metric", self.error_metric, ERROR_METRICS)
        member_of("method", self.method, SEARCH_METHODS)
        one_of("sampler", self.sampler, Sampler)
        for name in self.kinds:
            self._check_kind(name)
        for name in ("windows", "grid_points", "sweeps", "steps", "trials", "query_rows"):
            at_least(name, getattr(self, name), 1)
        for name in ("polish_steps", "polish_windows"):
            at_least(name, getattr(self, name), 1)
        at_least("polish_length", self.polish_length, 2)
        for name in ("max_log2_scale", "pressure_weight", "tail_weight", "guard_tau", "l2_penalty"):
            at_least(name, getattr(self, name), 0.0)
        if self.grid_points % 2 == 0:
            raise BadSpec(f"grid_points must be odd so that 1 is on the grid, got {self.grid_points}")
        if self.bounds is not None:
            self._check_bounds(self.bounds)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of transform that are searched beside band scales."""
        return tuple(name for name in switches() if getattr(self, name))

    def of_kinds(self, names: Collection[str]) -> SearchSpec:
        """The same search of scales, and of these kinds beside them."""
        on: dict[str, Any] = {name: name in names for name in switches()}
        return replace(self, **on)

    def without_maps(self, angles: bool) -> SearchSpec:
        """The same search of scales alone, or of scales and angles."""
        return self.of_kinds(("angles",) if angles else ())

    def _check_kind(self, name: str) -> None:
        label, switch = kinds()[name].label, switches()[name]
        for need in switch.needs:
            if not getattr(self, need):
                together = f"{label} are searched together with {kinds()[need].label}"
                raise BadSpec(together, where=flag(name), do=f"add {flag(need)}")
        if switch.cached_only and self.objective != "cached":
            only = f"the {self.objective} objective searches no {label}"
            raise BadSpec(only, where=flag(name), do="add --objective cached")

    def _check_bounds(self, bounds: tuple[tuple[float, float], ...]) -> None:
        if len(bounds) != self.bands.count:
            raise BadSpec(
                f"need bounds for {number_of(self.bands.count, 'band')}, got {len(bounds)}", do="give low:high per band"
            )
        for band, (low, high) in enumerate(bounds):
            if not -WIDEST <= low <= 0 <= high <= WIDEST:
                raise BadSpec(
                    f"bounds of band {band} must hold 0 and stay within {WIDEST:g} octaves, got {low:g} to {high:g}",
                    do="give low <= 0 <= high",
                )


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationSpec(Compact):
    """Where the conditions are compared. Same target tokens at every length."""

    lengths: tuple[int, ...] = ()  # empty: the native window, and the searched length
    windows: int = 8
    targets: int | None = None  # last tokens scored at every length; None: all but the first, or half the shortest
    stride: int | None = None  # windows slide by so many tokens and score the last so many; None: one window per text
    rotation: bool = True  # also measure the same quantizer behind a Hadamard rotation
    rotation_scales: bool = False  # ... and scales searched under it: one more search, which who calls makes
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
        for name in ("windows", "targets", "stride", "chunk"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        at_least("windows", self.windows, 2)
        for length in self.lengths:
            at_least("length", length, 2)
        if self.stride is not None and self.targets is not None and self.targets % self.stride:
            raise BadSpec(f"{self.targets} targets are no multiple of the stride {self.stride}")
        if self.stride is not None and self.lengths and self.stride >= min(self.lengths):
            raise BadSpec(f"a stride of {self.stride} needs lengths above that, got {min(self.lengths)}")


@dataclass(frozen=True, slots=True, repr=False)
class ContinuationSpec(Compact):
    """Which prompt is continued, and how far."""

    length: int | None = None  # prompt and continuation together, at most; None: the window the interpolation promises
    tokens: int = 48  # new tokens
    prompt: str = ""  # empty: the start of a held-out window of `length` tokens
    chunk: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        at_least("tokens", self.tokens, 1)
        at_least("chunk", self.chunk, 1)
        if self.length is not None:
            at_least("length", self.length, self.tokens + 1)


@dataclass(frozen=True, slots=True, repr=False)
class RetrievalSpec(Compact):
    """What is hidden in how much text, how deep, and how often it is asked for."""

    tasks: tuple[RetrievalTask, ...] = ("passkey", "needles")
    lengths: tuple[int, ...] = ()  # prompt and answer together; empty: the native window and the promised one
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)  # share of the text that stands before the needle
    trials: int = 5  # per task, length and depth
    choices: int = 5  # needles of the multi-key task; the passkey is also told from choices - 1 other numbers
    slack: int = 8  # tokens a generated answer may be longer than the answer, before it counts as cut off
    chat: bool = True  # ask through the tokenizer's chat template, where it has one
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("tasks", "depths"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise BadSpec(f"{name} must be at least one, each once, got {values}")
        for task in self.tasks:
            one_of("task", task, RetrievalTask)
        for depth in self.depths:
            if not 0 <= depth <= 1:
                raise BadSpec(f"a depth is a share of the text in [0, 1], got {depth}")
        for length in self.lengths:
            at_least("length", length, 2)
        at_least("trials", self.trials, 1)
        at_least("slack", self.slack, 1)
        at_least("chunk", self.chunk, 1)
        if not 2 <= self.choices <= MOST_CHOICES:
            raise BadSpec(f"choices must lie in 2 to {MOST_CHOICES}, got {self.choices}")
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")


@dataclass(frozen=True, slots=True, repr=False)
class PredictionSpec(Compact):
    """On how much text each band is rounded alone, and how much the finer map by layer and band reads."""

    length: int | None = None  # tokens per window; None: the diagnosis's long context
    windows: int = 8
    grid_windows: int = 4  # of the map by layer and band, a backward pass each; 0: no map
    grid_length: int = 1024  # tokens per window of the map; a shorter `length` wins
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        at_least("windows", self.windows, 2)
        at_least("grid_windows", self.grid_windows, 0)
        at_least("grid_length", self.grid_length, 2)
        at_least("chunk", self.chunk, 1)
        if self.length is not None:
            at_least("length", self.length, 2)
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
