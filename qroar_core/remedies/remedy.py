"""What a remedy says about itself: a file or a folder of `remedies/methods` is one of them.

A remedy is either other quantizers, which it names here, or other parameters: then it is a folder, whose `prepare.py`
makes them from calibration text, and whose `why_not` there, if it has one, says which models do not take them. So
nothing else has to know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qroar_core.quantizers.spec import QuantSpec

FREE = "none"  # at run time
# Work, in passes over a search's windows: to prepare a remedy from calibration text, to search, angles as well, and to
# measure every layer
READY, SEARCH, TURNING, PASSES = 2, 3, 6, 20


@dataclass(frozen=True, slots=True)
class Remedy:
    """A remedy in words, and where it applies.

    Args:
        name: as menus, tables and figures call it.
        place: where it stands in menus and tables; smaller comes first.
        group: what it acts on.
        run_time: what it costs at every token.
        runtime_change: what the runtime must have.
        source: paper or code, and its parameters.
        under: the quantizers that it runs under in place of those asked for; None where it does not apply to these.
        needs: what it needs, for the line that refuses it.
        free: no run-time cost and nothing to change in the runtime.
        takes_scales: band scales can be searched on top of it; False where it has scales of its own.
        takes_angles: pair angles can be searched on top of it.
        alone: it is fitted to q, k and v as they are, so that nothing goes on top of it.
        searches: how many searches it makes itself.
        work: of making it, in passes over as many windows as a search reads.
        retunes: it may change the interpolation: what that costs the unquantized model is measured too.
        tokens: of calibration text that its authors read; 0: as many as the comparison gives to everyone.
    """

    name: str
    place: int
    group: str
    run_time: str
    runtime_change: str
    source: str
    under: Callable[[QuantSpec], QuantSpec | None]
    needs: str = ""
    free: bool = True
    takes_scales: bool = True
    takes_angles: bool = True
    alone: bool = False
    searches: int = 0
    work: int = 0
    retunes: bool = False
    tokens: int = 0


def where_channels_of_k_share_a_scale(quant: QuantSpec) -> QuantSpec | None:
    """`Remedy.under` of what moves K between channels before it is rounded."""
    return quant if any(s is not None and s.scale != "channel" for s in (quant.k, quant.qk)) else None


def where_no_layer_is_kept(quant: QuantSpec) -> QuantSpec | None:
    """`Remedy.under` of what keeps layers: a cache is quantized, and nobody has chosen its layers."""
    rounded = quant.k is not None or quant.v is not None
    return quant if rounded and not quant.keep_layers else None


def where_weights_are_rounded_by_row(quant: QuantSpec) -> QuantSpec | None:
    """`Remedy.under` of what replaces rounded weights: no scale may be shared by all rows of a matrix."""
    return quant if quant.weights is not None and quant.weights.scale != "tensor" else None
