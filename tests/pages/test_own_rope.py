"""The checkpoint's own interpolation on the command line and on the Start page."""

from __future__ import annotations

import json

import pytest

from qroar_core.__main__ import main
from qroar_core.evaluation.result import Evaluation
from qroar_core.runs.folder import manifest_of
from qroar_core.runs.manifest import Manifest
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec
from tests.cli.command import printed
from tests.pages import visitor

OWN = {
    "rope_theta": 10_000.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = ("--rope", "yarn", "--factor", 2)


@pytest.fixture
def llama3(tiny, monkeypatch):
    """A model with an interpolation of its own, which every command and page loads."""
    from qroar_core.models import load

    loaded = tiny(rope_parameters=dict(OWN), max_position_embeddings=1024)
    monkeypatch.setattr(load, "run", lambda source, on_step=None, **options: loaded)
    return loaded


def test_info_shows_it(capfd, llama3):
    facts = json.loads(printed(capfd, "info", "demo", "--json"))
    assert facts["own_rope"] == "llama3 x8 (from 128)"
    assert (facts["original_context"], facts["max_position_embeddings"]) == (128, 1024)
    assert facts["original_context_from"] == "original_max_position_embeddings"
    assert "llama3 x8 (from 128)" in printed(capfd, "info", "demo")


@pytest.mark.parametrize(
    ("stage", "more", "file", "key"),
    [
        ("evaluate", ("--lengths", 64), "evaluation.json", "text"),
        ("diagnose", ("--length", 128), "diagnosis.json", "text"),
        ("search", ("--length", 128, "--windows", 2), "scales.json", "search"),
        ("retrieve", ("--trials", 1, "--lengths", 512), "retrieval.json", "text"),
        (
            "compare",
            ("--length", 128, "--windows", 2, "--methods", "rotation", "--no-band-scales"),
            "comparison.json",
            "text",
        ),
        ("predict", ("--length", 128, "--windows", 2), "prediction.json", "text"),
        ("replicate", ("--length", 128, "--windows", 2), "replication.json", "text"),
    ],
    ids=lambda x: x if isinstance(x, str) and "." not in x and x not in ("text", "search") else "",
)
def test_a_stage_says_what_its_rope_replaces(capfd, llama3, tmp_path, stage, more, file, key):
    out = printed(capfd, stage, "demo", *YARN, *more, "--out", tmp_path / "o")
    assert "; yarn x2 replaces llama3 x8 (from 128)" in out
    assert "yarn x2 replaces llama3 x8 (from 128)" in str(json.loads((tmp_path / "o" / file).read_text())[key])


def test_nothing_is_said_where_nothing_is_replaced(capfd, llama3, tmp_path):
    assert "replaces" not in printed(capfd, "evaluate", "demo", "--lengths", 32, "--out", tmp_path / "o")
    assert "replaces" not in Evaluation.from_file(tmp_path / "o" / "evaluation.json").text


def test_export_says_it_on_stderr_and_the_folder_alone_on_stdout(capfd, llama3, tmp_path):
    assert main([str(a) for a in ("export", "demo", *YARN, "--dtype", "float32", "--out", tmp_path / "o")]) == 0
    out, err = capfd.readouterr()
    assert out == f"{tmp_path / 'o'}\n"
    said = "qroar: the checkpoint's own interpolation was"
    assert f"{said} replaced: yarn x2 replaces llama3 x8 (from 128)\n" in err
    assert main(["export", "demo", "--out", str(tmp_path / "kept")]) == 0
    assert f"{said} kept: llama3 x8 (from 128)\n" in capfd.readouterr().err


def test_a_run_keeps_it_in_its_manifest(llama3):
    made = manifest_of(llama3, default_setting(llama3, RopeSpec("yarn", 2.0)), "")
    assert Manifest.model_validate_json(made.to_json()).replaces == "llama3 x8 (from 128)"


def test_the_start_page_shows_it_and_what_replaces_it(app, llama3):
    visitor.button(app, "Demo model").click().run()
    app = visitor.settled(app)
    said = visitor.texts(app)
    assert "own interpolation: llama3 x8 (from 128)" in said
    facts = dict(app.dataframe[0].value.values.tolist())
    assert facts["own interpolation"] == "llama3 x8 (from 128)"
    assert facts["max_position_embeddings"] == "1,024"
    app.selectbox(key="rope").set_value("yarn").run()
    assert "Replaces the checkpoint's own llama3 x8 (from 128)." in visitor.texts(app)
    app.switch_page("pages/noise.py")
    app.run()
    assert "YaRN ×4, replaces llama3 x8 (from 128)" in visitor.texts(app)


@pytest.fixture
def reopened(tiny, stages):
    """As an export of YaRN x4 from 256 tokens is, opened again: every page loads it."""
    block = {"rope_theta": 10_000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    loaded = tiny(rope_parameters=block, max_position_embeddings=1024)
    stages.patch(stages.load, "run", lambda source, on_step=None, **options: loaded)
    return loaded


def test_a_run_is_as_long_as_the_checkpoints_own_interpolation_promises(reopened):
    made = default_setting(reopened)
    assert (made.search.length, made.diagnosis.length, made.evaluation.lengths) == (1024, 1024, (256, 1024))
    assert default_setting(reopened, RopeSpec("linear", 2.0)).search.length == 512  # in its place, from 256


def test_pages_measure_the_length_that_the_checkpoints_own_interpolation_promises(app, reopened):
    """On Start, in the status bar, among Evaluate's lengths and in what Pressure shows of it."""
    visitor.button(app, "Demo model").click().run()
    app = visitor.settled(app)
    assert app.number_input(key="length").placeholder == "1,024, from the interpolation"
    visitor.go(app, "pressure")
    assert ["1024 tokens" in visitor.texts(app), "own RoPE: yarn x4 (from 256)" in visitor.texts(app)] == [True, True]
    visitor.go(app, "evaluate")
    assert app.multiselect(key="lengths").value == [256, 1024]
    assert "1024" in app.multiselect(key="lengths").options


def test_no_factor_of_another_model_stands_beside_the_checkpoints_own(app, llama3):
    """The field of a factor is gone: what stands in its place is what the config says, greyed, and says why."""
    visitor.button(app, "Demo model").click().run()
    visitor.settled(app)
    app.selectbox(key="rope").select("yarn").run()
    app.number_input(key="factor").set_value(6.0).run()
    app.selectbox(key="rope").select("default").run()
    assert not any(field.label == "Factor s" for field in app.number_input)
    (shown,) = [field for field in app.text_input if field.label == "Factor s"]
    assert (shown.value, shown.disabled) == ("llama3 x8 (from 128)", True)
    assert "Disabled: this method is the checkpoint's own interpolation" in shown.help
    app.selectbox(key="rope").select("linear").run()
    assert app.number_input(key="factor")
