"""What the command line prints: a progress line on stderr, one table (or JSON) on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from qroar_core.number_of import number_of
from qroar_core.progress import OnStep, Step

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.evaluation.gap import Share
    from qroar_core.evaluation.result import Evaluation
    from qroar_core.evidence.prediction.result import Prediction, Rank
    from qroar_core.exporters.check import Check
    from qroar_core.exporters.reader import Recipe
    from qroar_core.remedies.result import Comparison, RemedyRow
    from qroar_core.retrieval.result import Cell, Retrieval
    from qroar_core.scale_search.gain import Decision
    from qroar_core.scale_search.result import SearchReport
    from qroar_core.transforms.scales import Scales

WIDEST = 10_000  # columns a table may take: no cell is ever cut, and a narrow terminal wraps the lines


@contextmanager
def progress() -> Iterator[OnStep]:
    """One line on stderr: stage, what, bar, time left."""
    columns = (
        TextColumn("{task.fields[stage]:>9}"),
        BarColumn(24),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=1.0, stage="")
        stage = ""

        def on_step(step: Step) -> None:
            nonlocal stage
            if step.stage != stage:
                stage = step.stage
                bars.reset(task, stage=stage, total=1.0)
            bars.update(task, completed=step.fraction, description=step.what, stage=step.stage)

        yield on_step


def line(text: str) -> None:
    """One plain line on stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line on stderr about work that goes on: stdout stays what a script reads."""
    sys.stderr.write(f"qroar: {text}\n")


def _print(content: Any) -> None:
    from qroar_core.result import rounded

    line(json.dumps(rounded(content), indent=1))


def _formatted(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


def _table(title: str, header: list[str], rows: list[list[str]]) -> None:
    line(title)  # whole: a table wraps its own title
    table = Table(box=SIMPLE)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    need = Console(width=WIDEST).measure(table).maximum
    Console(width=max(need, Console().width)).print(table, crop=False)  # a cut number is a wrong number


def search(report: SearchReport, kept: Scales, as_json: bool, beside: Decision | None = None) -> None:
    """The verdict, the search's cost and what is kept; `beside`: the gain from the model without a tie."""
    facts = report.model_dump(exclude={"history", "bounds"}) | {"kept_identity": kept.is_identity}
    if beside is not None:
        facts["beside_untied"] = beside.model_dump()
    if as_json:
        _print(facts)
        return
    line(report.verdict.reason)
    line(
        f"{report.objective} objective {report.objective_identity:.4g} -> {report.objective_found:.4g} "
        f"in {report.seconds:.1f} s = {report.forward_equivalents:.2f} forward passes over its text"
    )
    if report.value_maps is not None:
        line(f"value maps: {report.value_maps.words}")
    if report.polish is not None:
        line(f"polish: {report.polish.words}")
    line(f"guard: {report.guard}")
    line(f"kept: {report.chosen}; {report.reason}")
    if beside is not None and report.chosen == "found":
        words = "tied pairs and scales together gain" if beside.significant else "tied pairs and scales gain nothing"
        line(f"{words}: {beside.measured}")
    line(f"read: {report.text}")


def verification(checks: list[Check], limits: list[str], as_json: bool) -> None:
    """One row a check; below, what runtimes do otherwise with the export."""
    words = {True: "yes", False: "NO", None: "not asked"}
    if as_json:
        _print([{"question": c.question, "answer": c.answer, "passed": c.passed} for c in checks])
        return
    wrong, unasked = (sum(c.passed is passed for c in checks) for passed in (False, None))
    title = f"Verified, {number_of(unasked, 'check')} not asked" if unasked else "Verified"
    if wrong:
        title = f"Verification failed: {wrong} of {number_of(len(checks), 'check')}"
    _table(title, ["check", "found", "passed"], [[c.question, c.answer, words[c.passed]] for c in checks])
    for limit in limits:
        line(limit)


def serving(folder: Path, known: Mapping[str, Recipe], limits: list[str], as_json: bool) -> None:
    """How each runtime serves an export: its lines, what to know, and below what runtimes do otherwise."""
    if as_json:
        serving = [{"runtime": name, **asdict(recipe)} for name, recipe in known.items()]
        _print({"folder": str(folder), "serving": serving, "limits": limits})
        return
    line(str(folder))
    recipes(known)
    if limits:
        line("\nWhat runtimes do otherwise:\n")
    for limit in limits:
        line(f"  {limit}")


def recipes(known: Mapping[str, Recipe]) -> None:
    """How each runtime is started, and what to know about it."""
    for name, recipe in known.items():
        line(f"\n{name}\n")
        for code in recipe.code.splitlines():
            line(f"    {code}".rstrip())
        line("")
        for said in recipe.notes:
            line(f"  {said}")


