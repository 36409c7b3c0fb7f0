"""The benchmarks' command: parts by name, tables kept with what made them, nothing kept of a part that failed."""

import datetime
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.headline_units import commit
from benchmarks.parts import chosen


@pytest.fixture
def parts(monkeypatch, tmp_path):
    def fails():
        sys.stdout.write("| half |\n")
        raise ValueError("no")

    monkeypatch.setattr(command, "PARTS", {"one": lambda: sys.stdout.write("| a |\n| 1.5 |\n"), "bad": fails})
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    # the documents' tables are those of the repository, and what is stale there has a test that must see it
    monkeypatch.setattr(command, "write_tables", lambda: (tmp_path / "documents").touch())
    return tmp_path / "results"


def test_a_kept_table_says_its_command_date_and_versions(parts, capsys):
    assert command.main(["--keep", "one"]) == 0
    assert parts.with_name("documents").exists()
    assert "| 1.5 |" in capsys.readouterr().out
    title, _, made, _, *table = (parts / "one.md").read_text().splitlines()
    assert (title, table) == ("# one", ["| a |", "| 1.5 |"])
    assert made.startswith("`python -m benchmarks --keep one`, ")
    assert str(datetime.date.today()) in made
    assert made.endswith(f", commit {commit()}.")
    assert f"torch {torch.__version__.split('+')[0]}" in made


def test_without_keep_nothing_is_written_and_an_unknown_part_is_named(parts, capsys):
    assert command.main(["one"]) == 0
    assert command.main(["two"]) == 2
    assert capsys.readouterr().err == "unknown part two; choose from one, bad\n"
    assert not parts.exists()
    assert not parts.with_name("documents").exists()


def test_of_a_part_that_fails_the_table_before_stays(parts):
    command.main(["--keep", "one"])
    (parts / "bad.md").write_text("before")
    with pytest.raises(ValueError, match="no"):
        command.main(["--keep", "bad"])
    assert (parts / "bad.md").read_text() == "before"


def test_a_name_stands_for_all_parts_below_it():
    def part():
        pass

    parts = dict.fromkeys(("one", "two.a", "two.b", "twofold"), part)
    assert chosen(["two"], parts) == ["two.a", "two.b"]
    assert chosen(["two.b", "one"], parts) == ["two.b", "one"]
    assert chosen([], parts) == list(parts)
    with pytest.raises(KeyError, match="tw"):
        chosen(["tw"], parts)


def test_minutes_are_handed_to_parts_that_can_be_resumed_and_refused_for_others(parts, monkeypatch, capsys):
    given = []
    command.PARTS["long"] = lambda minutes=None: given.append(minutes)
    monkeypatch.setattr(command, "RESUMED", ("long",))
    assert command.main(["long"]) == 0
    assert command.main(["--minutes", "2.5", "long"]) == 0
    assert given[0] is None
    assert given[1] == pytest.approx(2.5, abs=0.01)
    assert command.main(["long", "one", "--minutes", "2"]) == 2
    assert capsys.readouterr().err == "--minutes: one cannot be resumed; give it with long alone\n"
    assert len(given) == 2


def test_every_table_on_smollm2_names_its_reference():
    found = []
    for path in sorted(Path(command.__file__).parent.glob("*.py")):
        source = path.read_text()
        if path.name in ("checkpoint.py", "inplace.py", "gguf_memory.py", "__main__.py") or "def main" not in source:
            continue  # two of them name the file itself, and read no text
        if "smollm2" in source:
            found.append(path.name)
            assert any(way in source for way in ("smollm2_loaded()", "loaded_as(", "{ABOUT}")), path.name
    assert len(found) > 10
