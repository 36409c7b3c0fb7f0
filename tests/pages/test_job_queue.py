"""The queue beside every page: whose a job is and of which setting, and a page that others' jobs concern."""

from types import SimpleNamespace

import pytest

from pages.jobs import _option_words
from pages.views import job_queue
from tests.pages.visitor import clicked, go

pytestmark = pytest.mark.slow
ABOUT = "YaRN ×4"


class Rerun(Exception):
    """The page is drawn anew."""


def told(label):
    """What the queue says of the last job of this label, and whether it was asked here."""
    from pages.state.session import manager

    key = next(key for key in reversed(manager().keys()) if manager().snapshot(key).label.startswith(label))
    return manager().snapshot(key).about, key


def test_a_change_of_the_weights_and_an_export_say_their_setting_and_who_asked(loaded_app, tmp_path, monkeypatch):
    from pages.state.session import REQUESTED_JOBS

    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    for label, button, named in (
        ("Apply scales", "Apply", "tuned scales of YaRN ×4"),
        ("Undo the scales", "Undo", "tuned scales of YaRN ×4"),
    ):
        clicked(loaded_app, button)
        about, key = told(label)
        assert about.startswith(named)
        assert about.endswith("1024 tokens")
        assert key in loaded_app.session_state[REQUESTED_JOBS]
    go(loaded_app, "export")
    loaded_app.text_input(key="folder").set_value(str(tmp_path / "out"))
    clicked(loaded_app, "Write the checkpoint")
    about, key = told("Export")
    assert about.startswith(ABOUT)
    assert about.endswith(f"hf into {tmp_path / 'out'}")
    assert key in loaded_app.session_state[REQUESTED_JOBS]


@pytest.mark.parametrize(("drawn", "anew"), [((), True), (("theirs",), False), (("other",), True)])
def test_a_page_is_drawn_anew_when_a_job_comes_that_it_was_not_drawn_with(monkeypatch, drawn, anew):
    def rerun():
        raise Rerun

    shown = []
    state = {job_queue.JOBS_WHEN_DRAWN: set(drawn), job_queue.BUSY: bool(drawn)}
    page = SimpleNamespace(session_state=state, rerun=rerun, markdown=lambda words: None)
    jobs = SimpleNamespace(active=lambda: [SimpleNamespace(key="theirs")])
    monkeypatch.setattr(job_queue, "st", page)
    monkeypatch.setattr(job_queue, "manager", lambda: jobs)
    monkeypatch.setattr(job_queue, "_one", lambda job, at: shown.append(job.key))
    if anew:
        with pytest.raises(Rerun):
            job_queue._jobs()
    else:
        job_queue._jobs()
        assert shown == ["theirs"]


def test_a_switch_is_said_in_words():
    assert _option_words("angles", True) == "pair angles too"
    assert _option_words("maps", True) == "channel maps too"
    assert _option_words("guard_tau", 0.5) == "guard tau 0.5"
