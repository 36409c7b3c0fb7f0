"""How many digits of a measured number are shown: as many as its sample supports. CSV and JSON hold all of them.

Where an error or the range of a null is known, to the place of that error's first digit, of its second where the first
is a 1 (the rule of the Particle Data Group). The largest value of a sample is that of one token, channel or row, and
other text has another: two digits. Anything else: three.
"""

from __future__ import annotations

import math

LARGEST = 2  # significant digits of the largest value of a sample
USUAL_DIGITS = 3
COUNT, MOST = 2, 6  # significant digits beside an error: fewest of a count, which is exact; files hold six
HOVER = f".{LARGEST}r"  # d3's form for the same in plotly, never as a power of ten

# columns of tables that hold the largest of a sample: of tokens, of channels or of cells
OF_LARGEST = frozenset(
    {
        "peak",
        "null_peak",
        "null_peak_low",
        "null_peak_high",
        "absmax",
        "absmax_null_low",
        "absmax_null_high",
        "times_median",
        "largest_difference",
        "largest_over_vector",
        "outlier_magnitude_q",
        "outlier_magnitude_k",
    }
)
# columns of tables that hold a number -> the column that holds its error
ERROR_BESIDE = {
    "logit_change": "logit_change_standard_error",
    "logit_change_by_this_pair_alone": "logit_change_standard_error",
    "rms": "standard_error",
    "share_added": "share_added_2se",
}


def shown(value: float | None, error: float | None = None, digits: int = USUAL_DIGITS, none: str = "") -> str:
    """A number in words, never as a power of ten from 0.0001 to a billion.

    Args:
        error: standard error or half the range that the number is held against; None or 0: not known.
        digits: significant ones, where no error is known. none: what stands where there is no number.
    """
    if value is None or value != value:
        return none
    if error and value and math.isfinite(error) and math.isfinite(value):
        first = math.floor(math.log10(abs(value)))  # place of the number's own first digit
        places = min(-_place(error), MOST - 1 - first)
        if value == round(value) and error >= 0.5:  # a count
            places = min(max(places, COUNT - 1 - first), 0)
        return f"{round(value, places) + 0.0:.{max(places, 0)}f}"  # + 0: no minus before a 0
    return f"{float(f'{value:.{digits}g}'):.10g}"


def largest(value: float | None, none: str = "") -> str:
    """The largest value of a sample, in words."""
    return shown(value, digits=LARGEST, none=none)


def ranged(middle: float, low: float, high: float) -> str:
    """For example: 4.5 [4.2, 4.9]."""
    error = (high - low) / 2
    return f"{shown(middle, error)} [{shown(low, error)}, {shown(high, error)}]"


def within(value: float, error: float) -> str:
    """A number and its error to one place, for example: 30.1 ± 1.0."""
    said = shown(value, error)
    if not error or not math.isfinite(error):
        return said
    places = len(said.partition(".")[2]) or min(-_place(error), 0)
    rounded = round(error, places)
    return f"{said} ± {rounded:.{max(places, 0)}f}" if rounded else f"{said} ± {error:.1g}"


def _place(error: float) -> int:
    """Power of ten of the last digit that an error supports."""
    first = math.floor(math.log10(abs(error)))
    return first - (float(f"{abs(error):.1e}") < 2 * 10.0**first)
