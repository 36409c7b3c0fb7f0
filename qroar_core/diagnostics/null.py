"""The null of a diagnostic: what the same figure shows when there is nothing to see."""

from __future__ import annotations

from qroar_core.result import Number, Result


class NullRow(Result):
    """One quantity beside its null: `diagnose --null` and the report print these rows."""

    diagnostic: str  # as its page calls it: "Axis anisotropy"
    quantity: str  # "worst over best angle, largest band and layer"
    measured: Number
    null: Number  # the same with the effect taken out; the mean over several draws; None: there is no such thing then
    low: Number = None  # least and greatest over the draws, or the interval that `control` names
    high: Number = None
    open_above: str = ""  # what stands in place of `high`, where that is no end but where the scale ends: "no error"
    error: Number = None  # of `measured`, a standard error or half of its interval; None: not known
    control: str  # what was done to take the effect out: "noise of the same size at a random angle"
