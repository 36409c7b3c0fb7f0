"""What the dashboard costs: server time of every page's rerun, and bytes of its largest figure.

The demo model is loaded and tuned; the diagnosis shown is a synthetic one of 32 layers, 8 KV heads and 128
channels, once of 1,024 positions and once of 131,072. A widget's interaction reruns its page (or a fragment of
it, which is less), so one rerun is what a person waits for, the browser's drawing aside. What was drawn before is
remembered, so each timed interaction asks for something new where the page can show it; `opened` is the first drawing.
The Trade-off page shows a sweep of 2,000 cells, and the Sweep page asks for as many.
Of what no stage of the demo has run here (remedies, retrieval, evidence) a page shows its form.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.clock import seconds
from benchmarks.synthetic import inflated

ROOT = Path(__file__).parents[1]
LENGTHS = (1024, 131_072)
PAGES = tuple(path.stem for path in sorted((ROOT / "pages").glob("*.py")))
CHOSEN = {  # a widget whose every value is another figure, or another file
    **{"tails": "tail layer", "outliers": "outlier layer"},
    **{"tradeoff": "tradeoff batch", "sweep": "sweep minutes"},
}
CELLS = 2000  # of the sweep that is opened, and of the one that is asked for
STEPS: dict[str, tuple[str, str, tuple]] = {  # arguments of each Learn step, its slider, positions never asked before
    "clocks": ("HEADS[0]", "learn_position", (310, 320, 330, 340, 350)),
    "window": ("HEADS[0]", "learn_length", (1.5, 2.0, 3.0, 6.0, 8.0)),
    "interpolations": ("HEADS[0]", "learn_factor", (1.5, 2.0, 3.0, 6.0, 8.0)),
    "aliasing": ("HEADS[0]", "learn_alias_factor", (1.5, 2.0, 3.0, 6.0, 8.0)),
    "turning": ("", "learn_angle", (31, 61, 91, 121, 151)),
    "shared_step": ("", "learn_g", (0.5, 1.0, 1.5, 2.0, 2.5)),
    "commuting": ("", "learn_move_pair", (17, 19, 20, 21, 22)),
    "tied_clocks": ("", "learn_tied_pairs", (17, 19, 20, 21, 22)),
}
REPEATS = 5
SHOWN = {"layers": 32, "kv_heads": 8, "head_dim": 128, "bands": 8}  # sizes of the diagnosis, as of an 8B model
MOST_SECONDS, MOST_BYTES = 0.3, 2_000_000


def main() -> None:
    """Print median rerun seconds and the largest figure of every page at both lengths."""
    with tempfile.TemporaryDirectory() as runs:
        os.environ["QROAR_RUNS"] = runs
        found = {length: measured(length) for length in LENGTHS}
    print(
        "| page | "
        + " | ".join(f"{n:,} tokens: interaction, ms | opened, ms | largest figure, kB" for n in LENGTHS)
        + " |"
    )
    print("|---" * (1 + 3 * len(LENGTHS)) + "|")
    for page in PAGES:
        cells = " | ".join(
            f"{found[n][page][0] * 1000:.0f} | {found[n][page][2] * 1000:.0f} | {found[n][page][1] / 1000:.0f}"
            for n in LENGTHS
        )
        print(f"| {page} | {cells} |")
    print("\n| learn: a slider of step | picture, ms |\n|---|---|")
    for step in STEPS:
        print(f"| {step} | {slider(step) * 1000:.0f} |")
    slow = [(n, p) for n in LENGTHS for p in PAGES if found[n][p][0] > MOST_SECONDS]
    large = [(n, p) for n in LENGTHS for p in PAGES if found[n][p][1] > MOST_BYTES]
    print(f"\nover {MOST_SECONDS * 1000:.0f} ms: {slow or 'none'}; over {MOST_BYTES / 1e6:.0f} MB: {large or 'none'}")


def measured(
    length: int, sizes: Mapping[str, int] = SHOWN, repeats: int = REPEATS
) -> dict[str, tuple[float, int, float]]:
    """Page -> median seconds of an interaction, bytes of its largest figure, seconds of its first drawing."""
    from streamlit.testing.v1 import AppTest

    with tempfile.TemporaryDirectory() as folder:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        app.query_params.update(_swept(Path(folder)))
        return _of_pages(app, length, sizes, repeats)


def _of_pages(app: Any, length: int, sizes: Mapping[str, int], repeats: int) -> dict[str, tuple[float, int, float]]:
    app.query_params["model"], app.query_params["length"] = "demo", str(length)
    app.run()
    next(b for b in app.button if b.label == "Demo model").click().run()
    _settle(app)
    _plant(app, sizes)
    out = {}
    for page in PAGES:
        app.switch_page(f"pages/{page}.py")
        opened = seconds(app.run)
        assert not app.exception, [e.value for e in app.exception]
        sizes = [len(chart.proto.spec.encode()) for chart in app.get("plotly_chart")]
        out[page] = _interaction(app, CHOSEN.get(page), tuple(range(1, repeats + 1))), max(sizes, default=0), opened
    return out


def _swept(folder: Path) -> dict[str, str]:
    """A finished sweep of `CELLS` cells in this folder, and the parameters that open it, and ask for as many."""
    import json

    from qroar_core.sweeps.cell import Cell
    from qroar_core.sweeps.result import SweepRow
    from qroar_core.sweeps.table import frame_of, write_table

    remedies, rows = ("none", "scales", "rotation", "scales+angles"), []
    for at in range(CELLS):
        quantizer, remedy = {"kv": f"int{at // len(remedies)}"}, remedies[at % len(remedies)]
        cell = Cell("demo", {"method": "yarn", "factor": 4}, 256, quantizer, remedy, "technical", 0, 8)
        lost, size = 40 / (100 + at) - 0.001 * (at % 4), 100.0 + at // 4
        ends = {"loss_low": lost - 0.01, "loss_high": lost + 0.01}
        nll = {"nll": 2 + lost, "nll_reference": 2.0, "loss": lost, "kl": lost}
        rows.append(SweepRow.of(cell, **nll, **ends, bytes_per_token=size, status="done", run=f"cell-{at}"))
    write_table(folder, frame_of(rows))
    seeds = ", ".join(map(str, range(CELLS // 16)))
    asked = {"seeds": seeds, "formats": ["int2", "int3", "int4", "int8"], "remedies": remedies}
    return {"tradeoff": json.dumps({"folder": str(folder)}), "sweep": json.dumps(asked)}


def slider(step: str) -> float:
    """Median seconds from a slider of one Learn step to its picture: only that step's fragment runs."""
    from streamlit.testing.v1 import AppTest

    arguments, key, values = STEPS[step]
    page = f"""
from pages.views.lessons.{step} import {step}_step
from qroar_core.lessons.heads import HEADS
{step}_step({arguments})
"""
    app = AppTest.from_string(page, default_timeout=60).run()
    assert not app.exception, [e.value for e in app.exception]
    return _interaction(app, key, values)


