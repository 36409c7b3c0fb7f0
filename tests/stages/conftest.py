"""What any stage test makes is also read again as a file is: no check of foreign files refuses our own."""

import functools

import pytest

from qroar_core import controls, diagnose, evaluate, league, predict, replicate, retrieve, search
from qroar_core.axes import contradiction
from qroar_core.result import Result
from qroar_core.search import SearchOutcome

STAGES = (controls, diagnose, evaluate, league, predict, replicate, retrieve, search)


@pytest.fixture(autouse=True)
def readable(monkeypatch):
    for stage in STAGES:
        monkeypatch.setattr(stage, "run", _checked(stage.run))


def _checked(run):
    @functools.wraps(run)
    def checked(*args, **options):
        made = run(*args, **options)
        result = made.report if isinstance(made, SearchOutcome) else made
        if isinstance(result, Result):
            assert contradiction(result.as_written()) == ""
        return made

    return checked
