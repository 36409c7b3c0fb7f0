"""A cancelled search keeps the best it has seen, and goes on where it stopped."""

from dataclasses import replace

import pytest
import torch

from qroar_core.models.capture import capture
from qroar_core.scale_search import run as search
from qroar_core.scale_search import state as descent
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from tests.scale_search.cancelled import ROPE, stopped
from tests.scale_search.searching import INT4, TEXTS, asked, plant


def exact(loaded, spec, scales):
    """The cached objective of scales, captured and evaluated afresh."""
    problem = SearchProblem(loaded, ROPE, INT4, spec, TEXTS)
    ids = problem.windows("calibration", problem.length, spec.windows)
    return problem.objective(capture(loaded, ROPE, ids, spec.query_rows)).value(scales.g.log2().float())


@pytest.fixture
def hurt(tiny):
    return plant(tiny(head_dim=32), [(1, 0)])


SPECS = {
    "gradient": (asked(steps=12), "gradient step", 7),
    "coordinate": (asked(method="coordinate", grid_points=5), "sweep", 12),
    "optuna": (asked(method="optuna", trials=12), "trial", 7),
}


@pytest.mark.parametrize("method", SPECS)
def test_cancel_keeps_the_best_and_resume_ends_no_worse(hurt, method):
    spec, label, nth = SPECS[method]
    whole = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    left = stopped(hurt, spec, label, nth)
    report = left.report
    assert report.history == whole.report.history[: len(report.history)]
    assert sum(c.label.startswith(label) for c in report.history) == nth
    assert (report.reason, report.chosen) == ("cancelled before its gain was measured on development text", "identity")
    assert left.kept.is_identity
    assert report.objective_found <= min(c.best for c in report.history) < 1
    assert report.objective_found == pytest.approx(exact(hurt, spec, left.found), rel=1e-5)
    assert torch.equal(left.smooth.g, whole.smooth.g)
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=left)
    assert [c.step for c in again.report.history] == [c.step for c in whole.report.history]
    assert again.report.history[: len(report.history)] == report.history
    assert again.report.objective_found <= report.objective_found
    assert again.report.seconds > report.seconds
    if method == "gradient":  # its iterates are those of the search that never stopped
        assert again.report.history[:-1] == whole.report.history[:-1]
        assert again.report.objective_found <= whole.report.objective_found
    else:
        assert again.report.history == whole.report.history
        assert torch.equal(again.found.g, whole.found.g)
        assert again.report.reason == whole.report.reason


def test_a_gradient_search_read_back_without_its_state_goes_on_from_its_scales(hurt):
    spec, label, nth = SPECS["gradient"]
    left = stopped(hurt, spec, label, nth)
    bare = search.SearchOutcome(left.found, left.kept, left.smooth, left.mad, left.report)
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=bare)
    assert len(again.report.history) == 3 + 12 + 1
    assert again.report.objective_found <= left.report.objective_found


def test_an_expensive_iterate_is_not_evaluated_on_cancel(hurt, monkeypatch):
    spec, label, nth = SPECS["gradient"]
    monkeypatch.setattr(descent, "CHEAP", 0.0)
    left = stopped(hurt, spec, label, nth)
    starts = min(c.best for c in left.report.history if c.step == 0)
    assert left.report.objective_found == pytest.approx(starts)  # the best exact candidate, no claim beyond it
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=left)
    assert again.report.history == search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS).report.history


def test_cancel_in_the_decision_keeps_all_that_was_searched(hurt):
    spec = asked(steps=12)
    whole = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    left = stopped(hurt, spec, "gain: tuned")
    assert left.report.history == whole.report.history
    assert torch.equal(left.found.g, whole.found.g)
    assert left.kept.is_identity
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=left)
    assert torch.equal(again.found.g, whole.found.g)
    assert (again.report.history, again.report.reason) == (whole.report.history, whole.report.reason)


def test_cancel_before_any_candidate_leaves_what_was_resumed(hurt):
    spec = asked(steps=12)
    assert stopped(hurt, spec, "read the calibration") is None
    left = stopped(hurt, spec, "gradient step", 3)
    assert stopped(hurt, spec, "read the calibration", resume=left) is left


@pytest.mark.parametrize("method", ["coordinate", "optuna"])
def test_the_full_search_is_cancelled_and_resumed_too(hurt, method):
    spec = asked(objective="full", method=method, trials=6, grid_points=3)
    whole = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    label = "sweep" if method == "coordinate" else "trial"
    cached = sum(
        c.label.startswith(label)
        for c in search.run(
            hurt, Setting(ROPE, INT4, search=asked(method=method, trials=6, grid_points=3)), TEXTS
        ).report.history
    )
    left = stopped(hurt, spec, label, cached + 3)
    assert left.report.objective == "full"
    assert left.report.history == whole.report.history[: len(left.report.history)]
    assert left.report.objective_found == min(c.objective for c in left.report.history)
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=left)
    assert len(again.report.history) == len(whole.report.history)
    assert again.report.objective_found <= left.report.objective_found
    if method == "coordinate":
        assert again.report.history == whole.report.history


def test_full_coordinate_descent_never_moves_on_from_a_worse_candidate():
    """Planted: the first candidate is better, the second worse; what follows starts at the first."""
    from qroar_core.scale_search.objectives.full import FullObjective, FullSearch

    class Planted(FullObjective):
        def value(self, log2_g):
            return {(0.0, 0.0): 3.0, (-2.0, 0.0): 1.0, (2.0, 0.0): 2.0, (0.0, -1.0): 2.5}.get(
                tuple(log2_g.flatten().tolist()), 1.5
            )

    seen = []
    spec = asked(objective="full", method="coordinate", grid_points=3, trials=9)
    objective = Planted(None, ROPE, INT4, spec, ((0, 1), (2, 3)), torch.zeros(1, 4), (4,))
    bounds = torch.tensor([[[-2.0, 2.0], [-1.0, 1.0]]])
    found = FullSearch(objective, bounds, lambda *a: seen.append(a)).run(torch.zeros(1, 1, 2))
    assert found.flatten().tolist() == [-2.0, 0.0]
    assert [(step, value, best) for step, _, value, best in seen] == [
        (0, 3.0, 3.0),
        (1, 1.0, 1.0),
        (2, 3.0, 1.0),
        (3, 1.5, 1.0),
        (4, 1.5, 1.0),
    ]  # candidate 2 is 0 octaves: -2 + 2; 3 and 4 are (-2, -1) and (-2, 1)


@pytest.mark.parametrize(("independent", "count", "label"), [(True, 40, "trial 0"), (False, 16, "sweep 1, band 0")])
def test_the_full_objective_asks_what_a_method_says_of_itself(monkeypatch, independent, count, label):
    """Whatever its name: candidates that do not follow from the best so far are proposed, others swept."""
    from qroar_core.scale_search.objectives import full

    class Planted(full.FullObjective):
        def value(self, log2_g):
            return 1.0

    method = replace(full.search_methods()["coordinate"], independent=independent)
    monkeypatch.setattr(full, "search_methods", lambda: {"coordinate": method})
    spec = asked(objective="full", method="coordinate", grid_points=9, trials=40)
    objective = Planted(None, ROPE, INT4, spec, ((0, 1), (2, 3)), torch.zeros(1, 4), (4,))
    search = full.FullSearch(objective, torch.tensor([[[-1.0, 1.0]] * 2]), lambda *a: None)
    search.begin(torch.zeros(1, 1, 2), search.report, ())
    assert search.count() == count
    assert next(iter(search._candidates([])))[1].startswith(label)
