"""Which channels and entries count as outliers: the rules and their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qroar_core.checks import at_least, one_of
from qroar_core.errors import BadSpec

OutlierRule = Literal["iqr", "mad", "percentile"]


@dataclass(frozen=True, slots=True)
class OutlierRuleInfo:
    """What a rule and its parameter are called, and which parameters are offered."""

    label: str
    short: str  # before the parameter's value
    parameter: str
    usual: float  # the parameter where nobody asks
    offered: tuple[float, ...]  # that a diagnosis is counted under beside the one asked for, for the page's slider


OUTLIER_RULES: dict[str, OutlierRuleInfo] = {
    "iqr": OutlierRuleInfo(
        "interquartile range (IQR)",
        "IQR, fence",
        "Limit above the upper quartile, interquartile ranges",
        1.5,  # interquartile ranges above Q3: Tukey 1977, "Exploratory Data Analysis"
        (0.5, 1.0, 1.5, 2.0, 3.0, 5.0),
    ),
    "mad": OutlierRuleInfo(
        "median deviation (MAD)",
        "MAD, threshold",
        "Modified z-score",
        3.5,  # Iglewicz and Hoaglin 1993
        (2.5, 3.0, 3.5, 5.0, 7.0, 10.0),
    ),
    "percentile": OutlierRuleInfo("percentile", "percentile", "Quantile", 0.99, (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)),
}
PARAMETER_LABELS = {name: rule.parameter for name, rule in OUTLIER_RULES.items()}


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
    return None if asked == OUTLIER_RULES[rule].usual else float(asked)


def parameter_in_force(rule: str, asked: float | None) -> float:
    """`asked`, or the rule's usual parameter."""
    return OUTLIER_RULES[rule].usual if asked is None else asked
