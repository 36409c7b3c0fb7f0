"""`retrieve` on the command line: the table, the JSON, the file, and wrong values before any model is read."""

import json

import pytest

from qroar_core.retrieval.result import Retrieval
from tests.cli.command import printed, refused
from tests.helpers import planted_retrieval


@pytest.fixture
def asks(stages):
    from qroar_core.retrieval import run as retrieve

    asked = []

    def fake(loaded, setting, scales, spec, documents, on_step=None):
        asked.append((setting.rope, setting.quant, scales, spec))
        return planted_retrieval.retrieval()

    stages.patch(retrieve, "run", fake)
    return asked


def test_options_become_the_spec_and_the_result_a_file_and_a_table(capfd, asks, tmp_path):
    out = printed(
        capfd,
        "retrieve",
        "demo",
        "--tasks",
        "needles",
        "--depths",
        "100,0,50",
        "--trials",
        3,
        "--slack",
        12,
        "--lengths",
        "256,512",
        "--no-chat",
        "--seed",
        4,
        "--out",
        tmp_path / "r",
    )
    ((rope, quant, scales, spec),) = asks
    assert (rope.method, quant.k.bits, scales) == ("yarn", 4, None)
    assert (spec.tasks, spec.depths, spec.lengths) == (("needles",), (0.0, 0.5, 1.0), (256, 512))
    assert (spec.trials, spec.slack, spec.chat, spec.seed) == (3, 12, False, 4)
    result = planted_retrieval.retrieval()
    assert Retrieval.from_file(tmp_path / "r" / "retrieval.json").findings == result.findings
    assert result.findings[0].sentence in out
    for cell in result.cells:
        where = ["all", "all"] if cell.length is None else [str(cell.length), f"{cell.depth:.0%}"]
        row = next(line.split() for line in out.splitlines() if line.split()[:4] == [*where, cell.model, cell.scales])
        assert row[4:8] == [
            f"{cell.hits}/{cell.trials}",
            str(cell.cut_off),
            str(cell.no_number),
            f"{cell.chosen}/{cell.trials}",
        ]
        assert row[8] == f"{cell.log_prob:+.3f}"


def test_without_options_the_lengths_are_the_evaluations(capfd, asks):
    told = json.loads(printed(capfd, "retrieve", "demo", "--json"))
    assert asks[0][3].lengths == (256, 1024)
    assert asks[0][3].depths == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert told["findings"][0]["significant"] is True
    assert "trials" not in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--depths", "0,x"], "--depths: not a list of percents: '0,x'; write for example 0,50,100"),
        (["--depths", "120"], "a depth is 0 to 100 percent of the text, got 120"),
        (["--tasks", "haystack"], "unknown task 'haystack'; choose one of passkey, needles"),
        (["--trials", "0"], "--trials: must be at least 1, got 0; give a larger number"),
        (["--slack", "0"], "slack must be at least 1"),
        (["--lengths", "1"], "--lengths"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_before_loading(capfd, monkeypatch, arguments, said):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))
    assert said in refused(capfd, "retrieve", "demo", *arguments)
