"""The Sweep page: its file and the command line's cells, what is refused, a start, a cancel, and the table it fills."""

import json
from dataclasses import replace

import pytest

from pages.forms.sweep import lines_of
from pages.state.choice import Choice, SweepChoice, to_address
from qroar_core.errors import BadSpec
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec
from qroar_core.sweeps import one_process
from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.result import SweepRow
from qroar_core.sweeps.sweep_file import read_sweep
from qroar_core.sweeps.table import frame_of, write_table
from qroar_core.sweeps.write_file import with_exclusions
from tests.pages.visitor import button, clicked, go, read, texts, visit

pytestmark = pytest.mark.slow
ASKED = SweepChoice(
    models=("demo", "my: model"),
    methods=("default", "yarn"),
    factors="2, 4.5",
    formats=("none", "int4", "fp8"),
    quantizers="{k: int4, v: int8}\n{weights: int4}",
    remedies=("none", "rotation", "awq"),
    lengths="256, 512",
    texts=("technical", "novels"),
    seeds="0, 1",
    windows=4,
    exclude="{seed: 1, length: 512}",
    minutes=30,
    cells=7,
)


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Folders of one test."""
    monkeypatch.setenv("QROAR_CELLS", str(tmp_path / "cells"))
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(app, **asked):
    """The page, asked for what this says."""
    other = visit(app, **to_address(Choice(sweep=SweepChoice(**asked))))
    return go(other, "sweep")


def file_on(app):
    return next(code.value for code in app.code if code.value.startswith("models:"))


def asked_in(app):
    return json.loads(app.query_params["sweep"])


def test_the_command_line_reads_the_same_cells(tmp_path, demo_model):
    setting = replace(default_setting(demo_model), rope=RopeSpec("yarn", 4.0, beta_fast=24.0))
    made = with_exclusions(lines_of(ASKED, setting), ASKED.exclude, "here")
    (tmp_path / "sweep.yaml").write_text(made.text)
    found = read_sweep(tmp_path / "sweep.yaml")
    cells = found.cells
    assert cells == made.cells
    assert (found.budget.minutes, found.budget.cells, found.excluded) == (30, 7, made.excluded)
    setups = {
        (cell.model, cell.rope_words, cell.rope.get("factor"), cell.length, cell.seed, cell.text) for cell in cells
    }
    ropes = {("", 1.0), ("beta_fast=24.0", 2), ("beta_fast=24.0", 4.5)}
    wanted = {
        (model, words, factor, length, seed, text)
        for model in ASKED.models
        for words, factor in ropes
        for length, seed in ((256, 0), (256, 1), (512, 0))
        for text in ASKED.texts
    }
    assert setups == wanted
    per_setup = {(cell.quantizer_words, cell.remedy) for cell in cells}
    assert per_setup == {
        *((name, "none") for name in ("kv=none", "kv=int4", "kv=fp8", "k=int4 v=int8", "weights=int4")),
        *(("kv=int4", "rotation"), ("k=int4 v=int8", "rotation")),
        *(("weights=int4", "awq"),),
    }
    assert len(cells) == len(wanted) * len(per_setup)
    assert all(cell.windows == 4 for cell in cells)


def test_it_begins_with_the_demo_and_counts_its_cells(app, roots):
    go(app, "sweep")
    assert "models: [demo]" in file_on(app)
    assert "ropes: [{method: yarn, factor: [4]}]" in file_on(app)
    assert "python -m qroar_core sweep sweep.yaml --out sweep" in [code.value for code in app.code]
    assert "not known yet: no cell of such a model is finished here" in texts(app)
    assert "Memory: up to 1." in texts(app)  # GiB: the process itself, the demo is small
    app.multiselect(key="sweep formats").set_value(["int4", "q4_0"])
    app.multiselect(key="sweep remedies").set_value(["none", "rotation", "scales"]).run()
    assert "**5 cells** (1 left out)" in texts(app)  # q4_0 rotates by itself
    app.text_input(key="sweep seeds").set_value("0, 1").run()
    assert "**10 cells** (2 left out)" in texts(app)
    assert asked_in(app) == {
        "formats": ["int4", "q4_0"],
        "remedies": ["none", "rotation", "scales"],
        "seeds": "0, 1",
    }
    again = visit(app, **dict(app.query_params.items()))  # a reload
    assert "**10 cells** (2 left out)" in texts(go(again, "sweep"))
    assert again.text_input(key="sweep seeds").value == "0, 1"


def test_the_setup_in_view_is_what_it_begins_with(loaded_app, roots):
    go(loaded_app, "sweep")
    assert loaded_app.multiselect(key="sweep methods").value == ["yarn"]
    assert loaded_app.text_input(key="sweep lengths").value == "1024"
    loaded_app.multiselect(key="sweep methods").set_value(["yarn", "linear"]).run()
    assert "ropes: [{method: yarn, factor: [4]}, {method: linear, factor: [4]}]" in file_on(loaded_app)


@pytest.mark.parametrize(
    "asked",
    [
        {"lengths": "256, many"},
        {"lengths": "1"},
        {"lengths": "256]"},
        {"seeds": "-1"},
        {"seeds": "0, 0"},
        {"factors": ""},
        {"factors": "0.5"},
        {"formats": ()},
        {"models": ()},
        {"quantizers": "{k: int40}"},
        {"quantizers": "{keep_layers: 5"},
        {"exclude": "{remedy: awq}"},
        {"exclude": "{flavour: sour}"},
        {"exclude": "{model: demo}"},
        {
            "seeds": ", ".join(map(str, range(200))),
            "factors": ", ".join(f"{2 + n / 100:g}" for n in range(100)),
            "formats": ("int2", "int3", "int4", "int8", "q4_0", "q8_0"),
        },
    ],
    ids=range(15),
)
def test_what_the_command_refuses_is_refused_in_the_same_line(app, roots, asked):
    """The command is given the page's file; where it has none because of the refusal, its lines."""
    page = opened(app, formats=asked.pop("formats", ("int4",)), remedies=("none",), **asked)
    (said,) = [error.value for error in page.error]
    now = page.session_state["choice"].sweep
    whole = replace(now, models=("demo",) if now.models is None else now.models, methods=("yarn",))
    whole = replace(whole, factors=whole.factors if whole.factors is not None else "4", texts=("technical",))
    whole = replace(whole, lengths=whole.lengths if whole.lengths is not None else "1024")
    lines = lines_of(whole, None) | ({"exclude": f"[{whole.exclude}]"} if whole.exclude else {})
    (roots / "sweep.yaml").write_text("".join(f"{name}: {value}\n" for name, value in lines.items() if value))
    with pytest.raises(BadSpec) as refused:
        read_sweep(roots / "sweep.yaml")
    line = str(refused.value).replace(str(roots / "sweep.yaml"), "sweep.yaml")
    assert read(said) == line
    assert not any(one.label == "Start the sweep" for one in page.button)


