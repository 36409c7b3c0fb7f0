"""A search of the dashboard goes on from the candidates that a killed server left on disk."""

from __future__ import annotations

import pytest
import torch

from pages.jobs import kept_candidates
from qroar_core.errors import Cancelled
from qroar_core.scale_search import run as scale_search
from qroar_core.scale_search import shared_study
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.scale_search.searching import asked

ROPE, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
TRIALS = 6


class Killed(BaseException):
    """What no code of ours catches, as a killed process runs none."""


@pytest.fixture
def searched(tiny, tmp_path, monkeypatch):
    """The journal, a function that runs the search and says which candidates it put there, and a search without."""
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path / "runs"))
    loaded = tiny(dtype=torch.float32)
    setting = Setting(ROPE, INT4, search=asked(method="optuna", trials=TRIALS))
    put, finish = [], shared_study._finish
    monkeypatch.setattr(shared_study, "_finish", lambda *of: (put.append(of[2].number), finish(*of)))

    def run(end_at=None, by=Killed):
        put.clear()

        def on_step(step):
            if step.what == end_at:
                raise by("search")

        return kept_candidates.search(loaded, setting, None, on_step), list(put)

    journal = kept_candidates.journal_of(loaded, setting)
    bare = scale_search.run(loaded, setting, setting.texts(), None)
    return journal, run, bare


def same(one, other):
    assert torch.equal(one.found.g, other.found.g)
    assert one.report.history == other.report.history


def test_a_killed_search_goes_on_and_loses_one_candidate_at_most(searched):
    journal, run, bare = searched
    with pytest.raises(Killed):
        run(end_at="trial 4")
    assert journal.is_file()
    before = journal.read_bytes()
    found, put = run()
    assert before.count(b'"point"') == put[0] >= 4
    assert put == list(range(put[0], TRIALS))
    same(found, bare)
    assert not journal.exists()


def test_a_cancelled_search_leaves_its_result_and_no_journal(searched):
    journal, run, _ = searched
    with pytest.raises(Cancelled) as caught:
        run(end_at="trial 4", by=Cancelled)
    assert caught.value.partial is not None
    assert not journal.exists()


def test_a_journal_that_is_none_is_put_away_and_the_search_done(searched):
    journal, run, bare = searched
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("no journal\n")
    found, put = run()
    same(found, bare)
    assert put == []
    assert not journal.exists()


def test_steps_of_a_gradient_are_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path))
    assert kept_candidates.journal_of(tiny(), Setting(ROPE, INT4, search=asked(method="gradient"))) is None
