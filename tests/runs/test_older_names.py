"""Files and links of before 2026-11-30 call some fields by other names; they mean what they did."""

import json

import pytest

from pages.state.choice import Choice, from_address
from qroar_core.errors import BadOutput
from qroar_core.remedies.result import Comparison
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.record import read_record
from qroar_core.runs.stage_files import file_of
from qroar_core.specs import SearchSpec
from tests.helpers import planted_comparison
from tests.runs.kept import keep_all

BEFORE = {"judge": "logits", "kappa0": 2.5, "eta": 0.25, "tau_tail": 0.5, "shrink": 0.125}
TODAY = dict(
    zip(BEFORE, ("error_metric", "max_log2_scale", "pressure_weight", "tail_weight", "l2_penalty"), strict=True)
)
NOW = SearchSpec(error_metric="logits", max_log2_scale=2.5, pressure_weight=0.25, tail_weight=0.5, l2_penalty=0.125)


def test_a_run_of_before_opens_with_its_search_as_it_was(root, loaded, setting):
    keep_all(loaded, setting)
    (folder,) = root.iterdir()
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["specs"]["search"].keys().isdisjoint(BEFORE)  # written under today's names
    search = {name: value for name, value in manifest["specs"]["search"].items() if name not in TODAY.values()}
    manifest["specs"]["search"] = search | BEFORE
    path.write_text(json.dumps(manifest))
    found = read_record(folder).setting.search
    assert {name: getattr(found, now) for name, now in TODAY.items()} == BEFORE


def test_a_run_of_before_is_taken_up_again_and_only_under_the_same_search(tmp_path, loaded, setting):
    first = RunFolder.open(tmp_path / "run", loaded, setting, "qroar run x")
    first.save("report.html", "<html></html>", "report", 1.0)
    path = first.path / "manifest.json"
    manifest = json.loads(path.read_text())
    formerly = {now: before for before, now in TODAY.items()}
    manifest["specs"]["search"] = {formerly.get(name, name): v for name, v in manifest["specs"]["search"].items()}
    path.write_text(json.dumps(manifest))
    assert RunFolder.open(first.path, loaded, setting, "qroar run x").manifest.stages == {"report": 1.0}
    manifest["specs"]["search"]["eta"] += 0.25
    path.write_text(json.dumps(manifest))
    with pytest.raises(BadOutput, match=r"another setting \(search\)"):
        RunFolder.open(first.path, loaded, setting, "qroar run x")


def test_a_link_of_before_asks_for_the_same_search():
    assert from_address({"search": json.dumps(BEFORE)}).search == NOW
    assert from_address({"search": json.dumps({"max_log2_scale": 2.5})}).search == SearchSpec(max_log2_scale=2.5)


@pytest.mark.parametrize("text", ["[" * 3999, "{", '{"kappa0": -1}', "NaN", '{"kappa1": 2}x'])
def test_a_link_that_cannot_be_read_asks_for_nothing(text):
    assert from_address({"search": text}) == Choice()


def test_a_comparison_of_before_holds_its_rows(tmp_path):
    made = planted_comparison.comparison().as_written()
    old = json.loads(made.to_json())
    old["standings"] = old.pop("rows")
    (tmp_path / "comparison.json").write_text(json.dumps(old))
    assert Comparison.from_file(tmp_path / "comparison.json").rows == made.rows


def test_a_run_that_names_a_younger_field_which_says_nothing_opens(root, loaded, setting):
    """Manifests of 2026-11-29 say `maps: false`; today's leave it out."""
    keep_all(loaded, setting)
    (folder,) = root.iterdir()
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert "maps" not in manifest["specs"]["search"]
    manifest["specs"]["search"]["maps"] = False
    manifest["specs"]["rope"]["tie"] = []
    path.write_text(json.dumps(manifest))
    record = read_record(folder)
    assert record.problem == ""
    assert record.setting.search.maps is False


def test_per_channel_keys_are_kvquant_s(tmp_path):
    """In a kept comparison, in a link, and in the name of the file that a question is found by."""
    made = planted_comparison.comparison().as_written()
    text = made.to_json()
    assert '"kvquant"' in text
    (tmp_path / "comparison.json").write_text(text.replace('"kvquant"', '"per_channel"'))
    assert Comparison.from_file(tmp_path / "comparison.json").rows == made.rows
    asked = from_address({"comparison": json.dumps({"methods": ["per_channel", "rotation"]})}).comparison
    assert asked.methods == ("kvquant", "rotation")
    key = ("compare", "checksum", "cpu", "float32", "messages", asked)
    assert file_of(key) == "compare-3d7e4432.json"  # as it was named on 2026-11-29
