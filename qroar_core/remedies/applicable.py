"""Which remedies apply to a quantizer, and what is searched on top of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qroar_core.errors import BadSpec
from qroar_core.remedies.methods import BY_NAME
from qroar_core.specs import ComparisonSpec, QuantSpec

PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Applied:
    """A remedy by name, and the quantizers it runs under."""

    method: str
    quant: QuantSpec


def applicable_remedies(quant: QuantSpec, asked: Sequence[str]) -> list[Applied]:
    """`plain`, and every asked method that applies, or all that apply where none is asked; in the order of menus.

    Raises:
        BadSpec: nothing is quantized, or an asked method does not apply.
    """
    if quant.is_none:
        raise BadSpec("nothing is quantized: there is nothing to repair", where="comparison", do="choose a quantizer")
    found = [Applied(PLAIN, quant)]
    for method, remedy in BY_NAME.items():
        if method == PLAIN or (asked and method not in asked):
            continue
        under = remedy.under(quant)
        if under is not None:
            found.append(Applied(method, under))
        elif asked:
            raise BadSpec(f"{method} does not apply: it needs {remedy.needs}", where="--methods", do="drop it")
    return found


def searches(spec: ComparisonSpec, method: str) -> tuple[bool, ...]:
    """What is searched on top of a remedy: one entry a search, True where pairs are turned too."""
    if not spec.band_scales:
        return ()
    return (False, True) if spec.search.angles and BY_NAME[method].takes_angles else (False,)
