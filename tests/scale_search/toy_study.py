"""A search without a model, for processes that start in a second: a bowl with three bands and two heads."""

import json
import os
import time

from qroar_core.scale_search.optuna_candidates import ScaleProposals, sequential
from qroar_core.scale_search.shared_study import SharedStudy
from qroar_core.specs import SearchSpec

SETTING = {"model": "m", "search": {"seed": 0}}
PLACE = (1.0, -2.0, 0.5)  # of the least error
BOUNDS = ((-3.0, 3.0), (-3.0, 3.0), (0.0, 1.0))
GRID = [[0.0, -3.0, -1.5, 1.5, 3.0], [0.0, -3.0, -1.5, 1.5, 3.0], [0.0, 0.25, 0.5, 0.75, 1.0]]


def proposals(sampler="tpe", trials=24, seed=0):
    spec = SearchSpec(method="optuna", sampler=sampler, trials=trials, seed=seed)
    return ScaleProposals(spec, [low for low, _ in BOUNDS], [high for _, high in BOUNDS], GRID)


def toy(point):
    """The bowl's height, and two of its parts."""
    error = [(x - y) ** 2 for x, y in zip(point, PLACE, strict=True)]
    return sum(error), error[:2]


def alone(sampler):
    """What one process finds without a storage."""
    return [[t.number, t.point, t.value, t.errors] for t in sequential(proposals(sampler), toy)]


def logged(folder, slow=0.0, hang=None):
    """`toy` that leaves one file an evaluation, and never ends once there are more than `hang` of them."""

    def evaluate(point):
        (folder / f"{os.getpid()}-{time.time_ns()}").write_text(json.dumps(point))
        if hang is not None and len(list(folder.iterdir())) > hang:
            time.sleep(600)
        time.sleep(slow)
        return toy(point)

    return evaluate


def toiling(path, folder, sampler, slow, hang, out):
    """A process's part in the search."""
    tries = SharedStudy(path, SETTING).tries("cached", proposals(sampler), logged(folder, slow, hang))
    out.write_text(json.dumps([[t.number, t.point, t.value, t.errors] for t in tries]))
