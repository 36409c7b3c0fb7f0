"""A search that processes share: the same candidates, history and winner as in one process, also after kill -9."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from qroar_core.errors import BadOutput, BadSpec, Cancelled
from qroar_core.scale_search import run as search
from qroar_core.scale_search import shared_study
from qroar_core.scale_search.optuna_candidates import GENERATION, ScaleProposals, sequential
from qroar_core.scale_search.shared_study import SharedStudy
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec, SearchSpec
from tests.scale_search.searching import INT4, TEXTS, asked, plant
from tests.scale_search.toy_study import BOUNDS, SETTING, alone, logged, proposals, toiling, toy

pytestmark = pytest.mark.slow

ROPE = RopeSpec("yarn", 2.0)


def started(target, *arguments):
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


# -- what is proposed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_candidate_is_a_function_of_its_number_and_the_history_before_its_generation(sampler):
    told = [toy(t.point)[0] for t in sequential(proposals(sampler), toy)]
    whole = [t.point for t in sequential(proposals(sampler), toy)]
    assert whole[0] == [0.0, 0.0, 0.0]
    for number in (23, 7, 12, 1):  # asked in any order, by anyone, with as little history as it needs
        asker = proposals(sampler)
        assert asker.point(number, told[: asker.needs(number)]) == whole[number]
    for point in whole:
        assert all(low <= x <= high for x, (low, high) in zip(point, BOUNDS, strict=True))
    other = [t.point for t in sequential(proposals(sampler, seed=1), toy)]
    assert sum(a == b for a, b in zip(whole, other, strict=True)) < 4
    assert len({tuple(point) for point in whole}) > 18


def test_tpe_learns_and_waits_for_its_generation_only():
    p = proposals()
    assert [p.needs(n) for n in (0, 3, 4, 7, 8)] == [0, 0, 4, 4, 8]
    assert GENERATION == 4
    told = [toy(t.point)[0] for t in sequential(p, toy)]
    bowl, hill = p.point(20, told), proposals().point(20, [-value for value in told])
    assert toy(bowl)[0] < toy(hill)[0]
    tpe, random = ([t.value for t in sequential(proposals(s, trials=60), toy)] for s in ("tpe", "random"))
    assert sum(tpe[-20:]) < 0.5 * sum(random[-20:])


def test_a_grid_with_few_points_is_gone_through_whole():
    spec = SearchSpec(method="optuna", sampler="grid", grid_points=3, trials=30)
    bounds = torch.tensor(BOUNDS).expand(2, 3, 2)
    points = [tuple(t.point) for t in sequential(ScaleProposals.within(bounds, spec), toy)]
    every = {(a, b, c) for a in (-3.0, 0.0, 3.0) for b in (-3.0, 0.0, 3.0) for c in (0.0, 1.0)}
    assert set(points) == every
    assert points[27:] == points[:3]


# -- the storage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_two_processes_read_the_history_that_one_makes(tmp_path, folder, sampler):
    path, outs = tmp_path / "deep" / "s.journal", [tmp_path / "a.json", tmp_path / "b.json"]
    both = [started(toiling, path, folder, sampler, 0.15, None, out) for out in outs]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert [json.loads(out.read_text()) for out in outs] == [alone(sampler)] * 2
    evaluated = [file.name.split("-")[0] for file in folder.iterdir()]
    assert len(evaluated) == 24  # each once
    assert set(evaluated) == {str(process.pid) for process in both}


def never_waits(step):
    pytest.fail("a process that is known to be dead is not waited for")


def test_what_kill_9_left_is_evaluated_again_and_nothing_else(tmp_path, folder):
    path, out = tmp_path / "s.journal", tmp_path / "a.json"
    process = started(toiling, path, folder, "tpe", 0.0, 6, out)
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = {file.name for file in folder.iterdir()}
    history = [
        [t.number, t.point, t.value, t.errors]
        for t in SharedStudy(path, SETTING, never_waits).tries("cached", proposals(), logged(folder))
    ]
    assert history == alone("tpe")
    again = sorted(file for file in folder.iterdir() if file.name not in before)
    assert [json.loads(file.read_text()) for file in again] == [point for _, point, *_ in alone("tpe")[6:]]
    assert len(list(SharedStudy(path, SETTING).tries("cached", proposals(), pytest.fail))) == 24  # all known by now


def test_a_claim_of_another_machine_is_waited_for_and_then_taken_over(tmp_path, monkeypatch):
    path = tmp_path / "s.journal"
    far = SharedStudy(path, SETTING, me="elsewhere:1")
    with pytest.raises(KeyboardInterrupt):
        list(far.tries("cached", proposals("random", 3), interrupted))
    seen = []

    def cancel(step):
        seen.append((step.what, step.done, step.total))
        raise Cancelled("search")

    with pytest.raises(Cancelled):
        list(SharedStudy(path, SETTING, cancel).tries("cached", proposals("random", 3), toy))
    assert seen == [("wait for the other workers", 0, 3)]
    monkeypatch.setattr(shared_study, "PATIENCE", 0.5)
    monkeypatch.setattr(shared_study, "PAUSE", 0.1)
    assert [t.point for t in SharedStudy(path, SETTING).tries("cached", proposals("random", 3), toy)] == [
        t.point for t in sequential(proposals("random", 3), toy)
    ]


def interrupted(point):
    raise KeyboardInterrupt


def test_a_straggler_does_not_change_what_was_finished_in_its_place(tmp_path, monkeypatch):
    path = tmp_path / "s.journal"

    def meanwhile(point):
        monkeypatch.setattr(shared_study, "PATIENCE", 0.0)
        list(SharedStudy(path, SETTING, me="elsewhere:2").tries("cached", proposals("random", 2), toy))
        return 77.0, [77.0, 77.0]

    straggler = SharedStudy(path, SETTING, me="elsewhere:1").tries("cached", proposals("random", 2), meanwhile)
    assert [t.value for t in straggler] == [t.value for t in sequential(proposals("random", 2), toy)]


def test_a_storage_of_another_setting_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "s.journal"
    list(SharedStudy(path, SETTING).tries("cached", proposals("random", 2), toy))
    list(SharedStudy(path, SETTING).tries("full", proposals("random", 2), toy))  # another phase of the same search
    before = path.read_bytes()
    with pytest.raises(BadOutput) as caught:
        next(SharedStudy(path, SETTING | {"search": {"seed": 1}}).tries("cached", proposals("random", 2), toy))
    assert str(caught.value) == f"{path}: holds a search with another search; choose a new file or the same options"
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["my notes\nand more", "{}\n", "one line without an end", '{"op_code": 99}\n'])
def test_a_file_that_is_no_storage_is_refused_and_left_as_it_was(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(BadOutput, match="not the storage of a search, or damaged; choose a new file"):
        next(SharedStudy(path, SETTING).tries("cached", proposals("random", 2), toy))
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_no_storage(tmp_path):
    with pytest.raises(BadOutput, match="cannot be used"):
        next(SharedStudy(tmp_path, SETTING).tries("cached", proposals("random", 2), toy))


def test_a_line_that_a_kill_left_half_written_is_cut_off(tmp_path):
    path = tmp_path / "s.journal"
    tries = SharedStudy(path, SETTING).tries("cached", proposals("random", 4), toy)
    next(tries), next(tries)
    tries.close()
    with path.open("a") as file:
        file.write('{"op_code":4,"study_id":0,"datetime_st')
    again = SharedStudy(path, SETTING).tries("cached", proposals("random", 4), toy)
    assert [t.value for t in again] == [t.value for t in sequential(proposals("random", 4), toy)]


def test_nan_is_finished_as_the_worst(tmp_path):
    tries = SharedStudy(tmp_path / "s", SETTING).tries(
        "cached", proposals("random", 2), lambda p: (float("nan"), [0.0])
    )
    assert [t.value for t in tries] == [float("inf")] * 2


# -- the search ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hurt(tiny):
    return plant(tiny(head_dim=32), [(1, 0)])


def plain(report):
    """A report without how long it took."""
    return report.model_dump(exclude={"seconds", "forward_seconds", "forward_equivalents"})


@pytest.mark.parametrize("objective", ["cached", "full"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_with_a_storage_ends_as_one_without(hurt, tmp_path, objective, sampler):
    spec = asked(method="optuna", objective=objective, sampler=sampler, trials=9)
    bare = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    shared = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, storage=tmp_path / "s")
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, storage=tmp_path / "s")  # everything is known
    assert torch.equal(bare.found.g, shared.found.g)
    assert torch.equal(bare.found.g, again.found.g)
    assert plain(bare.report) == plain(shared.report) == plain(again.report)
    assert not bare.found.is_identity


def test_a_cancelled_shared_search_keeps_its_best_and_goes_on(hurt, tmp_path):
    spec = asked(method="optuna", trials=9)
    whole = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)

    def cancel(step):
        if step.what == "trial 5":
            raise Cancelled("search")

    with pytest.raises(Cancelled) as caught:
        search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, on_step=cancel, storage=tmp_path / "s")
    left = caught.value.partial
    assert left.report.history == whole.report.history[: len(left.report.history)]
    assert left.report.objective_found == min(c.best for c in left.report.history)
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, storage=tmp_path / "s")
    assert plain(again.report) == plain(whole.report)


def test_join_only_fills_the_storage(hurt, tmp_path, monkeypatch):
    spec = asked(method="optuna", objective="full", trials=5)
    assert search.join(hurt, Setting(ROPE, INT4, search=spec), TEXTS, tmp_path / "s") is None
    monkeypatch.setattr(SharedStudy, "_claim", lambda *a: pytest.fail("evaluated again"))
    shared = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, storage=tmp_path / "s")
    monkeypatch.undo()
    assert plain(shared.report) == plain(search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS).report)


@pytest.mark.parametrize("what", ["quantizer", "rope", "search", "text"])
def test_a_search_under_another_setting_is_refused(hurt, tmp_path, what):
    from qroar_core.specs import QuantizerSpec, QuantSpec

    spec = asked(method="optuna", trials=2)
    search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, storage=tmp_path / "s")
    rope, quant, texts = ROPE, INT4, TEXTS
    if what == "quantizer":
        quant = QuantSpec(k=QuantizerSpec(3))
    elif what == "rope":
        rope = RopeSpec("linear", 2.0)
    elif what == "search":
        spec = asked(method="optuna", trials=3)
    else:
        texts = TEXTS | {"calibration": TEXTS["heldout"]}
    named = {"search": r"search option \(trials\)"}.get(what, what)
    with pytest.raises(BadOutput, match=f"holds a search with another {named};"):
        search.run(hurt, Setting(rope, quant, search=spec), texts, storage=tmp_path / "s")


def test_a_name_of_the_quantizer_is_no_other_setting(hurt, tmp_path):
    from dataclasses import replace

    spec = asked(method="optuna", trials=2)
    search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, storage=tmp_path / "s")
    search.run(hurt, Setting(ROPE, replace(INT4, name="mine"), search=spec), TEXTS, storage=tmp_path / "s")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "gradient"}, "the gradient method goes step by step and cannot be shared; add --method optuna"),
        ({"method": "coordinate"}, "the coordinate method goes step by step"),
        ({"method": "optuna", "objective": "kl"}, "the kl objective goes step by step and cannot be shared; choose"),
    ],
)
def test_a_search_that_goes_step_by_step_cannot_be_shared(hurt, tmp_path, options, said):
    with pytest.raises(BadSpec, match=said):
        search.run(hurt, Setting(ROPE, INT4, search=asked(**options)), TEXTS, storage=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def searching(model, path, objective, out: Path):
    """A whole search in a process of its own."""
    from qroar_core.models.load import run as load_model

    loaded = load_model(str(model), device="cpu", dtype="float32")
    spec = asked(method="optuna", objective=objective, trials=8)
    outcome = search.run(loaded, Setting(ROPE, INT4, search=spec), TEXTS, storage=path)
    out.write_text(json.dumps([outcome.found.g.tolist(), plain(outcome.report)], sort_keys=True))


def test_two_processes_with_a_model_on_disk_find_what_one_finds(hurt, byte_tokenizer, tmp_path):
    objective = "full"  # it has both phases
    hurt.model.save_pretrained(tmp_path / "model")
    byte_tokenizer.save_pretrained(tmp_path / "model")
    outs = [tmp_path / "a.json", tmp_path / "b.json"]
    both = [started(searching, tmp_path / "model", tmp_path / "s", objective, out) for out in outs]
    for process in both:
        process.join(240)
        assert process.exitcode == 0
    first, second = (json.loads(out.read_text()) for out in outs)
    assert first == second
    spec = asked(method="optuna", objective=objective, trials=8)
    one = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    assert first == json.loads(json.dumps([one.found.g.tolist(), plain(one.report)]))
