"""`--tie auto` on the command line: chosen, searched, written, and known to later commands from the scales."""

import json

import pytest

from qroar_core.__main__ import main
from qroar_core.errors import Cancelled
from qroar_core.interpolations.tie import parse_ties
from qroar_core.scale_search import run as stage
from tests.cli.command import printed, read, refused

pytestmark = pytest.mark.slow

ROPE = ("--rope", "yarn", "--factor", "4")
SMALL = ("--windows", "4", "--length", "512", "--k", "int3")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ties") / "D"
    assert main(["search", "demo", *ROPE, *SMALL, "--tie", "auto", "--maps", "--out", str(folder)]) == 0
    return folder


def test_the_choice_is_kept_beside_the_scales_that_were_searched_under_it(searched):
    choice, scales = read(searched, "ties.json"), read(searched, "scales.json")
    groups = [(one["first"], one["last"], one["turn"]) for one in choice["groups"]]
    assert groups
    assert [(one["first"], one["last"], one["turn"]) for one in scales["rope"]["tie"]] == groups
    assert [(one["first"], one["last"]) for one in scales["maps"]] == [one[:2] for one in groups]
    assert [one["length"] for one in choice["costs"]] == [128, 256, 512]
    assert [one["allowed"] for one in choice["costs"]] == [0.005, 0.005, 0.01]
    assert all(one["nats"] <= one["allowed"] for one in choice["costs"])


def test_an_export_with_these_scales_needs_no_tie_named(searched, tmp_path, capfd):
    out = tmp_path / "checkpoint"
    assert main(["export", "demo", *ROPE, "--scales", str(searched / "scales.json"), "--out", str(out)]) == 0
    capfd.readouterr()
    checks = json.loads(printed(capfd, "verify", out, "--json"))
    assert [check["passed"] for check in checks] == [True] * len(checks)
    factors = read(out, "config.json")["rope_parameters"]["long_factor"]
    theta = read(out, "config.json")["rope_parameters"]["rope_theta"]
    native = [theta ** (-i / len(factors)) for i in range(len(factors))]
    for one in read(searched, "ties.json")["groups"]:
        here = range(one["first"], one["last"] + 1)
        speeds = [native[i] / factors[i] for i in here]
        assert speeds == pytest.approx([speeds[0]] * len(here), rel=1e-6)


def test_another_interpolation_takes_no_tie_from_the_scales(searched, tmp_path, capfd):
    arguments = ("--rope", "yarn", "--factor", "2", "--scales", searched / "scales.json", "--out", tmp_path / "x")
    assert "run with the --tie that they were searched under" in refused(capfd, "export", "demo", *arguments)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("search", "demo", "--tie", "auto", "--maps"), "--tie: tied pairs change an interpolation, and none is named"),
        (("search", "demo", *ROPE, "--tie", "auto"), "--tie: a tie only makes room for maps; add --maps"),
        (("diagnose", "demo", *ROPE, "--tie", "auto"), "--tie: groups are chosen before a search"),
        (("search", "demo", *ROPE, "--tie", "auto", "--maps", "--k", "none", "--v", "int4"), "--tie auto: ties are"),
    ],
)
def test_where_nothing_can_be_chosen_one_line_says_why(command, said, capfd):
    assert refused(capfd, *command).startswith(said)


def test_an_interpolation_that_the_scales_do_not_say_is_one_line(searched, tmp_path, capfd):
    raw = read(searched, "scales.json")
    raw["rope"]["bend"] = 2.0
    (tmp_path / "scales.json").write_text(json.dumps(raw))
    line = refused(capfd, "export", "demo", *ROPE, "--scales", tmp_path / "scales.json", "--out", tmp_path / "x")
    assert line.startswith("its rope block is not understood")
    assert not (tmp_path / "x").exists()


def test_a_search_that_is_stopped_at_its_last_measurement_keeps_what_it_found(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise Cancelled("gain")

    monkeypatch.setattr(stage, "measure_gain", stopped)
    out, tied = tmp_path / "D", ("--tie", "13-18", "--maps")
    assert main(["search", "demo", *ROPE, *SMALL, *tied, "--out", str(out)]) == 130
    scales = read(out, "scales.json")
    assert scales["search"]["partial"] is True
    assert [one["first"] for one in scales["maps"]] == [13]


def test_a_tie_is_read_as_it_is_written(searched):
    choice = read(searched, "ties.json")
    final = choice["tried"][-1]["tie"]
    assert [(t.first, t.last, t.turn) for t in parse_ties(final)] == [
        (one["first"], one["last"], one["turn"]) for one in choice["groups"]
    ]
