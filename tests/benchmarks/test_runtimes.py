"""Cells and rows of the table of runtimes, on answers that were made up."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks import __main__, hub_readers, lm_eval_reader, runtimes
from docs import tables
from qroar_core.errors import BadSpec
from qroar_core.models.runtimes.run import Answer

WANTED = Answer([-1.0, -2.0], [], greedy=(3, 4, 5))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Answer([-1.0, -2.0], [], greedy=(3, 4, 5)), "0.0e+00 (0.0e+00), 3"),
        (Answer([-1.25, -2.0], [], greedy=(3, 9, 5)), "2.5e-01 (1.2e-01), 1"),
        (Answer([-1.0, -2.0], [], greedy=(3, 4)), "0.0e+00 (0.0e+00), 2"),
        (Answer([math.nan, -2.0], [], greedy=(3, 4, 5)), "1 of 2 are NaN"),
        (Answer([], [], "ValueError: no"), "refused"),
    ],
)
def test_a_cell(found, said):
    assert runtimes.cell(found, WANTED) == said


def test_rows_are_kept_and_read_again_at_the_same_setup_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "KEPT", tmp_path / "rows" / "rows.jsonl")
    assert runtimes.kept_rows("mlx") == {}
    row = {"setup": runtimes.setup_of("mlx"), "rope": "yarn", "version": "0.32.2", "cells": ["a"], "errors": []}
    runtimes.keep(row)
    runtimes.keep(row | {"rope": "ntk", "setup": row["setup"] | {"tokens": 5}})
    assert runtimes.kept_rows("mlx") == {"yarn": row}
    assert runtimes.kept_rows("vllm") == {}


def test_what_a_reader_makes_of_an_export_is_one_of_three_kinds():
    near, far = Answer([-1.0, -2.0 - 9e-5], []), Answer([-1.0, -2.1], [])
    kinds = [hub_readers.kind_of(one, WANTED, 1e-4) for one in (near, far, Answer([], [], "no"))]
    assert kinds == list(hub_readers.KINDS)
    assert hub_readers.kind_of(Answer([math.nan, -2.0], []), WANTED, 1e-4) == "other numbers"


def test_a_runtime_that_is_not_there_is_a_line_that_installs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path))
    with pytest.raises(BadSpec, match=r"^transformers4: transformers 4\.57 is not installed; pip install --no-deps"):
        runtimes.main("transformers4")
    assert __main__.main(["runtimes.transformers4", "runtimes.hub.transformers4"]) == 2
    assert capsys.readouterr().out.count("is not installed; pip install") == 2


def test_the_document_shows_kept_tables_under_one_head(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    for name, version in (("vllm", "0.32.0"), ("mlx", "0.32.2")):
        text = f"# x\n\nmade\n\n| runtime | none |\n|---|---|\n| {name} {version} | 1 |\n\n- a note\n\n| other |\n"
        (tmp_path / f"runtimes.{name}.md").write_text(text)
    assert tables.kept_table(["runtimes.vllm", "runtimes.gone", "runtimes.mlx"]) == (
        "| runtime | none |\n|---|---|\n| vllm 0.32.0 | 1 |\n| mlx 0.32.2 | 1 |"
    )
    assert tables.measured_table().splitlines()[2:] == ["| vllm 0.32.0 | 1 |", "| mlx 0.32.2 | 1 |"]


def test_kept_rows_can_be_read_by_anyone():
    for line in runtimes.KEPT.read_text().splitlines():
        row = json.loads(line)
        assert len(row["cells"]) == len(runtimes.TRANSFORMS)


@pytest.mark.parametrize(("one", "other", "same"), [([1, 2, 3], [1, 2, 3], 3), ([1, 2, 3], [1, 5, 3], 1), ([1], [], 0)])
def test_greedy_tokens_count_up_to_the_first_difference(one, other, same):
    assert runtimes.alike(one, other) == same


def test_the_harness_missing_is_one_line(monkeypatch):
    monkeypatch.setattr(lm_eval_reader, "find_spec", lambda name: None)
    with pytest.raises(BadSpec, match=r"^runtimes\.lm_eval: lm-evaluation-harness is not installed; pip install"):
        lm_eval_reader.main()


def test_the_kept_table_of_the_harness_agrees_but_for_dynamic_ntk():
    lines = (__main__.RESULTS / "runtimes.lm_eval.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| 0.")]
    assert len(rows) == 6 * 3
    for row in rows:
        values = [float(cell) for cell in row[3:6]]
        assert max(values) / min(values) - 1 < (1e-4 if row[1] == "dynamic" else 1e-6)
        assert values[1] == pytest.approx(values[2], abs=1.1e-5)
