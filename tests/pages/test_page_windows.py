"""Evaluate's form: full or sliding windows, on the page, in the address, on the command line."""

import json

import pytest

from qroar_core.cli.reproduce import run_command
from qroar_core.cli.settings import setting_of
from qroar_core.specs import EvaluationSpec
from tests.helpers import planted
from tests.pages.visitor import clicked, go, texts

pytestmark = pytest.mark.slow


def test_sliding_windows_are_asked_for_and_kept_in_the_address(loaded_app, stages):
    asked = []

    def evaluating(loaded, setting, tuned, smooth, documents, on_step=None, rotation_tuned=None):
        asked.append(setting.evaluation.stride)
        return planted.evaluation()

    stages.patch(stages.evaluate, "run", evaluating)
    go(loaded_app, "evaluate")
    assert loaded_app.selectbox(key="window kind").value == "full"
    assert loaded_app.number_input(key="stride").disabled
    assert loaded_app.number_input(key="stride").value == 128  # half the shortest length, 256
    clicked(loaded_app, "Evaluate")
    loaded_app.selectbox(key="window kind").select("sliding").run()
    loaded_app.number_input(key="stride").set_value(64).run()
    assert "Not run for this setup yet" in texts(loaded_app)
    clicked(loaded_app, "Evaluate")
    assert asked == [None, 64]
    assert json.loads(loaded_app.query_params["evaluation"])["stride"] == 64
    loaded_app.selectbox(key="window kind").select("full").run()
    assert loaded_app.number_input(key="stride").disabled


def test_a_stride_that_fills_the_shortest_length_is_said_and_changes_nothing(loaded_app):
    go(loaded_app, "evaluate")
    loaded_app.selectbox(key="window kind").select("sliding").run()
    loaded_app.number_input(key="stride").set_value(256).run()
    assert "a stride of 256 needs lengths above that, got 256" in texts(loaded_app)
    assert json.loads(loaded_app.query_params["evaluation"])["stride"] == 128


def test_the_command_line_spells_stride_and_targets(demo):
    setting = setting_of({"stride": 100, "targets": 300, "lengths": "256,512"}, demo)
    assert setting.evaluation == EvaluationSpec(
        lengths=(256, 512), windows=setting.evaluation.windows, stride=100, targets=300
    )
    command, left = run_command(demo, setting)
    assert left == []
    assert "--stride 100 --targets 300" in command
    assert "--stride" not in run_command(demo, setting_of({}, demo))[0]
