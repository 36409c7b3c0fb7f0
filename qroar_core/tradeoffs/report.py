"""tradeoff.html and tradeoff.csv: the figures, the sentences and the table as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from qroar_core.checks import path_of
from qroar_core.errors import BadOutput
from qroar_core.models.writable import require_writable_folder
from qroar_core.number_of import number_of
from qroar_core.runs.html_page import figure_html, page, text
from qroar_core.tradeoffs.setup_tradeoff import SetupTradeoff
from qroar_core.transforms.file import write_atomically

HTML, CSV, ROPE = "tradeoff.html", "tradeoff.csv", "rope.json"


def require_tradeoff_folder(folder: Path | str) -> Path:
    """The folder, which is new, empty, or holds a trade-off that is replaced.

    Raises:
        BadOutput: something else lies there, or it cannot be written.
    """
    path = path_of("Tradeoff.save(...)", folder, "name a folder")
    if path.exists() and (not path.is_dir() or any(one.name not in (HTML, CSV, ROPE) for one in path.iterdir())):
        raise BadOutput("exists and holds something else", where=str(path), do="choose a new folder")
    require_writable_folder(path)
    return path


def save_report(
    folder: Path | str, table: pd.DataFrame, setups: Sequence[SetupTradeoff], notes: Sequence[str], where: str
) -> Path:
    """Write both files, each whole or not at all; returns their folder."""
    path = require_tradeoff_folder(folder)
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / CSV, table.to_csv(index=False, lineterminator="\n"))
    write_atomically(path / HTML, report_html(setups, notes, where))
    return path


def report_html(setups: Sequence[SetupTradeoff], notes: Sequence[str], where: str) -> str:
    """The whole report as one HTML document that needs no network."""
    parts = []
    for one in setups:
        first, *rest = one.sentences
        said = "".join(f"<li>{text(sentence)}.</li>" for sentence in rest)
        parts.append(
            f'<h2>{text(one.key.words)}</h2>\n<p class="finding">{text(first)}.</p>\n<ul>{said}</ul>\n'
            f"{figure_html(one.picture())}"
        )
    noted = "".join(f"<li>{text(one)}.</li>" for one in notes)
    return page(
        "Q-ROAR: loss against memory",
        f"""<h1>Q-ROAR: loss against memory of the K/V cache</h1>
<p>From {text(where)}: {number_of(len(setups), "setup")}.</p>
{f"<ul>{noted}</ul>" * bool(noted)}
{"".join(parts)}""",
    )