def evaluation(result: Evaluation, as_json: bool) -> None:
    """One row a condition and length, and the finding."""
    from qroar_core.evaluation.gap import tuned_share

    if as_json:
        _print(result.model_dump(mode="json", exclude={"window_nll", "positions"}) | _gap_interval(tuned_share(result)))
        return
    rows = [
        [
            f"{r.length}",
            r.model,
            r.scales,
            f"{r.ppl:.3f}",
            f"{r.nll:.4f} ±{r.nll_se:.4f}",
            _formatted(r.kl_mean, ".4f"),
            _formatted(r.same_top1, ".1%"),
        ]
        for r in result.rows
    ]
    _table(result.text, ["length", "model", "scales", "ppl", "nll ± se", "KL mean", "same top-1"], rows)
    line(result.sentence)
    share = tuned_share(result)
    if share is not None:
        line(f"NLL gap recovered: {share.words}")
    if result.attribution:
        a = result.attribution
        line(f"of which quantization repair {a.quantization_repair:+.4f} nats, retuning {a.retuning:+.4f} nats")
    if result.gain_by_document:
        line(result.gain_by_document.sentence)
    if result.rotation:
        line(result.rotation.sentence)
    if result.tie:
        line(result.tie.sentence)


def _gap_interval(share: Share | None) -> dict[str, float | None]:
    low, high = (None, None) if share is None else (share.low, share.high)
    return {"gap_recovered_low": low, "gap_recovered_high": high}


def retrieval(result: Retrieval, as_json: bool) -> None:
    """One row a condition, length and depth, a task at a time, each with its finding."""
    if as_json:
        _print(result.model_dump(mode="json", exclude={"trials"}))
        return
    header = [
        "length",
        "depth",
        "model",
        "scales",
        "generated",
        "cut off",
        "no number",
        "likeliest",
        "log-probability",
        "above others",
        "unfit",
    ]
    for finding in result.findings:
        cells = [cell for cell in result.cells if cell.task == finding.task]
        _table(f"{finding.task}, {result.text}", header, [_retrieval_row(cell) for cell in cells])
        line(finding.sentence)


def _retrieval_row(cell: Cell) -> list[str]:
    where = ["all", "all"] if cell.length is None else [f"{cell.length}", f"{cell.depth:.0%}"]
    return [
        *where,
        cell.model,
        cell.scales,
        f"{cell.hits}/{cell.trials}",
        f"{cell.cut_off}",
        f"{cell.no_number}",
        f"{cell.chosen}/{cell.trials}",
        _with(cell.log_prob, cell.log_prob_low, cell.log_prob_high),
        _with(cell.margin, cell.margin_low, cell.margin_high),
        f"{cell.unfit}",
    ]


def comparison(result: Comparison, as_json: bool) -> None:
    """One row a remedy, and the findings."""
    if as_json:
        _print(result.model_dump(mode="json"))
        return
    header = ["remedy", "ppl", "gap recovered", "gain, nats", "band scales add", "at run time", "change in the runtime"]
    reference = ["reference", f"{result.reference_ppl:.3f}", *[""] * 5]
    _table(result.measured_on, header, [reference, *(_comparison_row(result, row) for row in result.rows)])
    for sentence in (*result.sentences, *(result.layers.flags if result.layers else ())):
        line(sentence)


def _comparison_row(result: Comparison, row: RemedyRow) -> list[str]:
    from qroar_core.evaluation.gap import remedy_share

    share = remedy_share(result, row)
    gain = "" if row.gain is None else _with(row.gain, row.gain_low, row.gain_high)
    added = "no-op" if row.no_op else "" if row.added is None else _with(row.added, row.added_low, row.added_high)
    won = share.words if share else ""
    return [row.name, f"{row.ppl:.3f}", won, gain, added, row.run_time, row.runtime_change]


def prediction(result: Prediction, as_json: bool) -> None:
    """What each part costs, how well each diagnostic tells it, and the sentences."""
    if as_json:
        _print(result.model_dump(mode="json", exclude={"window_nll"}))
        return
    parts = [
        [
            p.name,
            "" if p.pairs is None else f"{p.pairs[0]}-{p.pairs[1]}",
            f"{p.nll:+.5f}",
            f"[{p.low:+.5f}, {p.high:+.5f}]",
        ]
        for p in [*result.parts, result.whole]
    ]
    _table(result.measured_on, ["rounded", "pairs", "cost, nats per token", f"{result.confidence:.0%}"], parts)
    rows = [
        [f"{d.words} (baseline)" if d.baseline else d.words, _rho(d.by_band), _rho(d.by_cell)]
        for d in result.diagnostics
    ]
    _table("Spearman's rho with that cost", ["", "band by band", "by layer and band"], rows)
    for sentence in (result.headline, *result.findings):
        line(sentence)


def _rho(found: Rank | None) -> str:
    return "none" if found is None else f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _with(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return "none"
    return f"{mean:+.3f}" if low is None else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
