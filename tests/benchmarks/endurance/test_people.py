"""Several people: what the checks of a server that was used by many see."""

import json

import pytest

from benchmarks.endurance.people import _on_disk, _settings, _still_there, differing
from benchmarks.endurance.resident import MIB, flat
from benchmarks.endurance.tally import Tally
from benchmarks.endurance.visitor import Visitor, setting_of


def samples(*levels):
    """A sample a second of these MiB, 20 of each in turn."""
    return [(float(at), levels[at // 20] * MIB) for at in range(20 * len(levels))]


def test_memory_that_grows_only_while_it_warms_up_is_flat():
    row = flat(samples(300, 500, 500, 500, 500, 500))
    assert (row.count, row.violations) == (120, [])
    assert row.worst == "500 to 500 MiB, +0.0%; +0 MiB an hour"


def test_memory_that_grows_afterwards_is_seen():
    row = flat(samples(300, 500, 500, 510, 520, 530))
    assert row.worst.startswith("500 to 530 MiB, +6.0%; +")
    assert len(row.violations) == 1
    assert flat(samples(300, 500, 500, 510, 520, 524)).violations == []
    steady = [(float(at), (100 + at) * MIB) for at in range(100)]
    assert flat(steady).worst.endswith("; +3600 MiB an hour")
    assert len(flat(samples(500)[:1]).violations) == 1


def run_of(runs, name, bands, factor, steps, *files):
    """A run folder as far as these checks look."""
    folder = runs / name
    folder.mkdir(parents=True)
    specs = {"search": {"bands": {"count": bands}, "steps": steps}, "rope": {"factor": factor}}
    (folder / "manifest.json").write_text(json.dumps({"specs": specs}))
    for file in files:
        (folder / file).write_text("{}")


@pytest.fixture
def second():
    """Visitor 1 has 3 bands, 41 steps and a factor from 3 to 4."""
    return Visitor(1, "", None, None)


def test_a_lost_result_is_named(tmp_path, second):
    assert (second.bands, second.factor, second.steps) == (3, 3.0, 41)
    second.asked = {(3.0, "search"), (3.0, "diagnosis"), (3.5, "evaluation")}
    run_of(tmp_path, "mine", 3, 3.0, 41, "diagnosis.json", "search.json")
    run_of(tmp_path, "mine-later", 3, 3.5, 41, "evaluation_untuned.json")
    assert _on_disk([second], tmp_path).violations == []
    (tmp_path / "mine" / "search.json").unlink()
    run_of(tmp_path, "of-another", 4, 4.0, 42, "search.json")
    row = _on_disk([second], tmp_path)
    assert (row.count, row.violations) == (3, [f"visitor 1, factor 3.0: no search in {tmp_path}"])


def test_a_run_of_two_peoples_settings_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.endurance.people.broken_files", lambda runs: [])
    run_of(tmp_path, "first", 2, 2.25, 40)
    run_of(tmp_path, "second", 3, 3.0, 41)
    assert _settings(tmp_path).violations == []
    run_of(tmp_path, "mixed", 3, 2.25, 41)
    run_of(tmp_path, "mixed-too", 3, 3.25, 40)
    assert [line.split(":")[0] for line in _settings(tmp_path).violations] == [
        str(tmp_path / "mixed"),
        str(tmp_path / "mixed-too"),
    ]


def test_a_result_that_goes_or_changes_is_named(tmp_path):
    row = Tally("")
    run_of(tmp_path, "run", 2, 2.0, 100, "diagnosis.json", "search.json")
    before = _still_there(row, tmp_path, {})
    assert _still_there(row, tmp_path, before) == before
    (tmp_path / "run" / "diagnosis.json").write_text("[]")
    (tmp_path / "run" / "search.json").unlink()
    _still_there(row, tmp_path, before)
    assert [line.rsplit(": ", 1)[1] for line in row.violations] == ["changed", "gone"]
    assert row.count == 4


def test_numbers_differ_whatever_the_seconds():
    assert differing({"seconds": 1, "a": [1.0]}, {"seconds": 2, "a": [1.0]}) == []
    assert differing({"a": [1.0], "b": 2}, {"a": [1.1], "c": 3}) == ["a", "b", "c"]


def test_what_an_address_says(second):
    address = 'http://h/tune?model=demo&bands={"count":3}&rope={"method":"yarn","factor":3.5}&search={"steps":41}'
    assert setting_of(address) == (3, 3.5, 41)
    assert setting_of("http://h/tune") == (None, None, None)
