"""The command `tradeoff` on a planted sweep: its table, its sentence, its files, and what it refuses."""

import json

import pytest

from tests.cli.command import printed, refused
from tests.helpers.planted_sweep import write_sweep


@pytest.fixture
def sweep(tmp_path):
    """A finished sweep with its cells."""
    write_sweep(tmp_path / "sweep", tmp_path / "cells")
    return tmp_path


def asked(sweep, *more):
    return ("tradeoff", sweep / "sweep", "--cells", sweep / "cells", *more)


def test_it_prints_the_table_and_the_cheapest_and_writes_both_files(capfd, sweep):
    said = printed(capfd, *asked(sweep, "--length", 32768, "--batch", 8, "--out", sweep / "out"))
    assert "demo, yarn ×4, 256 tokens of technical, seed 0; GB at 32,768 tokens x 8" in said
    assert "The cheapest format that loses less than 0.05 nats is kv=q4_0, rotation: +0.0405 [" in said
    assert f"{576 * 32768 * 8 / 1e9:.3g}" in said
    assert "chosen; front" in said
    assert "How it is served is not known here" in said  # planted cells have no manifest
    assert said.endswith(f"written to {sweep / 'out'}\n")
    assert sorted(path.name for path in (sweep / "out").iterdir()) == ["tradeoff.csv", "tradeoff.html"]


def test_json_has_every_point(capfd, sweep):
    said = json.loads(printed(capfd, *asked(sweep, "--max-loss", 0.02, "--json")))
    (one,) = said["setups"]
    assert one["chosen"] == {"quantizer": "kv=q8_0", "remedy": "none"}
    assert [point["bytes_per_token"] for point in one["points"]] == [320, 576, 576, 640, 1088, 2048]
    assert one["serving"] is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--max-loss", "-1"), "--max-loss: must be at least 0 and finite, got -1; give 0 or more"),
        (("--batch", "0"), "--batch: must be at least 1 and finite, got 0; give 1 or more"),
        (("--length", "0"), "--length: must be at least 1 and finite, got 0; give 1 or more"),
        (("--loss", "ppl"), "--loss: unknown loss 'ppl'; choose one of nll, kl, needles"),
        (("--loss", "needles"), "--loss needles: a sweep tests no retrieval; give a folder of runs that tested"),
    ],
)
def test_a_slip_gets_one_line(capfd, sweep, options, line):
    assert refused(capfd, *asked(sweep, *options)).startswith(line)


def test_a_folder_of_something_else_gets_one_line(capfd, sweep):
    (sweep / "other").mkdir()
    assert "holds neither a sweep nor runs" in refused(capfd, "tradeoff", sweep / "other")
    assert "no such folder" in refused(capfd, "tradeoff", sweep / "none")
    (sweep / "other" / "mine.txt").write_text("")
    said = refused(capfd, *asked(sweep, "--out", sweep / "other"))
    assert said == f"{sweep / 'other'}: exists and holds something else; choose a new folder"
