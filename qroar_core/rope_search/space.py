"""Which interpolations a search may choose on one model: a method, its own numbers, and how many pairs stand still.

Every method says in its file what of it is searched (interpolations/base.Range), for the factor s of the setting and
the length that is read. The slowest pairs may stand still beside that, a tie at turn 0, unless the method's frequencies
depend on the length. What this model or transformers cannot take is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from qroar_core.errors import BadSpec
from qroar_core.interpolations.base import Range
from qroar_core.interpolations.frequencies import native_inv_freq, require_loadable, rope_of, rope_parameters
from qroar_core.interpolations.registry import interpolation_methods, stretching
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.interpolations.tie import Tie
from qroar_core.models.loaded import LoadedModel
from qroar_core.rope_search.result import How

DIGITS = 6  # significant digits of a number that is chosen: as many as a result's file keeps
STILL_SHARE = 4  # at most one in so many pairs may stand still


@dataclass(frozen=True, slots=True)
class Candidate:
    """One interpolation of the space, as the search proposes it."""

    method: str
    numbers: Mapping[str, float]  # by the names of the method's ranges
    still: int = 0  # slowest pairs that stand still


@dataclass(frozen=True, slots=True, eq=False)
class RopeSpace:
    """What may be chosen instead of `baseline` on a model, for a context of `length` tokens.

    Args:
        ranges: by method, in the order of the registry; a method without one has nothing to choose but itself.
        absent: methods that are left out, and why.
    """

    loaded: LoadedModel
    baseline: RopeSpec
    length: int
    ranges: Mapping[str, tuple[Range, ...]]
    absent: Mapping[str, str]

    @classmethod
    def of(cls, loaded: LoadedModel, baseline: RopeSpec, length: int) -> RopeSpace:
        """Every method that stretches this model at the factor of `baseline`.

        Raises:
            BadSpec: `baseline` stretches nothing.
        """
        if baseline.method == "default":
            raise BadSpec(
                "the checkpoint's own RoPE has no factor to search around",
                where="--rope default",
                do="name a method and the factor to reach, for example --rope yarn --factor 2",
            )
        reach = length / (baseline.original_context or loaded.geometry.original_context)
        ranges = {name: method.searched(baseline.factor, reach) for name, method in stretching().items()}
        space = cls(loaded, baseline, length, ranges, {})
        absent = {name: why for name in ranges if (why := space._why_not(name))}
        return replace(space, ranges={n: r for n, r in ranges.items() if n not in absent}, absent=absent)

    def most_still(self, method: str) -> int:
        """How many of the slowest pairs may stand still."""
        return 0 if interpolation_methods()[method].length_matters else self.loaded.geometry.n_pairs // STILL_SHARE

    def spec(self, candidate: Candidate) -> RopeSpec:
        """A candidate as an interpolation; numbers to as many digits as files keep."""
        about, pairs = interpolation_methods()[candidate.method], self.loaded.geometry.n_pairs
        numbers = {name: float(f"{value:.{DIGITS}g}") for name, value in candidate.numbers.items()}
        still = (Tie(pairs - candidate.still, pairs - 1, 0.0),) if candidate.still else ()
        return replace(about.with_numbers(self._plain(candidate.method), numbers, pairs), tie=still)

    def known(self) -> Iterator[tuple[How, RopeSpec, Candidate]]:
        """Every method at its published numbers, and where it stands in the space.

        Of a method that takes lists and has none here, the nearest to the frequencies of `baseline` stands there.
        """
        for name, ranges in self.ranges.items():
            spec = self._plain(name)
            if interpolation_methods()[name].takes_lists and not self._has_lists(name):
                candidate = Candidate(name, self._inside(name, self._nearest(name)))
                yield "nearest", self.spec(candidate), candidate
                continue
            numbers = {r.name: getattr(spec, r.name) for r in ranges if hasattr(spec, r.name)}
            if interpolation_methods()[name].takes_lists:
                numbers = self._nearest(name, spec)
            if "attention_factor" in (r.name for r in ranges):
                numbers["attention_factor"] = rope_of(self.loaded, spec, self.length).attention_factor
            yield "published", spec, Candidate(name, self._inside(name, numbers))

    def _plain(self, method: str) -> RopeSpec:
        """The method at the factor asked for and its published numbers."""
        counted = interpolation_methods()[method].reads_window
        return RopeSpec(method, self.baseline.factor, self.baseline.original_context if counted else None)

    def _has_lists(self, method: str) -> bool:
        """Whether the checkpoint ships the lists that the method needs."""
        try:
            rope_of(self.loaded, self._plain(method), self.length)
        except BadSpec:
            return False
        return True

    def _nearest(self, method: str, spec: RopeSpec | None = None) -> dict[str, float]:
        """The numbers of a method with lists that come nearest to `spec`, or to the baseline; ties left out."""
        rope = rope_of(self.loaded, replace(spec or self.baseline, tie=()), self.length)
        divisors = (native_inv_freq(self.loaded) / rope.inv_freq.double()).tolist()
        return interpolation_methods()[method].near(divisors) | {"attention_factor": rope.attention_factor}

    def _inside(self, method: str, numbers: Mapping[str, float]) -> dict[str, float]:
        return {r.name: min(max(numbers[r.name], r.low), r.high) for r in self.ranges[method]}

    def _why_not(self, method: str) -> str:
        """Why this model cannot be run, or not be exported, under a method; empty where it can."""
        config, geometry = self.loaded.model.config, self.loaded.geometry
        try:
            middle = Candidate(method, {r.name: r.low for r in self.ranges[method]})
            spec = self.spec(middle)
            rope_of(self.loaded, spec, self.length)
            require_loadable(config, rope_parameters(config, geometry, spec), f"{method} RoPE", "", "")
        except BadSpec as problem:
            return problem.what
        return ""
