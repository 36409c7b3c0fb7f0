"""Which remedies are compared in one run, and with which budget the band scales on top of each are searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qroar_core.checks import Compact, at_least, check_numbers, member_of
from qroar_core.errors import BadSpec
from qroar_core.members import names_in
from qroar_core.specs.stages import SearchSpec

REMEDIES = names_in(Path(__file__).parents[1] / "remedies" / "methods")  # the folder says what they are
REMEDIES_FORMERLY = {"per_channel": "kvquant"}  # names in files and links of before 2026-11-30


def todays_remedy(method: str) -> str:
    """The name that a remedy has now."""
    return REMEDIES_FORMERLY.get(method, method)


@dataclass(frozen=True, slots=True, repr=False)
class ComparisonSpec(Compact):
    """The remedies to compare, on the same held-out windows.

    `plain` is the quantizer as it is and always takes part. A method that does not apply to what is
    quantized is left out when `methods` is empty, and refused when it is named.
    """

    methods: tuple[str, ...] = ()  # empty: all that apply
    band_scales: bool = True  # also search band scales under every method
    search: SearchSpec = SearchSpec()  # of every such search: the same text and budget; its length is the comparison's;
    #                                    with angles, one without and one with them under every method
    windows: int = 8  # held-out
    calibration_windows: int = 8  # read by the methods that need inputs or ranges
    calibration_tokens: int | None = None  # read by those whose authors say how much; None: as much as they, if there
    cache_bytes: float | None = None  # the most of a cache of which some layers are kept, bytes a token
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        object.__setattr__(self, "methods", tuple(todays_remedy(method) for method in self.methods))
        for method in self.methods:
            member_of("remedy", method, REMEDIES)
        if len(set(self.methods)) != len(self.methods):
            raise BadSpec(f"each remedy once, got {', '.join(self.methods)}")
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
        at_least("windows", self.windows, 2)
        at_least("calibration windows", self.calibration_windows, 1)
        if self.calibration_tokens is not None:
            at_least("calibration tokens", self.calibration_tokens, 1)
        if self.cache_bytes is not None:
            at_least("cache_bytes", self.cache_bytes, 0.0)
        at_least("chunk", self.chunk, 1)
