"""The Trade-off page: a planted sweep, its sentence, its figure and a point with its run."""

import json

import pytest

from qroar_core.runs.folder import RunFolder
from qroar_core.setting import default_setting
from qroar_core.setup import quantization
from qroar_core.specs import RopeSpec
from tests.helpers.planted_sweep import write_sweep
from tests.pages.visitor import button, clicked, go, read, texts, titles, visit

pytestmark = pytest.mark.slow
CHOSEN = "The cheapest format that loses less than 0.05 nats is kv=q4_0, rotation: +0.0405 "


@pytest.fixture
def planted(tmp_path, monkeypatch, demo_model):
    """A sweep's folder whose cells of q4_0 are runs of the demo model."""
    monkeypatch.setenv("QROAR_CELLS", str(tmp_path / "cells"))
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    rows = write_sweep(tmp_path / "sweep", tmp_path / "cells")
    setting = default_setting(demo_model, RopeSpec("yarn", 4.0), quantization(kv="q4_0"), 256)
    for one in rows:
        if one.quantizer == "kv=q8_0":
            found = default_setting(demo_model, RopeSpec("yarn", 4.0), quantization(kv="q8_0"), 256)
            RunFolder.open(tmp_path / "made", demo_model, found, "made by a sweep")
            (tmp_path / "made" / "manifest.json").rename(tmp_path / "cells" / one.run / "manifest.json")
            (tmp_path / "cells" / one.run / "evaluation_untuned.json").unlink()  # what is planted is no whole result
    assert setting.quant.k is not None
    return tmp_path


def opened(app, folder):
    go(app, "tradeoff")
    app.text_input(key="sweep folder path").set_value(str(folder))
    return clicked(app, "Open sweep")


def test_without_a_sweep_it_says_what_to_do(app):
    go(app, "tradeoff")
    assert "No sweep is opened yet" in texts(app)
    assert "Write the file of a sweep, and start it" in [link.proto.label for link in app.get("page_link")]


def test_a_planted_sweep_shows_its_sentence_front_and_table(app, planted):
    opened(app, planted / "sweep")
    assert read(app.success[0].value).startswith(f"**{CHOSEN}")
    assert "kv=q4_0, rotation is the cheapest that loses less than 0.05 nats" in titles(app)
    table = app.dataframe[0].value.set_index(["quantizer", "remedy"])
    assert table.loc[("kv=q4_0", "rotation"), "role"] == "chosen; front"
    assert table.loc[("kv=int4", "none"), "role"] == "front, gain not significant"
    drawn = json.loads(app.get("plotly_chart")[0].proto.spec)
    lines = {trace["name"]: trace for trace in drawn["data"]}
    assert len(lines["front"]["x"]) == 5
    assert drawn["layout"]["xaxis"]["type"] == "log"
    assert json.loads(app.query_params["tradeoff"])["folder"] == str(planted / "sweep")


def test_limit_length_and_texts_change_the_choice_and_the_memory(app, planted):
    opened(app, planted / "sweep")
    app.number_input(key="tradeoff limit").set_value(0.02)
    app.number_input(key="tradeoff length").set_value(32_768)
    app.number_input(key="tradeoff batch").set_value(8).run()
    size = 1088 * 32_768 * 8 / 1e9
    ends = "[+0.0084, +0.0126], at 1,088 bytes a token"
    assert f"is kv=q8_0: +0.0105 {ends}, {size:.3g} GB at 32,768 tokens x 8" in texts(app)
    assert "Losses were measured at 256 tokens, not at 32,768" in texts(app)
    app.number_input(key="tradeoff limit").set_value(0.0001).run()
    assert "No quantized cache is shown to lose less than 0.0001 nats" in texts(app)
    again = visit(app, **dict(app.query_params.items()))  # a reload
    go(again, "tradeoff")
    assert "No quantized cache is shown to lose less than 0.0001 nats" in texts(again)


def test_a_point_leads_to_its_run_and_its_commands(loaded_app, planted):
    app = opened(loaded_app, planted / "sweep")
    points = app.selectbox(key="tradeoff point")
    points.set_value(points.options.index("kv=q8_0")).run()
    shown = [code.value for code in app.code]
    assert "python -m qroar_core export demo --rope yarn --factor 4 --out checkpoint" in shown
    assert any("--cache-type-k q8_0 --cache-type-v q8_0" in one for one in shown)
    assert "kv=q8_0**: +0.0105" in texts(app)
    button(app, "Open its run").click().run()
    assert not app.exception
    assert app.title[0].value == "Runs", texts(app)
    go(app, "tradeoff")  # and back: the same sweep is open
    assert CHOSEN in texts(app)


def test_a_cell_that_is_not_here_has_no_commands(app, planted):
    opened(app, planted / "sweep")
    assert "How it is served is not known here" in texts(app)  # the planted cell of q4_0 has no manifest


def test_another_loss_and_a_folder_that_is_none_get_one_line(app, planted):
    opened(app, planted / "sweep")
    app.segmented_control(key="tradeoff loss").set_value("needles").run()
    assert "a sweep tests no retrieval" in texts(app)
    app.text_input(key="sweep folder path").set_value(str(planted / "nothing"))
    clicked(app, "Open sweep")
    assert "no such folder" in texts(app)
    app.text_input(key="sweep folder path").set_value("/etc")
    clicked(app, "Open sweep")
    assert "outside the folders this dashboard may touch" in texts(app)


def test_two_thousand_cells_are_a_small_figure(app, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CELLS", str(tmp_path / "cells"))
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    losses = {
        (f"kv={at}", remedy): (100.0 + at, tuple(1 / (1 + at) + 0.001 * k + 0.0001 * w for w in range(4)))
        for at in range(500)
        for k, remedy in enumerate(("none", "scales", "rotation", "scales+angles"))
    }
    write_sweep(tmp_path / "sweep", tmp_path / "cells", losses)
    opened(app, tmp_path / "sweep")
    app.selectbox(key="tradeoff point").set_value(1700).run()
    assert not app.exception
    drawn = app.get("plotly_chart")[0].proto.spec
    assert len(drawn) < 2_000_000  # what it costs: `python -m benchmarks dashboard`
