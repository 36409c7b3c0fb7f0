"""Which channels and entries count as outliers: the rules and their parameters."""

from __future__ import annotations

from typing import Literal

from qroar_core.checks import at_least, one_of
from qroar_core.errors import BadSpec

OutlierRule = Literal["iqr", "mad", "percentile"]
OUTLIER_PARAMETERS: dict[str, float] = {  # of each rule, where nobody asks
    "iqr": 1.5,  # fence, interquartile ranges above Q3: Tukey 1977, "Exploratory Data Analysis"
    "mad": 3.5,  # modified z-score: Iglewicz and Hoaglin 1993
    "percentile": 0.99,  # quantile
}


def outlier_parameter(rule: str, asked: float | None) -> float | None:
    """What a spec keeps of `asked`: None for the rule's usual parameter, whether or not somebody wrote it.

    Raises:
        BadSpec: unknown rule, or a parameter that it cannot take.
    """
    one_of("outlier rule", rule, OutlierRule)
    if asked is None:
        return None
    if rule != "percentile":
        at_least(f"the parameter of the outlier rule {rule}", asked, 0.0)
    elif not 0.5 <= asked < 1:
        raise BadSpec(
            f"the percentile of the outlier rule must lie in [0.5, 1), got {asked:g}",
            do="write it as a share, for example 0.99",
        )
    return None if asked == OUTLIER_PARAMETERS[rule] else float(asked)


def parameter_in_force(rule: str, asked: float | None) -> float:
    """`asked`, or the rule's usual parameter."""
    return OUTLIER_PARAMETERS[rule] if asked is None else asked
