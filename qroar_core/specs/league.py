"""Which remedies are compared in one run, and with which budget the band scales on top of each are searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from qroar_core.errors import BadSpec
from qroar_core.specs.checks import at_least, one_of
from qroar_core.specs.stages import SearchSpec

Method = Literal["plain", "smooth_attention", "per_channel", "rotation", "awq", "gptq", "smoothquant"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class LeagueSpec:
    """The remedies to compare, on the same held-out windows.

    `plain` is the quantizer as it is and always takes part. A method that does not apply to what is
    quantized is left out when `methods` is empty, and refused when it is named.
    """

    methods: tuple[Method, ...] = ()  # empty: all that apply
    band_scales: bool = True  # also search band scales under every method
    search: SearchSpec = SearchSpec()  # of every such search: the same text and budget; its length is the league's;
    #                                    with angles, one without and one with them under every method
    windows: int = 8  # held-out
    calibration_windows: int = 8  # read by the methods that need inputs or ranges
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def tops(self, method: Method) -> tuple[bool, ...]:
        """What is searched on top of a method, told by whether pairs are turned too.

        Angles mix rows, and would take GPTQ's finished codes off their grid.
        """
        if not self.band_scales:
            return ()
        return (False, True) if self.search.angles and method != "gptq" else (False,)

    def __post_init__(self) -> None:
        for method in self.methods:
            one_of("method", method, Method)
        if len(set(self.methods)) != len(self.methods):
            raise BadSpec(f"each method once, got {', '.join(self.methods)}")
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
        at_least("windows", self.windows, 2)
        at_least("calibration windows", self.calibration_windows, 1)
        at_least("chunk", self.chunk, 1)
