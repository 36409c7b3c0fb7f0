"""report.html: one offline file with every figure, its table, the settings and the command that repeats it.

plotly.js stands in the file once; nothing is loaded from anywhere. Figures set no colour of their text but on cells, so
the page gives them its own, light or dark as the reader's system asks.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import pandas as pd

from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation import continuations_figure, figure_kl
from qroar_core.evaluation.continuations_result import Continuations
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import kept_words, why_different
from qroar_core.figures import Picture
from qroar_core.figures.gallery import gallery
from qroar_core.figures.nulls import in_words
from qroar_core.figures.readable import THEMED
from qroar_core.retrieval import figure as retrieval
from qroar_core.retrieval.result import Retrieval
from qroar_core.runs.manifest import Manifest
from qroar_core.scale_search.result import SearchReport
from qroar_core.specs.labels import capital
from qroar_core.statistics.digits import ERROR_BESIDE, OF_LARGEST, largest, shown
from qroar_core.transforms.result import ScalesFile

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem;
       background: Canvas; color: CanvasText; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; } code, pre { font-size: 0.9em; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; } a { color: LinkText; }
.finding { border-left: 4px solid #0072B2; padding: 0.5rem 1rem; font-size: 1.15em; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
.texts > div { border: 1px solid rgba(138, 138, 138, 0.4); border-radius: 0.4rem; padding: 0.6rem 0.8rem; }
.texts p { white-space: pre-wrap; overflow-wrap: anywhere; font: 0.85em/1.5 monospace; margin: 0.4rem 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85em; } th, td { padding: 0.2rem 0.6rem; text-align: right; }
.counts :is(th, td):nth-child(2) { text-align: left; }
tr:nth-child(even) { background: rgba(138, 138, 138, 0.12); } figure { margin: 2rem 0; }
figcaption { opacity: 0.85; }
.js-plotly-plot THEMED { fill: CanvasText !important; }
.js-plotly-plot .updatemenu-item-rect, .js-plotly-plot .slider-rail-rect { fill: Canvas !important; }
.js-plotly-plot .modebar-group { background: transparent !important; }
.js-plotly-plot .modebar-btn path { fill: GrayText !important; }
""".replace("THEMED", THEMED)
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
TABLE_ROWS = 400  # longer tables are cut here; the JSON files hold every number
PLOT = {"displaylogo": False, "responsive": True}


def report_html(
    manifest: Manifest,
    diagnosis: Diagnosis,
    search: SearchReport,
    scales: ScalesFile,
    evaluation: Evaluation,
    continued: Continuations | None = None,
    unspelled: Sequence[str] = (),
    retrieved: Retrieval | None = None,
) -> str:
    """The whole report as one HTML document that needs no network.

    Args:
        scales: what the search found, also when identity was kept.
        continued: the same prompt continued under each condition, where somebody asked for it.
        unspelled: fields of the setting that the manifest's command does not say.
        retrieved: numbers hidden in held-out text, where somebody asked for them.
    """
    chapters = {
        title: [_figure(p) for p in pictures]
        for title, pictures in gallery(diagnosis, search, scales, evaluation).items()
    }
    chapters["Bands"] = [_bands(diagnosis), *chapters["Bands"]]
    if nulls := diagnosis.null_rows():
        chapters["Nulls"] = [_nulls(nulls)]
    chapters["Evaluation"] = [_counts(evaluation), *chapters["Evaluation"]]
    if continued is not None:
        chapters["Continuations"] = [_continued(continued), _figure(continuations_figure.certainty(continued))]
    if retrieved is not None:
        chapters["Retrieval"] = [_found_again(retrieved), *(_figure(p) for p in retrieval.gallery(retrieved))]
    body = "".join(
        f'<h2 id="{_anchor(title)}">{_text(title)}</h2>\n{"".join(parts)}' for title, parts in chapters.items()
    )
    links = "".join(f'<a href="#{_anchor(title)}">{_text(title)}</a>' for title in (*chapters, "Settings"))
    name = _text(str(manifest.model["name"]))
    missing = f" It leaves out {_text(', '.join(unspelled))}: see the settings." if unspelled else ""
    turned = f"<p>{_text(_sentence(evaluation.rotation.sentence))}</p>" if evaluation.rotation else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Q-ROAR: {name}</title>
