"""How the table of bands is shortened where it is shown: on the command line, on the page and in the report."""

from __future__ import annotations

import math

from qroar_core.diagnostics.band_table import BandRow
from qroar_core.statistics.digits import OF_LARGEST, largest, shown

# two columns that stand as one: the shown column, its name, and the column that holds its other end
SPANS = {
    "native_wavelength_min_tokens": ("native wavelength", "native_wavelength_max_tokens"),
    "wavelength_min_tokens": ("wavelength", "wavelength_max_tokens"),
}
# what a reader wants first, from the left
FIRST = ("band", *SPANS, "pressure_rad", "rho_w_q", "rho_w_k", "rho_a_q", "rho_a_k", "logit_noise_nats")
ERRORS = {"logit_pressure_nats": "logit_pressure_error_nats"}  # numbers whose error another column holds
# said by the columns above: the pairs by the band's name, the far ends by the spans
WITHIN = ("first_pair", "last_pair", *(far for _, far in SPANS.values()))


def band_name(row: BandRow) -> str:
    """For example: 3 (12-15)."""
    return "unrotated" if row.band is None else f"{row.band} ({row.first_pair}-{row.last_pair})"


def digits(row: BandRow, name: str, none: str = "") -> str:
    """A number of the row with as many digits as its sample supports."""
    value = getattr(row, name)
    if name in OF_LARGEST:
        return largest(value, none)
    return shown(value, getattr(row, ERRORS[name]) if name in ERRORS else None, none=none)


def span(low: float | None, high: float | None) -> str:
    """For example: 6.28-14.9."""
    return "none" if low is None or high is None else f"{_short(low)}-{_short(high)}"


def _short(value: float) -> str:
    """Three significant digits, never as a power of ten; of pairs that stand still ∞."""
    return "∞" if value == math.inf else f"{float(f'{value:.3g}'):.10g}"
