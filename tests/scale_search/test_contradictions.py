"""A search's report whose numbers contradict each other is said to; one that a search wrote, or had left, is not."""

import json

import pytest

from qroar_core.scale_search import run as search
from qroar_core.scale_search.contradictions import contradictions_of
from qroar_core.scale_search.result import SearchReport
from qroar_core.setting import Setting
from tests.helpers import planted
from tests.scale_search.cancelled import ROPE, stopped
from tests.scale_search.searching import INT4, TEXTS, asked, plant


def step(i, **entries):
    return lambda c: c["history"][i].update(entries)


def every_best(value):
    return lambda c: [one.update(best=value) for one in c["history"]]


def few_rows(c):
    c["history"][2].update(label="gradient step 2", objective=0.5)


def cancelled(c):
    c.update(guard="not asked: cancelled before its end", chosen="identity", reason="cancelled before", decision=None)


def rejected(c):
    guard = "costs +0.0900 nats at 256 tokens even quartered, allowed 0.01: rejected"
    c.update(guard=guard, chosen="identity", reason="no significant gain", decision=None, objective_found=1.0)


EDITS = [
    ([every_best(0.05)], "history.4.best|objective_found: 0.2, the best in history is 0.05"),
    ([step(2, best=0.9)], "history.2.best: 0.9, it was 0.8 before"),
    ([step(2, objective=0.3)], "history.2.best: 0.6, 0.3 was reached"),
    ([few_rows], "history.2.best: 0.6, a candidate seen on a few rows leaves it at 0.8"),
    ([step(4, label="gradient result", objective=0.3)], "history.4.best: 0.2, nothing below 0.3 was reached"),
    ([lambda c: c.update(objective="full")], "history.1.best: 0.8, nothing below 1 was reached"),
    ([step(3, step=-3)], "history: step -3"),
    ([step(3, step=1)], "history: step 1 behind step 2"),
    ([step(3, step=2)], "history: step 2 behind step 2"),
    ([lambda c: c.update(objective_found=0.99)], "objective_found: 0.99, the best in history is 0.2"),
    ([lambda c: c.update(objective_found=1.7)], "objective_found: 1.7, the best in history is 0.2"),
    ([lambda c: c.update(objective_found=0.1)], "objective_found: 0.1, the best in history is 0.2"),
    ([lambda c: c.update(objective_identity=0.9)], "objective_identity: 0.9, history has 1"),
    ([cancelled, lambda c: c.update(objective_found=0.3)], "objective_found: 0.3, history has reached 0.2"),
    ([rejected, lambda c: c.update(objective_found=0.2)], "objective_found: 0.2, the guard has rejected all"),
    (
        [lambda c: c.update(guard="costs +5.0000 nats at 256 tokens, allowed 0.01")],
        "guard: passed, it costs +5.0000 nats and allows 0.01",
    ),
    (
        [rejected, lambda c: c.update(guard=c["guard"].replace("0.0900", "0.0010"))],
        "guard: rejected, it costs +0.0010 nats and allows 0.01",
    ),
    ([lambda c: c.update(guard="all is well")], "guard: does not say what the scales cost at short context"),
    ([lambda c: c.update(guard="not asked")], "guard: does not say what the scales cost at short context"),
    ([lambda c: c.update(seconds=-1.0)], "seconds: below 0"),
    ([lambda c: c.update(forward_equivalents=99.0)], "forward_equivalents: 99, not seconds over forward_seconds"),
]
NONE = [
    [lambda c: None],
    [cancelled],
    [cancelled, lambda c: c.update(objective_found=0.15)],  # settled behind the last candidate
    [rejected],
    [lambda c: c.update(guard=c["guard"] + ", on 2 windows (all that the text holds, 4 by default)")],
    [lambda c: c.update(guard="halved toward identity, " + c["guard"], objective_found=0.4)],
    [step(3, objective="Infinity")],
]


def said(edits):
    content = json.loads(planted.report().to_json())
    for edit in edits:
        edit(content)
    return list(contradictions_of(SearchReport.model_validate(content)))


@pytest.mark.parametrize(("edits", "problem"), EDITS, ids=lambda x: x[:60] if isinstance(x, str) else "")
def test_a_contradiction_is_said(edits, problem):
    found = said(edits)
    assert any(one.startswith(words) for one in found for words in problem.split("|")), found


@pytest.mark.parametrize("edits", NONE)
def test_what_can_be_is_not_one(edits):
    assert said(edits) == []


SPECS = {
    "gradient": (asked(steps=6), "gradient step", 4),
    "coordinate": (asked(method="coordinate", grid_points=3), "sweep", 3),
    "optuna": (asked(method="optuna", trials=6), "trial", 4),
    "one scale for all": (asked(steps=6, granularity="model", l2_penalty=0.1), "gradient step", 4),
    "angles": (asked(steps=6, angles=True), "gradient step", 4),
    "full": (asked(objective="full", method="coordinate", trials=4, grid_points=3), "sweep 1, band 1", 3),
    "full, optuna": (asked(objective="full", method="optuna", trials=4), "trial", 6),
    "kl": (asked(objective="kl", steps=3, polish_steps=4, polish_windows=2), "polish step", 3),
    "guarded": (asked(steps=6, guard_tau=0.0), "guard", 2),
}


@pytest.mark.parametrize("name", SPECS)
def test_what_a_search_writes_follows_cancelled_and_resumed_too(tiny, name):
    spec, label, nth = SPECS[name]
    hurt = plant(tiny(head_dim=32), [(1, 0)])
    whole = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS)
    left = stopped(hurt, spec, label, nth)
    again = search.run(hurt, Setting(ROPE, INT4, search=spec), TEXTS, resume=left)
    for outcome in (whole, left, again):
        assert list(contradictions_of(outcome.report.as_written())) == []