def test_folders_outside_are_refused(app, roots):
    outside = "outside the folders this dashboard may touch"
    for asked in ({"models": ("/etc",)}, {"texts": ("/etc/passwd",)}, {"folder": "/etc"}):
        page = opened(app, **asked)
        assert outside in page.error[0].value
    page = opened(app, lengths="256]\nmodels: [/etc")
    assert "is no YAML" in page.error[0].value  # what is typed makes no key


def test_a_start_is_a_job_that_fills_the_table(app, roots, monkeypatch):
    heard = []

    def measured(sweep, out, *, device, dtype, on_step):
        heard.append((sweep, out, device, dtype))
        rows = [
            SweepRow.of(
                cell,
                status="done",
                loss=0.01 * at,
                loss_low=0.0,
                loss_high=0.02 * at,
                bytes_per_token=9.0,
                nll=2.0,
                nll_reference=2.0,
                run="x",
            )
            for at, cell in enumerate(sweep.cells)
        ]
        rows[1] = replace(rows[1], status="failed", why="no *room*")
        out.mkdir()
        (out / sweeps.ASKED).write_text(sweep.text)
        write_table(out, frame_of(rows))

    monkeypatch.setattr(sweeps, "run", measured)
    page = opened(app, formats=("int4", "q4_0"), remedies=("none",), folder=str(roots / "out"), lengths="256")
    assert not any(one.label == "Show loss against memory" for one in page.button)
    clicked(page, "Start the sweep")
    ((sweep, out, device, dtype),) = heard
    assert (sweep.text, out, device, dtype) == (f"{file_on(page)}\n", roots / "out", "auto", "auto")
    assert "1 done, 1 failed." in texts(page)
    assert [read(one.value) for one in page.warning] == ["no *room*"]
    button(page, "Show loss against memory").click().run()
    assert not page.exception
    assert page.title[0].value == "Loss against memory"
    assert "kv=int4" in texts(page)
    assert json.loads(page.query_params["tradeoff"])["folder"] == str(roots / "out")
    go(page, "sweep")  # and back: the same file
    assert f"{file_on(page)}\n" == sweep.text
    page.text_input(key="sweep seeds").set_value("0, 1").run()
    assert "It is the table of another file" in texts(page)
    (roots / "none").mkdir()
    (roots / "none" / "something").write_text("")
    page.text_input(key="sweep out").set_value(str(roots / "none")).run()
    button(page, "Start the sweep").click().run()
    assert f"{roots / 'none'}: exists and is not a sweep; choose a new folder" in texts(page)


def test_a_cancelled_sweep_goes_on(app, roots, monkeypatch):
    """A sweep of the demo with planted evaluations, stopped behind its first cell, which stands in its table."""
    from pages.state.session import manager

    compute = one_process.run_cell

    def then_cancelled(*args, **options):
        row = compute(*args, **options)
        if row is not None:
            manager().cancel(manager().busy().key)
        return row

    page = opened(app, formats=("int4", "q4_0"), remedies=("none",), folder=str(roots / "out"), lengths="64", windows=2)
    with monkeypatch.context() as patched:
        patched.setattr(one_process, "run_cell", then_cancelled)
        clicked(page, "Start the sweep")
    assert "cancelled" in texts(page)
    assert "1 done, 1 not run." in texts(page)
    made = {file: file.stat().st_mtime_ns for file in (roots / "cells").glob("*/evaluation_untuned.json")}
    clicked(page, "Start the sweep")
    assert "2 done." in texts(page)
    assert all(file.stat().st_mtime_ns == at for file, at in made.items())
    assert "as 2 finished cells of the same models took" in texts(page)


def test_two_thousand_cells_are_counted(app, roots):
    page = opened(
        app,
        seeds=", ".join(map(str, range(125))),
        formats=("int2", "int3", "int4", "int8"),
        remedies=("none", "scales", "rotation", "scales+angles"),
    )
    assert "**2,000 cells**" in texts(page)
    page.number_input(key="sweep minutes").set_value(5).run()
    assert not page.exception
    assert "budget: {minutes: 5}" in file_on(page)