<style>{STYLE}</style><script>{_plotly()}</script></head><body>
<h1>Q-ROAR on {name}</h1>
<p class="finding">{_text(_sentence(evaluation.finding))}</p>
<p>{_text(search.verdict.reason)}</p>
<p>In the search, before this evaluation: {_text(search.reason.rstrip("."))}.</p>
{_two_gains(search, evaluation)}{turned}
<p>Repeat it: <code>{_text(manifest.command)}</code>.{missing}</p>
<nav>{links}</nav>
{body}
<h2 id="settings">Settings</h2>
{_versions(manifest)}
<pre>{_text(json.dumps(manifest.model_dump(exclude={"versions"}), indent=1))}</pre>
</body></html>
"""


def _two_gains(search: SearchReport, evaluation: Evaluation) -> str:
    """Which scales are kept, why the two gains differ, and the share of the gap; what there is of it."""
    share = tuned_share(evaluation)
    said = [
        kept_words(search, evaluation),
        why_different(search, evaluation),
        f"NLL gap recovered: {share.words}" if share else "",
    ]
    return "".join(f"<p>{_text(_sentence(words))}</p>" for words in said if words)


def _figure(picture: Picture) -> str:
    drawn = picture.figure.to_html(full_html=False, include_plotlyjs=False, config=PLOT)
    shown = picture.table.head(TABLE_ROWS)
    cut = "" if len(shown) == len(picture.table) else f"<p>First {TABLE_ROWS} of {len(picture.table)} rows.</p>"
    table = _table(shown)
    return (
        f'<figure aria-label="{html.escape(picture.alt, quote=True)}"><h3>{_text(picture.title)}</h3>{drawn}'
        f"<figcaption>{_text(f'{picture.how_to_read} {picture.sample}'.strip())}</figcaption>"
        f'<details><summary>The numbers</summary><div class="scroll">{table}</div>{cut}</details></figure>\n'
    )


def _bands(diagnosis: Diagnosis) -> str:
    frame = bands.table(diagnosis)
    known, titles = bands.order(frame), bands.short_titles()
    shown = frame.assign(**bands.shortened(diagnosis))[known].rename(columns=titles)
    said = "".join(f"<li><strong>{_text(titles[name])}</strong>: {_text(bands.helps()[name])}</li>" for name in known)
    return (
        "<h3>All diagnostics of each band</h3>"
        f'<div class="scroll">{_table(shown)}</div>'
        f"<p>{_text(bands.sample(diagnosis))}</p><ul>{said}</ul>"
    )


def _nulls(rows: Sequence[NullRow]) -> str:
    return (
        "<p>Each diagnostic beside what the same quantity reads when there is nothing to see; low and high span the "
        f'draws of the null, where there are several.</p><div class="scroll">{_table(in_words(rows))}</div>'
    )


def _table(frame: pd.DataFrame) -> str:
    """Digits as the sample supports them where that is known, else five, as a page's table of numbers has about."""
    beside = {name: frame[error] for name, error in ERROR_BESIDE.items() if name in frame and error in frame}
    frame = frame.assign(
        **{name: [shown(*pair) for pair in zip(frame[name], errors)] for name, errors in beside.items()}
    )
    magnitudes = {name: largest for name in frame if name in OF_LARGEST}
    return frame.to_html(index=False, border=0, float_format=lambda x: f"{x:.5g}", na_rep="", formatters=magnitudes)


def _counts(evaluation: Evaluation) -> str:
    table = figure_kl.readable(figure_kl.table(evaluation)).to_html(index=False, border=0, classes="counts")
    full = figure_kl.kl_report(evaluation)
    every = "" if full is None else _table(full)
    return (
        f'<h3>Measured as llama.cpp measures</h3><div class="scroll">{table}</div>'
        f"<p>± is the standard error over windows, paired for the ln ratio. Held-out: {_text(evaluation.text)}.</p>"
        + (
            f"<details><summary>Every number of llama.cpp's KL report</summary>"
            f'<div class="scroll">{every}</div></details>'
            if every
            else ""
        )
    )


def _continued(found: Continuations) -> str:
    cards = [
        f"<div><strong>{_text(continuations_figure.name_of(row))}</strong>: "
        f"{_text(continuations_figure.departure(row, found.rows[0]))}<p>{continuations_figure.marked(row)}</p></div>"
        for row in found.rows
    ]
    if found.actual:
        cards.append(f"<div><strong>The text's own continuation</strong><p>{_text(found.actual)}</p></div>")
    return (
        f"<p>Prompt: {found.prompt_tokens} tokens, {_text(found.origin)}. It ends with:</p>"
        f"<pre>…{_text(found.prompt_end)}</pre>"
        f'<div class="texts">{"".join(cards)}</div>'
    )


def _found_again(retrieved: Retrieval) -> str:
    said = "".join(f"<p>{_text(_sentence(finding.sentence))}</p>" for finding in retrieved.findings)
    return f"{said}<p>{_text(_sentence(retrieved.text))}</p>"


def _versions(manifest: Manifest) -> str:
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(v)}</td></tr>" for name, v in manifest.versions.items())
    return f"<table><tr><th>package</th><th>version</th></tr>{rows}</table>"


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _text(words: str) -> str:
    return html.escape(words)


def _sentence(words: str) -> str:
    return f"{capital(words).rstrip('.')}."


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
