"""A run is readable where every file of it is: else it says why, and no stage of it answers."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadOutput
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.run import rotated
from qroar_core.result import Result
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.run_files import check_run
from qroar_core.runs.store import RunStore
from tests.helpers import planted_retrieval
from tests.helpers.strange_files import DEEP, NO_FILES, at_once, sparse
from tests.runs.kept import keep_all
from tests.runs.kept_evidence import keep

NAMES = (
    "diagnosis.json",
    "search.json",
    "scales_found.json",
    "scales_smooth_attention.json",
    "scales_mad.json",
    "scales.json",
    "evaluation.json",
    "evaluation_untuned.json",
    "scales_rotation.json",
    "retrieval.json",
    "retrieval_untuned.json",
    "compare",
    "controls",
)
MADE = ("diagnosis.json", "evaluation.json", "scales.json", "scales_found.json", "scales_mad.json", "compare")


made: dict[str, tuple[Path, dict]] = {}  # the run, made by the first test and copied for each


@pytest.fixture
def run(root, loaded, setting, tmp_path_factory):
    """A run with every file there may be, its folder, and what its stages are asked by."""
    if not made:
        folder, asked = _whole(root, loaded, setting)
        made["run"] = Path(shutil.move(folder, tmp_path_factory.mktemp("whole"))), asked
    whole, asked = made["run"]
    shutil.copytree(whole, root / whole.name)
    assert RunStore().entries()[0].problem == ""
    return root / whole.name, asked


def _whole(root, loaded, setting):
    asked, _ = keep_all(loaded, setting)
    for stage in ("compare", "controls"):
        asked[stage], _ = keep(stage, loaded, setting)
    (folder,) = root.iterdir()
    (folder / "evaluation_untuned.json").write_bytes((folder / "evaluation.json").read_bytes())
    turned = json.loads((folder / "scales_mad.json").read_text()) | {"quantization": asdict(rotated(setting.quant))}
    (folder / "scales_rotation.json").write_text(json.dumps(turned))
    for name in ("retrieval.json", "retrieval_untuned.json"):
        (folder / name).write_text(planted_retrieval.retrieval().to_json())
    return folder, asked


def file_of(folder, name):
    return folder / name if "." in name else next(folder.glob(f"{name}-*.json"))


def unreadable(folder, asked, name):
    """The one line of a run that cannot be read: in the list, by name and by path, and no stage of it answers."""
    with at_once():
        (entry,) = RunStore().entries()
        assert name in entry.problem
        assert "\n" not in entry.problem
        assert entry.setting is None
        for ask in (lambda: RunStore().entry(folder.name), lambda: RunStore().open(folder)):
            with pytest.raises(BadOutput) as caught:
                ask()
            assert str(caught.value) == entry.problem
        assert [stage for stage, key in asked.items() if RunStore().get(key) is not None] == []
    return entry.problem


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_makes_its_run_unreadable(run, name, kind):
    (folder, asked), (make, said) = run, NO_FILES[kind]
    path = file_of(folder, name)
    path.unlink()
    make(path)
    assert said in unreadable(folder, asked, path.name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["{}", "", "[" * 200_000, "\0" * 9, "\xff\xfe", '{"of": "another layout"}'])
def test_a_damaged_file_makes_its_run_unreadable(run, name, content):
    folder, asked = run
    path = file_of(folder, name)
    path.write_bytes(content.encode("latin-1"))
    unreadable(folder, asked, path.name)


@pytest.mark.parametrize("name", MADE)
def test_a_stage_that_was_made_and_is_gone_makes_its_run_unreadable(run, name):
    folder, asked = run
    path = file_of(folder, name)
    path.unlink()
    said = unreadable(folder, asked, name)
    assert f"{folder}: {name}" in said
    assert "is missing, but the manifest lists it as made; the run contradicts itself; make it again" in said


def test_a_search_that_was_killed_before_its_report_and_a_report_that_was_taken_back_are_no_damage(run):
    folder, asked = run
    for name in ("search.json", "scales_mad.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    assert RunStore().entries()[0].problem == ""
    assert RunStore().get(asked["diagnose"]) is not None
    assert RunStore().get(asked["search"]) is None


@pytest.mark.parametrize("name", ["scales_found.json", "scales_smooth_attention.json", "scales_mad.json"])
@pytest.mark.parametrize(
    ("change", "said"),
    [({"granularity": "layer"}, "no table of"), ({"mode": "shared"}, "mode shared, but the manifest has symmetric")],
)
def test_scales_that_do_not_fit_their_run_make_it_unreadable(run, name, change, said):
    folder, asked = run
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert said in unreadable(folder, asked, name)


def test_scales_of_another_model_make_the_run_unreadable(run, loaded):
    folder, asked = run
    path = folder / "scales_mad.json"
    path.write_text(path.read_text().replace(loaded.fingerprint, "0" * 16))
    assert f"fingerprint {'0' * 16}, but the manifest has {loaded.fingerprint}" in unreadable(folder, asked, path.name)


@pytest.mark.parametrize("name", ["diagnosis.json", "evaluation.json", "search.json", "scales.json"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_a_resumed_run_does_not_take_what_is_no_file_for_a_stage_to_run(run, loaded, setting, name, kind):
    folder = run[0]
    (folder / name).unlink()
    NO_FILES[kind][0](folder / name)
    with at_once(), pytest.raises(BadOutput, match=f"{name}: cannot be read"):
        RunFolder.open(folder, loaded, setting, "made in a test").load(name, Evaluation)


KINDS = {"manifest.json": Manifest, "diagnosis.json": Diagnosis, "evaluation.json": Evaluation}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_one_byte_too_large_is_refused(run, name):
    (folder, asked), most = run, KINDS[name].MOST
    (folder / name).unlink()
    sparse(most + 1)(folder / name)
    assert f"it has more than {most:,} bytes, which no real one reaches" in unreadable(folder, asked, name)


@pytest.mark.parametrize("kind", DEEP)
def test_a_result_nested_too_deeply_is_refused(tmp_path, kind):
    path = tmp_path / "evaluation.json"
    path.write_text(DEEP[kind])
    with pytest.raises(BadOutput, match="cannot be read: lists and tables nested too deeply"):
        Evaluation.from_file(path, BadOutput)


MEASURED = """
import resource, sys
from pathlib import Path
from qroar_core.errors import QRoarError
from qroar_core.evaluation.result import Evaluation
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    Evaluation.from_file(Path(sys.argv[1]))
except QRoarError as error:
    print(peak() - before, error)
