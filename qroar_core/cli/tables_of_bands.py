"""What `diagnose` prints: one row a band with every diagnostic of it, and each diagnostic beside its null."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from qroar_core.cli.tables import _print, _table, line

if TYPE_CHECKING:
    from qroar_core.diagnostics.band_table import BandRow
    from qroar_core.diagnostics.null import NullRow
    from qroar_core.diagnostics.result import Diagnosis

COLUMNS = {  # of the closing table; the CSV and --json hold every column
    "turns": "native\nturns",
    "pressure_rad": "pressure\nrad",
    "logit_pressure_nats": "logit pressure\nnats",
    "rho_w_q": "rho_W\nq",
    "rho_w_k": "rho_W\nk",
    "rho_a_q": "rho_A\nq",
    "rho_a_k": "rho_A\nk",
    "outliers_q": "outliers\nq",
    "outliers_k": "outliers\nk",
    "amplitude_error": "amplitude\nerror",
    "phase_error_rad": "phase error\nrad",
    "error_share": "share of\nerror",
    "logit_noise_nats": "logit noise\nnats",
    "int8_attention_kl_nats": "int8 alone\nattention KL",
    "int4_attention_kl_nats": "int4 alone\nattention KL",
    "int8_output_kl_nats": "int8 alone\noutput KL",
    "int4_output_kl_nats": "int4 alone\noutput KL",
    "nll_cost_nats": "cost alone\nnats",
    "unseen_phase": "unseen\nphase",
    "side_peak": "side\npeak",
}
PEAK = "side_peak"  # always shown: none is an answer


def diagnosis(result: Diagnosis, as_json: bool, nulls: bool = False) -> None:
    """The table of bands, with --null the nulls below it, what other diagnostics found, and whether scales can act."""
    from qroar_core.diagnostics.band_table import band_table

    rows, null_rows = band_table(result), result.null_rows() if nulls else []
    if as_json:
        told: Any = [_with_band(result, row) for row in rows]
        _print({"bands": told, "nulls": [row.model_dump() for row in null_rows]} if nulls else told)
        return
    bands(rows)
    if nulls:
        null_table(null_rows)
    if result.logit_change is not None:
        from qroar_core.statistics.digits import shown, within

        change, error = result.logit_change, result.logit_change.in_all_error
        line(
            f"All bands together move a logit by {within(change.in_all, error)} nats if the "
            f"stretch grows 2.7 times (upper bound {shown(change.in_all_bound, error)}; with random signs "
            f"{shown(change.in_all_null, error)})"
        )
    for found in result.others.values():
        line(found.finding)
    line(result.text)
    line(result.verdict.reason)


def bands(rows: Sequence[BandRow]) -> None:
    """A table for every group of layers that turns alike; columns of which nothing is known are left out."""
    from qroar_core.diagnostics.band_labels import SPANS

    known = [name for name in COLUMNS if name == PEAK or any(getattr(row, name) is not None for row in rows)]
    header = ["band (pairs)", *(f"{words}\ntokens" for words, _ in SPANS.values()), *(COLUMNS[name] for name in known)]
    for layers, group in groupby(rows, lambda row: row.layers):
        _table(f"Bands: {layers}", header, [_line(row, known) for row in group])


def null_table(rows: Sequence[NullRow]) -> None:
    """Each diagnostic beside what it shows when there is nothing to see."""
    from qroar_core.figures.nulls import null_words

    words = [null_words(row, none="none") for row in rows]
    _table(
        "Each diagnostic beside its null: what it shows when there is nothing to see",
        ["diagnostic", "quantity", "measured", "null", "range", "control"],
        [
            [
                row.diagnostic,
                row.quantity,
                said["measured"],
                said["null"],
                "" if row.low is None or row.high is None else f"{said['low']} to {said['high']}",
                row.control,
            ]
            for row, said in zip(rows, words, strict=True)
        ],
    )


def _line(row: BandRow, known: Sequence[str]) -> list[str]:
    from qroar_core.diagnostics.band_labels import SPANS, band_name, digits, span

    return [
        band_name(row),
        *(span(getattr(row, near), getattr(row, far)) for near, (_, far) in SPANS.items()),
        *(digits(row, name, none="none") for name in known),
    ]


def _with_band(result: Diagnosis, row: BandRow) -> dict[str, Any]:
    """The row, with what the file says of this band under the file's own names."""
    views = {group.name: group.bands for group in result.groups}
    own = views.get(row.layers, result.bands)
    return (own[row.band].model_dump() if row.band is not None else {}) | row.model_dump()