def _interaction(app: Any, key: str | None, values: tuple) -> float:
    """Median seconds of a rerun, each after another value of the widget `key` where there is one."""
    took = []
    for value in values:
        if key is not None:
            app.session_state[key] = value
        took.append(seconds(app.run))
        assert not app.exception, [e.value for e in app.exception]
    return statistics.median(took)


def _settle(app: Any) -> None:
    from pages.state.session import manager

    while not manager().idle():
        time.sleep(0.05)
    app.run()


def _plant(app: Any, sizes: Mapping[str, int]) -> None:
    """Put a diagnosis, a search and an evaluation where the pages look for them."""
    from pages import jobs
    from pages.state import session
    from pages.state.choice import setting_of
    from qroar_core.diagnostics import run as diagnose
    from qroar_core.evaluation import run as evaluate
    from qroar_core.models.text import SPLITS, split
    from qroar_core.scale_search import run as search

    choice = app.session_state["choice"]
    loaded = session.manager().result(session.load_key(choice))
    setting = setting_of(choice, loaded)
    texts = {name: split(name) for name in SPLITS}
    short = replace(setting.search, length=256, steps=8, windows=1)
    small = diagnose.run(
        loaded,
        replace(setting, diagnosis=replace(setting.diagnosis, length=1024, short_length=256, windows=2)),
        texts["calibration"],
    )
    outcome = search.run(loaded, replace(setting, search=short), texts)
    evaluation = evaluate.run(
        loaded,
        replace(setting, evaluation=replace(setting.evaluation, lengths=(256,), windows=2)),
        outcome.found,
        outcome.smooth,
        texts["heldout"],
    )
    shown = inflated(small, setting.diagnosis.length, **sizes)
    for key, result in (
        (jobs.diagnose.key(loaded, setting), shown),
        (jobs.search.key(loaded, setting), outcome),
        (jobs.evaluate.key(loaded, setting, outcome), evaluation),
    ):
        session.manager().submit(key, lambda on_step, result=result: result, label="planted")
    _settle(app)


if __name__ == "__main__":
    main()
