"""report.html: one offline file with every figure, its table, the settings and the command that repeats it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation import continuations_figure, figure_kl
from qroar_core.evaluation.continuations_result import Continuations
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import kept_words, why_different
from qroar_core.figures.gallery import gallery
from qroar_core.figures.nulls import in_words
from qroar_core.retrieval import figure as retrieval
from qroar_core.retrieval.result import Retrieval
from qroar_core.runs.html_page import figure_html, page, table_html, text
from qroar_core.runs.manifest import Manifest
from qroar_core.scale_search.result import SearchReport
from qroar_core.specs.labels import capital
from qroar_core.transforms.result import ScalesFile


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
        title: [figure_html(p) for p in pictures]
        for title, pictures in gallery(diagnosis, search, scales, evaluation).items()
    }
    chapters["Bands"] = [_bands(diagnosis), *chapters["Bands"]]
    if nulls := diagnosis.null_rows():
        chapters["Nulls"] = [_nulls(nulls)]
    chapters["Evaluation"] = [_counts(evaluation), *chapters["Evaluation"]]
    if continued is not None:
        chapters["Continuations"] = [_continued(continued), figure_html(continuations_figure.certainty(continued))]
    if retrieved is not None:
        chapters["Retrieval"] = [_found_again(retrieved), *(figure_html(p) for p in retrieval.gallery(retrieved))]
    body = "".join(
        f'<h2 id="{_anchor(title)}">{text(title)}</h2>\n{"".join(parts)}' for title, parts in chapters.items()
    )
    links = "".join(f'<a href="#{_anchor(title)}">{text(title)}</a>' for title in (*chapters, "Settings"))
    name = text(str(manifest.model["name"]))
    missing = f" It leaves out {text(', '.join(unspelled))}: see the settings." if unspelled else ""
    turned = f"<p>{text(_sentence(evaluation.rotation.sentence))}</p>" if evaluation.rotation else ""
    return page(
        f"Q-ROAR: {manifest.model['name']}",
        f"""<h1>Q-ROAR on {name}</h1>
<p class="finding">{text(_sentence(evaluation.finding))}</p>
<p>{text(search.verdict.reason)}</p>
<p>In the search, before this evaluation: {text(search.reason.rstrip("."))}.</p>
{_two_gains(search, evaluation)}{turned}
<p>Repeat it: <code>{text(manifest.command)}</code>.{missing}</p>
<nav>{links}</nav>
{body}
<h2 id="settings">Settings</h2>
{_versions(manifest)}
<pre>{text(json.dumps(manifest.model_dump(exclude={"versions"}), indent=1))}</pre>""",
    )


def _two_gains(search: SearchReport, evaluation: Evaluation) -> str:
    """Which scales are kept, why the two gains differ, and the share of the gap; what there is of it."""
    share = tuned_share(evaluation)
    said = [
        kept_words(search, evaluation),
        why_different(search, evaluation),
        f"NLL gap recovered: {share.words}" if share else "",
    ]
    return "".join(f"<p>{text(_sentence(words))}</p>" for words in said if words)


def _bands(diagnosis: Diagnosis) -> str:
    frame = bands.table(diagnosis)
    known, titles = bands.order(frame), bands.short_titles()
    shown = frame.assign(**bands.shortened(diagnosis))[known].rename(columns=titles)
    said = "".join(f"<li><strong>{text(titles[name])}</strong>: {text(bands.helps()[name])}</li>" for name in known)
    return (
        "<h3>All diagnostics of each band</h3>"
        f'<div class="scroll">{table_html(shown)}</div>'
        f"<p>{text(bands.sample(diagnosis))}</p><ul>{said}</ul>"
    )


def _nulls(rows: Sequence[NullRow]) -> str:
    return (
        "<p>Each diagnostic beside what the same quantity reads when there is nothing to see; low and high span the "
        f'draws of the null, where there are several.</p><div class="scroll">{table_html(in_words(rows))}</div>'
    )


def _counts(evaluation: Evaluation) -> str:
    table = figure_kl.readable(figure_kl.table(evaluation)).to_html(index=False, border=0, classes="counts")
    full = figure_kl.kl_report(evaluation)
    every = "" if full is None else table_html(full)
    return (
        f'<h3>Measured as llama.cpp measures</h3><div class="scroll">{table}</div>'
        f"<p>± is the standard error over windows, paired for the ln ratio. Held-out: {text(evaluation.text)}.</p>"
        + (
            f"<details><summary>Every number of llama.cpp's KL report</summary>"
            f'<div class="scroll">{every}</div></details>'
            if every
            else ""
        )
    )


def _continued(found: Continuations) -> str:
    cards = [
        f"<div><strong>{text(continuations_figure.name_of(row))}</strong>: "
        f"{text(continuations_figure.departure(row, found.rows[0]))}<p>{continuations_figure.marked(row)}</p></div>"
        for row in found.rows
    ]
    if found.actual:
        cards.append(f"<div><strong>The text's own continuation</strong><p>{text(found.actual)}</p></div>")
    return (
        f"<p>Prompt: {found.prompt_tokens} tokens, {text(found.origin)}. It ends with:</p>"
        f"<pre>…{text(found.prompt_end)}</pre>"
        f'<div class="texts">{"".join(cards)}</div>'
    )


def _found_again(retrieved: Retrieval) -> str:
    said = "".join(f"<p>{text(_sentence(finding.sentence))}</p>" for finding in retrieved.findings)
    return f"{said}<p>{text(_sentence(retrieved.text))}</p>"


def _versions(manifest: Manifest) -> str:
    rows = "".join(f"<tr><td>{text(name)}</td><td>{text(v)}</td></tr>" for name, v in manifest.versions.items())
    return f"<table><tr><th>package</th><th>version</th></tr>{rows}</table>"


def _sentence(words: str) -> str:
    return f"{capital(words).rstrip('.')}."


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