"""


@pytest.mark.parametrize(
    ("content", "most"),
    [
        (b'{"window_nll": {"a": [' + b'"a",' * 2_000_000 + b"1]}}", 200),
        (b'{"window_nll": {"a": [' + b"[]," * 2_000_000 + b"1]}}", 400),
    ],
    ids=["words for numbers", "lists for numbers"],
)
def test_a_file_full_of_faults_is_refused_at_the_first(tmp_path, content, most):
    """8 MB with two million faults each took 2.8 and 5 GB, and a minute: each was noted with a copy of the file."""
    path = tmp_path / "evaluation.json"
    path.write_bytes(content)
    ran = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    took, said = ran.stdout.split(" ", 1)
    assert int(took) < most, ran.stdout  # MiB
    assert "Field required" in said


def test_numbers_are_those_that_pydantic_reads(tmp_path):
    """Files were read by another parser before."""

    class Numbers(Result):
        values: list[float | None]
        words: dict[str, float]

    text = '{"values": [0.1, 1e-320, 123456789012345678, 2, null, 1e308], "words": {"a": 3.3000000000000003}}'
    path = tmp_path / "numbers.json"
    path.write_text(text)
    model = Numbers.model_validate_json(text)
    assert repr(Numbers.model_validate(json.loads(text))) == repr(model)
    path.write_text(text.replace("1e308", "1e99"))
    assert Numbers.from_file(path).values[:3] == [0.1, 1e-320, 123456789012345678.0]


def test_a_run_that_has_not_changed_is_read_once(run, loaded, setting, monkeypatch):
    folder, _ = run
    (entry,) = RunStore().entries()
    monkeypatch.setattr(Result, "from_file", lambda *_: pytest.fail("read again"))
    check_run(folder, entry.manifest, entry.setting)


def test_a_damaged_file_keeps_no_new_result_off_the_disk(run, loaded, setting):
    """An evaluation does not need the comparison: it is written beside it, and the run says what is wrong with it."""
    from tests.helpers import planted

    folder, asked = run
    file_of(folder, "compare").write_text("{}")
    (folder / "evaluation.json").unlink()
    RunStore().keep(asked["evaluate"], loaded, setting, planted.evaluation(), 1.0)
    assert (folder / "evaluation.json").is_file()
    unreadable(folder, asked, "compare")
