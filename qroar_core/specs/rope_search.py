"""How an interpolation is searched and judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.checks import Compact, at_least, check_numbers
from qroar_core.errors import BadSpec


@dataclass(frozen=True, slots=True, repr=False)
class RopeSearchSpec(Compact):
    """How many interpolations are tried, and on how much text.

    Args:
        length: tokens a window. None: the setting's.
        trials: of each study, the known interpolations among them, which are always tried.
        windows: of development text, which candidates are compared on.
        heldout_windows: of held-out text, which the choices are judged on.
        short_length: tokens of the short context. None: the setting's.
        exchanged: best candidates of each study that are tried under the other's condition too.
    """

    length: int | None = None
    trials: int = 40
    windows: int = 4
    heldout_windows: int = 8
    short_length: int | None = None
    exchanged: int = 3
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def most_tried(self, known: int) -> int:
        """Interpolations that a study tries at most.

        Known ones are tried however few are asked for, the setting's own beside them, and what the other study found.
        """
        return max(self.trials, 1 + known) + self.exchanged

    def __post_init__(self) -> None:
        check_numbers(self)
        at_least("trials", self.trials, 1)
        at_least("windows", self.windows, 1)
        at_least("heldout_windows", self.heldout_windows, 2)
        at_least("exchanged", self.exchanged, 0)
        for name in ("length", "short_length"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 2)
        if not 0.5 < self.confidence < 1:
            raise BadSpec(f"confidence must lie in (0.5, 1), got {self.confidence}")
