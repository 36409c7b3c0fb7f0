"""`once`: a figure is made once for a result, and goes when the result goes."""

import gc
import weakref

from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.figures.cache_by_result import once
from tests.helpers import planted


class Result:
    def __init__(self, name):
        self.name = name


def test_made_once_for_each_result_and_each_argument():
    asked = []

    @once
    def made(result, which="k"):
        asked.append((result.name, which))
        return [result.name, which]

    one, two = Result("one"), Result("two")
    assert made(one, "q") is made(one, "q")
    assert made(two, "q") == ["two", "q"]
    assert made(one, "v") == ["one", "v"]
    assert made(one) == ["one", "k"]
    assert asked == [("one", "q"), ("two", "q"), ("one", "v"), ("one", "k")]


def test_forgotten_with_its_result():
    @once
    def made(result):
        return Result("drawn")

    result = Result("measured")
    drawn = weakref.ref(made(result))
    gc.collect()
    assert drawn() is not None
    del result
    gc.collect()
    assert drawn() is None


def test_a_changed_copy_of_a_diagnosis_is_drawn_anew():
    before = planted.diagnosis()
    map_before = before.outliers.maps["k/post"]
    louder = [
        [[[1e6 if v is not None else None for v in row] for row in head] for head in layer] for layer in map_before
    ]
    after = before.model_copy(
        update={"outliers": before.outliers.model_copy(update={"maps": {**before.outliers.maps, "k/post": louder}})}
    )
    assert outliers.peaks(before, "k/post")["peak"].max() < 1e6
    assert outliers.peaks(after, "k/post")["peak"].tolist() == [1e6] * len(map_before)
