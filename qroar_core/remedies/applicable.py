"""Which remedies apply to a quantizer and a model, what is searched on top of each, and what all of it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qroar_core.errors import BadSpec
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.remedy import Remedy
from qroar_core.specs import ComparisonSpec, QuantSpec

PLAIN, ROTATION = "plain", "rotation"


@dataclass(frozen=True, slots=True)
class ApplicableRemedy:
    """A remedy by name, and the quantizers it runs under."""

    method: str
    quant: QuantSpec

    @property
    def about(self) -> Remedy:
        """The remedy in words."""
        return BY_NAME[self.method]


def applicable_remedies(
    quant: QuantSpec, asked: Sequence[str], why_not: Callable[[str], str] = lambda method: ""
) -> list[ApplicableRemedy]:
    """`plain`, and every asked method that applies, or all that apply where none is asked; in the order of menus.

    Args:
        why_not: why a method does not go with the model; empty where it does.
    Raises:
        BadSpec: nothing is quantized, or an asked method does not apply.
    """
    if quant.is_none:
        raise BadSpec("nothing is quantized: there is nothing to repair", where="comparison", do="choose a quantizer")
    found = [ApplicableRemedy(PLAIN, quant)]
    for method, remedy in BY_NAME.items():
        if method == PLAIN or (asked and method not in asked):
            continue
        under = remedy.under(quant)
        refused = f"it needs {remedy.needs}" if under is None else why_not(method)
        if under is not None and not refused:
            found.append(ApplicableRemedy(method, under))
        elif asked:
            raise BadSpec(f"{method} does not apply: {refused}", where="--methods", do="drop it")
    return found


def searches(spec: ComparisonSpec, method: str) -> tuple[bool, ...]:
    """What is searched on top of a remedy: one entry a search, True where pairs are turned too."""
    about = BY_NAME[method]
    if not spec.band_scales or about.alone or not about.takes_scales:
        return ()
    return (False, True) if spec.search.angles and about.takes_angles else (False,)


def turned_keys(entered: Sequence[ApplicableRemedy], one: ApplicableRemedy) -> QuantSpec | None:
    """The quantizers behind a rotation of q and k at run time, on top of a remedy that has moved K itself.

    None where the rotation takes no part in the comparison, or where the remedy leaves K to band scales.
    """
    if one.about.takes_scales or all(other.method != ROTATION for other in entered):
        return None
    return BY_NAME[ROTATION].under(one.quant)


def conditions(entered: Sequence[ApplicableRemedy], on_top: int) -> int:
    """How many conditions are measured: the reference, remedies, what is `on_top` of them, ties unquantized."""
    turned = sum(turned_keys(entered, one) is not None for one in entered)
    return 1 + len(entered) + on_top + turned + sum(one.about.retunes for one in entered)
