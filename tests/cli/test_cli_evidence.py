"""`controls` and `replicate` on the command line: options, tables, files, and wrong values before any model is read."""

import json

import pytest

from qroar_core.evidence.controls.result import Controls
from qroar_core.evidence.replication.result import Replication
from tests.cli.command import printed, refused
from tests.helpers import planted_evidence


@pytest.fixture
def asks(stages):
    from qroar_core.evidence.controls import run as controls
    from qroar_core.evidence.replication import run as replicate
    from qroar_core.scale_search import search_without_decision
    from qroar_core.transforms.scales import identity

    asked = {"control": [], "replication": [], "search": []}

    def control(loaded, setting, scales, spec, texts, diagnosis, on_step):
        asked["control"].append((setting, scales, spec))
        return planted_evidence.controls()

    def replication(loaded, setting, pairs, spec, texts, on_step, tasks=None):
        asked["replication"].append((setting, pairs, spec))
        asked["tasks"] = tasks
        return planted_evidence.replication()

    def searched(loaded, setting, texts, diagnosis, on_step):
        asked["search"].append((setting.rope, setting.quant, setting.search))
        return identity(1, 1, ((0, 1),))

    stages.patch(controls, "run", control)
    stages.patch(replicate, "run", replication)
    stages.patch(search_without_decision, "find_scales", searched)
    return asked


def test_controls_searches_first_and_prints_every_control(capfd, asks, tmp_path):
    out = printed(
        capfd,
        "controls",
        "demo",
        "--shuffles",
        4,
        "--other-seeds",
        2,
        "--other-texts",
        "novels,technical",
        "--formats",
        "float16",
        "--seed",
        5,
        "--windows",
        3,
        "--out",
        tmp_path / "c",
    )
    ((setting, _, spec),) = asks["control"]
    assert (setting.rope.method, setting.quant.k.bits) == ("yarn", 4)
    assert (spec.shuffles, spec.seeds, spec.collections) == (4, (6, 7), ("novels", "technical"))
    assert (spec.dtypes, spec.windows, spec.seed) == (("float16",), 3, 5)
    ((_, _, searched),) = asks["search"]
    assert searched.seed == 5
    result = planted_evidence.controls()
    assert Controls.from_file(tmp_path / "c" / "controls.json").findings == result.findings
    for control in result.controls:
        assert f"{control.name} " in out
        assert f"{control.gain.mean:+z.4f} nats [{control.gain.low:+z.4f}, {control.gain.high:+z.4f}]" in out
    assert all(finding.sentence in out for finding in result.findings)


def test_replicate_tests_every_method_with_every_quantizer(capfd, asks, tmp_path):
    out = printed(
        capfd,
        "replicate",
        "demo",
        "--rope",
        "yarn",
        "--factor",
        2,
        "--methods",
        "linear,yarn",
        "--quantizers",
        "int4,int3",
        "--tolerance",
        0.02,
        "--windows",
        3,
        "--out",
        tmp_path / "r",
    )
    ((_, pairs, spec),) = asks["replication"]
    assert [(rope.method, rope.factor, quant.k.bits) for rope, quant in pairs] == [
        ("linear", 2.0, 4),
        ("yarn", 2.0, 4),
        ("linear", 2.0, 3),
        ("yarn", 2.0, 3),
    ]
    assert (spec.tolerance, spec.windows) == (0.02, 3)
    assert Replication.from_file(tmp_path / "r" / "replication.json") == planted_evidence.replication()
    assert out.count("18.1 % [16.0, 20.2]") == 2
    assert out.count("not testable here") == 4


def test_without_lists_the_setting_itself_is_tested_and_json_is_whole(capfd, asks):
    told = json.loads(printed(capfd, "replicate", "demo", "--json"))
    ((setting, pairs, _),) = asks["replication"]
    assert pairs == [(setting.rope, setting.quant)]
    assert [case["claims"][0]["verdict"] for case in told["cases"]] == ["holds", "holds"]
    told = json.loads(printed(capfd, "controls", "demo", "--formats", "none", "--json"))
    assert asks["control"][0][2].dtypes == ()
    assert told["controls"][0]["kind"] == "tuned"
    assert "window_nll" not in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["controls", "--other-texts", "poems"], "--other-texts: unknown collection 'poems'; choose from messages"),
        (["controls", "--other-seeds", "-1"], "--other-seeds: must be at least 0"),
        (["controls", "--shuffles", "0"], "shuffles must be at least 1"),
        (["controls", "--formats", "int8"], "unknown number format 'int8'; choose from bfloat16, float16"),
        (["replicate", "--methods", "spline", "--rope", "yarn", "--factor", "2"], "unknown rope method 'spline'"),
        (["replicate", "--quantizers", "int9"], "--quantizers"),
        (["replicate", "--tolerance", "-1"], "tolerance must be at least 0"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_before_loading(capfd, monkeypatch, arguments, said):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))
    command, *rest = arguments
    assert said in refused(capfd, command, "demo", *rest)


def test_tasks_are_what_accuracy_is_claimed_on(capfd, asks, monkeypatch):
    from qroar_core.harness import tasks

    monkeypatch.setattr(tasks, "require_installed", lambda: None)
    printed(capfd, "replicate", "demo", "--k", "int4", "--tasks", "hellaswag", "--limit", 7)
    assert (asks["tasks"].tasks, asks["tasks"].limit) == (("hellaswag",), 7)
    printed(capfd, "replicate", "demo", "--k", "int4")
    assert asks["tasks"] is None
    line = refused(capfd, "replicate", "demo", "--limit", 7)
    assert line == "--limit: has nothing to act on; add --tasks hellaswag, or a YAML file"
