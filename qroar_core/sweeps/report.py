"""report.html of a sweep: one offline file with its figure, its table and what was asked."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from qroar_core.number_of import number_of
from qroar_core.runs.html_page import figure_html, page, table_html, text
from qroar_core.sweeps.figure import loss_by_bytes
from qroar_core.sweeps.result import DONE, FAILED, NOT_RUN
from qroar_core.sweeps.sweep_file import Sweep

MOST_ROWS = 2000  # of the table; the CSV has all


def report_html(frame: pd.DataFrame, sweep: Sweep, counts: Mapping[str, Mapping[str, int]]) -> str:
    """The whole report as one HTML document that needs no network.

    Args:
        frame: the table. counts: what was shared, `SharedWork.counts`.
    """
    of = frame["status"].value_counts()
    said = [number_of(len(frame), "cell"), *(f"{of[name]} {name}" for name in (DONE, FAILED, NOT_RUN) if name in of)]
    left_out = f", {sweep.excluded:,} excluded" if sweep.excluded else ""
    picture = loss_by_bytes(frame)
    shown = frame.head(MOST_ROWS)
    cut = "" if len(shown) == len(frame) else f"<p>First {MOST_ROWS} of {len(frame)} rows.</p>"
    work = pd.DataFrame([{"what": name, **count} for name, count in counts.items()])
    return page(
        "Q-ROAR: a sweep",
        f"""<h1>Q-ROAR: a sweep</h1>
<p class="finding">{text(", ".join(said) + left_out)}.</p>
{"" if picture is None else figure_html(picture)}
<h2>Cells</h2>
<div class="scroll">{table_html(shown)}</div>{cut}
<h2>Shared work</h2>
<p>What several cells share was made once, and taken again by the others; finished cells of before are only read.</p>
{table_html(work)}
<h2>Asked</h2>
<pre>{text(sweep.text)}</pre>""",
    )
