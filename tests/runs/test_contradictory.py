"""A run file that contradicts itself is refused in one line, or everything that is drawn from it still draws.

One entry at a time is removed, emptied, lengthened, or given another kind of value. The quick test takes a sample, the
slow one reads every change and draws a sample of what passes: drawing takes a hundred times as long as reading. Of
lists that are indexed alike the first row stands for all.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import get_args, get_origin

import pytest

from pages.state.choice import restored
from pages.views.runs import _line
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadOutput, QRoarError
from qroar_core.evaluation.result import Evaluation
from qroar_core.evidence.controls.result import Controls
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.evidence.replication.result import Replication
from qroar_core.remedies.result import Comparison
from qroar_core.result import Result
from qroar_core.result_shapes import Axes, _axes_of, contradiction
from qroar_core.retrieval.result import Retrieval
from qroar_core.runs.record import read_record
from qroar_core.runs.store import RunStore
from qroar_core.scale_search.result import SearchReport
from qroar_core.transforms.result import ScalesFile
from tests.helpers import (
    planted,
    planted_comparison,
    planted_evidence,
    planted_prediction,
    planted_retrieval,
    planted_rope_search,
)
from tests.runs import drawn
from tests.runs.kept import keep_all, keys
from tests.runs.kept_evidence import keep
from tests.runs.mutations import mutations

FILES = {  # of a run: a whole one, and what is drawn from it
    "diagnosis.json": (planted.diagnosis, drawn.of_diagnosis),
    "search.json": (planted.report, drawn.of_search),
    "scales.json": (planted.scales, drawn.of_scales),
    "scales, by layer": (lambda: planted.scales("layer"), drawn.of_scales),
    "scales, of the model": (lambda: planted.scales("model"), drawn.of_scales),
    "evaluation.json": (planted.evaluation, drawn.of_evaluation),
    "retrieval.json": (planted_retrieval.retrieval, drawn.of_retrieval),
    "compare": (planted_comparison.comparison, drawn.of_comparison),
    "controls": (planted_evidence.controls, drawn.of_controls),
    "replicate": (planted_evidence.replication, drawn.of_replication),
    "predict": (planted_prediction.prediction, drawn.of_prediction),
    "tune_rope": (planted_rope_search.rope_search, drawn.of_rope_search),
}
SAMPLE = 12  # one change in so many, in the quick test
DRAWN = 4  # one change in so many of those that pass, in the slow one
WHY = {
    "pipe": "it is a pipe, no plain file",
    "link to /dev/null": "it is a device, no plain file",
    "link to itself": "Too many levels of symbolic links",
    "folder": "it is a folder, no plain file",
}
COSTLY = 8  # ... times so many of a diagnosis, of which thirty figures are drawn
OLDER = Path(__file__).parent / "older" / "diagnosis.json"


def ended(result, draw, folder, stride, drawn):
    """How one change in `stride` ended: (refused, passed); an escape is shown with what was changed.

    Of the changes that pass, those whose number `drawn` divides are drawn.
    """
    file = folder / "changed.json"
    lines, still = [], 0
    for what, number, text in mutations(json.loads(result.to_json()), stride):
        file.write_text(text)
        try:
            found = type(result).from_file(file, BadOutput)
        except QRoarError as error:
            lines.append(str(error))
            continue
        still += 1
        if number % drawn:
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                draw(found)
        except QRoarError:
            pass
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert [line for line in lines if "\n" in line or not line.startswith(f"{file}: ")] == []
    return len(lines), still


@pytest.mark.parametrize("name", FILES)
def test_some_changes_of_a_run_file(tmp_path, name):
    make, draw = FILES[name]
    stride = SAMPLE * (COSTLY if name == "diagnosis.json" else 1)
    refused, still = ended(make(), draw, tmp_path, stride, stride)
    assert refused >= 3
    assert still >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_change_of_a_run_file(tmp_path, name):
    make, draw = FILES[name]
    stride = SAMPLE if name == "diagnosis.json" else 1  # all of a diagnosis: minutes
    refused, still = ended(make(), draw, tmp_path, stride, DRAWN * stride)
    assert refused > 70
    assert still > 0


def test_the_whole_files_are_read_and_drawn(tmp_path):
    for make, draw in FILES.values():
        (tmp_path / "whole.json").write_text(make().to_json())
        with contextlib.redirect_stdout(io.StringIO()):
            draw(type(make()).from_file(tmp_path / "whole.json"))


def with_changes(result, folder, **changes):
    """What reading says of a result with other entries, named a.b.0.c with __ for a dot."""
    raw = json.loads(result.to_json())
    for path, value in changes.items():
        inner = raw
        *keys_, last = [int(key) if key.isdecimal() else key for key in path.split("__")]
        for key in keys_:
            inner = inner[key]
        inner[last] = value
    file = folder / "changed.json"
    file.write_text(json.dumps(raw))
    with pytest.raises(BadOutput) as caught:
        type(result).from_file(file, BadOutput)
    return str(caught.value).removeprefix(f"{file}: ").partition(";")[0]


@pytest.mark.parametrize(
    ("make", "changes", "said"),
    [
        (planted.scales, {"granularity": "layer"}, "g: no table of 2 x 2 numbers, one per layer and band"),
        (planted.scales, {"model__layers": 3}, "g: no table of 3 x 2 x 2 numbers, one per layer, KV head and band"),
        (planted.scales, {"bands": [[0, 3]]}, "g: no table of 2 x 2 x 1 numbers, one per layer, KV head and band"),
        (planted.scales, {"bands": [[0, 1], [3, 3]]}, "bands: not one after the other over 4 RoPE pairs"),
        (planted.scales, {"g__0__0": [2.0, -1]}, "g: a scale that is not above 0"),
        (planted.scales, {"g__0__0": [2.0, math.nan]}, "g: a number that is not finite or absurdly large"),
        (planted.scales, {"g__0__0": [2.0, "x"]}, "g: no table of 2 x 2 x 2 numbers, one per layer, KV head and band"),
        (planted.diagnosis, {"n_kv_heads": 3}, "tails.q/pre.ratio: 2 by kv head, n_kv_heads has 3"),
        (planted.diagnosis, {"position_edges": [0, 64]}, "logit_noise.position"),
        (planted.diagnosis, {"bands": []}, "bands: no band in it"),
        (planted.diagnosis, {"logit_noise__rms": [0.1]}, "logit_noise.rms: 1 by row, logit_noise.position has 2"),
        (planted.diagnosis, {"logit_noise__rms": [0.1, 1e308]}, "logit_noise.rms: a number that is not finite"),
        (planted.diagnosis, {"dilation__absmax__0__0": []}, "dilation.absmax: no bin in it"),
        (planted.evaluation, {"rows": []}, "rows: no row in it"),
        (planted.evaluation, {"rows__0__nll": math.nan}, "rows.0.nll: a number that is not finite"),
        (planted_comparison.comparison, {"rows__0__window_nll": [2.0]}, "rows.0.window_nll: 1 by window"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_wrong_is_said(tmp_path, make, changes, said):
    line = with_changes(make(), tmp_path, **changes)
    if said != "logit_noise.position":
        assert line.startswith(said)
    else:  # fewer bins than the maps have
        assert "by bin, position_edges has 1" in line


def every_result(kind=Result):
    for one in kind.__subclasses__():
        yield one
        yield from every_result(one)


def test_every_list_of_a_result_says_what_it_is_indexed_by():
    """A field added without it would be a list of any length in a foreign file."""
    read = (Diagnosis, Evaluation, ScalesFile, SearchReport, Controls, Comparison, Prediction, Replication, Retrieval)
    assert set(read) <= set(every_result())
    bare = [
        f"{kind.__name__}.{name}"
        for kind in set(every_result())
        if kind.__module__.startswith("qroar_core")  # others are tests' own, of another file in the same process
        for name, field in kind.model_fields.items()
        if _has_list(field.annotation)
        and not any(isinstance(one, Axes) for one in field.metadata)
        and not list(_axes_of(field.annotation))
    ]
    assert bare == []


def _has_list(kind):
    return get_origin(kind) is list or any(_has_list(inner) for inner in get_args(kind))


def test_an_older_diagnosis_still_opens():
    assert contradiction(Diagnosis.from_file(OLDER)) == ""


def change(path, **entries):
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | entries))


@pytest.mark.parametrize(
    ("name", "entries", "said"),
    [
        ("diagnosis.json", {"n_kv_heads": 7}, "diagnosis.json: tails.q/pre.ratio: 2 by kv head, n_kv_heads has 7"),
        ("evaluation.json", {"rows": []}, "evaluation.json: rows: no row in it"),
        ("scales.json", {"granularity": "model"}, "scales.json: g: no table of 2 numbers"),
        ("search.json", {"bounds": []}, "search.json: bounds: no entry in it"),
        ("scales_found.json", {"mode": "shared"}, "its scales have mode shared, but the manifest has symmetric"),
        ("manifest.json", {"model": {"name": "x"}}, "manifest.json: model.fingerprint: Field required"),
    ],
)
def test_a_contradictory_run_is_unreadable_and_the_others_stay(root, loaded, setting, tiny, name, entries, said):
    asked, _ = keep_all(loaded, setting)
    (folder,) = root.iterdir()
    other, theirs = tiny(seed=1), None
    keep_all(other, setting)
    theirs = keys(other, setting)
    change(folder / name, **entries)
    library = RunStore()
    problems = {entry.path: entry.problem for entry in library.entries()}
    assert said in problems.pop(folder)
    assert "\n" not in "".join(problems.values())
    assert list(problems.values()) == [""]
    with pytest.raises(BadOutput) as caught:  # a direct link
        library.entry(folder.name)
    assert said in str(caught.value)
    touched = {"diagnosis.json": "diagnose", "evaluation.json": "evaluate", "search.json": "search"}.get(name)
    if touched:
        assert library.get(asked[touched]) is None
    assert all(library.get(key) is not None for what, key in theirs.items() if what != "untuned")


@pytest.mark.parametrize("kind", WHY)
def test_a_run_whose_manifest_is_no_plain_file_is_unreadable_at_once(root, loaded, setting, kind):
    """A pipe would be waited for, a device read without end: with them every page would stand still."""
    keep_all(loaded, setting)
    (folder,) = root.iterdir()
    manifest = folder / "manifest.json"
    manifest.unlink()
    if kind == "pipe":
        os.mkfifo(manifest)
    elif kind == "folder":
        manifest.mkdir()
    else:
        manifest.symlink_to("/dev/null" if kind == "link to /dev/null" else manifest)
    said = []
    reader = Thread(target=lambda: said.extend(entry.problem for entry in RunStore().entries()), daemon=True)
    reader.start()
    reader.join(5)
    assert said == [
        f"{manifest}: cannot be read: {WHY[kind]}; remove it, or choose another run",
    ]


def test_a_contradictory_file_is_not_copied_into_another_run(root, loaded, setting):
    asked, _ = keep_all(loaded, setting)
    (folder,) = root.iterdir()
    change(folder / "diagnosis.json", bands=[])
    keep("predict", loaded, setting)  # into the same run, which keeps what it has
    longer = replace(setting, evaluation=replace(setting.evaluation, windows=5))
    keep("predict", loaded, longer)
    (new,) = set(root.iterdir()) - {folder}
    assert not (new / "diagnosis.json").exists()
    assert read_record(new).problem == ""
    assert RunStore().get(asked["diagnose"]) is None


def in_the_list(loaded, setting, root, stride):
    """How many changes of a manifest make the run unreadable, and how many leave a line in the list of runs."""
    keep_all(loaded, setting)
    (folder,) = root.iterdir()
    file = folder / "manifest.json"
    problems, lines = [], []
    for _, _, text in mutations(json.loads(file.read_text()), stride):
        file.write_text(text)
        entry = read_record(folder)
        if entry.problem:
            problems.append(entry.problem)
        else:
            lines.append(_line(entry, False))
            restored(entry)
    assert [problem for problem in problems if "\n" in problem or str(folder) not in problem] == []
    return len(problems), len(lines)


def test_some_changes_of_a_manifest(root, loaded, setting):
    unreadable, listed = in_the_list(loaded, setting, root, SAMPLE)
    assert unreadable > listed > 0


@pytest.mark.slow
def test_every_change_of_a_manifest(root, loaded, setting):
    unreadable, listed = in_the_list(loaded, setting, root, 1)
    assert unreadable > listed > 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"nll_se": -0.1}, "rows.0.nll_se: -0.1 is below 0"),
        ({"length": 0}, "rows.0.length: 0 is below 1"),
        ({"tokens": -5}, "rows.0.tokens: -5 is below 1"),
        ({"same_top1": 1.5}, "rows.0.same_top1: 1.5 is above 1"),
    ],
)
def test_an_error_below_zero_a_count_of_nothing_and_a_share_above_one_are_named(change, line):
    found = planted.evaluation()
    assert contradiction(found) == ""
    first = found.rows[0].model_copy(update=change)
    assert contradiction(found.model_copy(update={"rows": [first, *found.rows[1:]]})) == line


def test_the_gain_is_of_windows_and_at_a_confidence():
    found = planted.evaluation()
    for name, value, line in (
        ("windows", 0, "gain.windows: 0 is below 1"),
        ("length", 0, "gain.length: 0 is below 1"),
        ("confidence", 2.0, "gain.confidence: 2 is above 1"),
    ):
        gain = found.gain.model_copy(update={name: value})
        assert contradiction(found.model_copy(update={"gain": gain})) == line
