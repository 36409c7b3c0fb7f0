"""Which layers' cache is kept as it is: how much memory that may take, and how a layer's worth is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from qroar_core.checks import Compact, at_least, check_numbers, one_of
from qroar_core.errors import BadSpec

Sensitivity = Literal["kept", "quantized"]


@dataclass(frozen=True, slots=True, repr=False)
class LayerChoiceSpec(Compact):
    """How layers are measured, chosen and judged.

    Args:
        cache_bytes: the whole cache's most, bytes a token. None: room for an eighth of the layers, at least two.
        sensitivity: `kept`, what is won where only that layer is kept; `quantized`, what is lost where only that layer
            is quantized.
        length: tokens a window. None: the setting's.
        windows: of development text, which layers are measured on.
        heldout_windows: of held-out text, which the choice is judged on.
    """

    cache_bytes: float | None = None
    sensitivity: Sensitivity = "kept"
    length: int | None = None
    windows: int = 2
    heldout_windows: int = 8
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        one_of("sensitivity", self.sensitivity, Sensitivity)
        at_least("windows", self.windows, 1)
        at_least("heldout_windows", self.heldout_windows, 2)
        at_least("chunk", self.chunk, 1)
        if self.cache_bytes is not None:
            at_least("cache_bytes", self.cache_bytes, 0.0)
        if self.length is not None:
            at_least("length", self.length, 2)
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
