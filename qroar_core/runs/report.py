"""report.html: one offline file with every figure, its table, the settings and the command that repeats it."""

from __future__ import annotations

import html
import json

from qroar_core.figures import Picture
from qroar_core.figures.gallery import gallery
from qroar_core.results import Diagnosis, Evaluation, Manifest, ScalesFile, SearchReport

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } code, pre { font-size: 0.9em; } pre { overflow-x: auto; }
.finding { border-left: 4px solid #0072B2; padding: 0.5rem 1rem; font-size: 1.15em; }
table { border-collapse: collapse; font-size: 0.85em; } th, td { padding: 0.2rem 0.6rem; text-align: right; }
tr:nth-child(even) { background: rgba(138, 138, 138, 0.12); } figure { margin: 2rem 0; }
"""
TABLE_ROWS = 400  # longer tables are cut here; the JSON files hold every number


def report_html(manifest: Manifest, diagnosis: Diagnosis, search: SearchReport, scales: ScalesFile,
                evaluation: Evaluation) -> str:  # fmt: skip
    """The whole report as one HTML document that needs no network.

    Args:
        scales: what the search found, also when identity was kept.
    """
    chapters = gallery(diagnosis, search, scales, evaluation)
    first = True
    parts = []
    for title, pictures in chapters.items():
        parts.append(f"<h2>{html.escape(title)}</h2>")
        for picture in pictures:
            parts.append(_figure(picture, first))
            first = False
    model = manifest.model
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Q-ROAR: {html.escape(str(model["name"]))}</title>
<style>{STYLE}</style></head><body>
<h1>Q-ROAR on {html.escape(str(model["name"]))}</h1>
<p class="finding">{html.escape(evaluation.sentence)}</p>
<p>{html.escape(search.verdict.reason)} {html.escape(search.reason)}</p>
<p>Repeat it: <code>{html.escape(manifest.command)}</code></p>
{"".join(parts)}
<h2>Settings</h2><pre>{html.escape(json.dumps(manifest.model_dump(), indent=1))}</pre>
</body></html>
"""


def _figure(picture: Picture, with_plotly: bool) -> str:
    drawn = picture.figure.to_html(full_html=False, include_plotlyjs="inline" if with_plotly else False)
    shown = picture.table.head(TABLE_ROWS)
    cut = "" if len(shown) == len(picture.table) else f"<p>First {TABLE_ROWS} of {len(picture.table)} rows.</p>"
    table = shown.to_html(index=False, border=0, float_format=lambda x: f"{x:.5g}", na_rep="")
    return (
        f'<figure aria-label="{html.escape(picture.alt, quote=True)}"><h3>{html.escape(picture.title)}</h3>{drawn}'
        f"<figcaption>{html.escape(picture.how_to_read)}</figcaption>"
        f"<details><summary>The numbers</summary>{table}{cut}</details></figure>\n"
    )
