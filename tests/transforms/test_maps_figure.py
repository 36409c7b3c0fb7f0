"""The figure of maps: over how many channels one is spread, by hand; none without maps."""

import numpy as np
import pytest

from qroar_core.transforms.kinds.maps import figure as figure_maps
from qroar_core.transforms.result import GroupMap
from tests.helpers import planted

EVEN = [[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0.5, 0.5, -0.5, -0.5], [0.5, -0.5, -0.5, 0.5]]
ONE = [[1.0, 0.0], [0.0, 1.0]]


def with_maps(*maps):
    return planted.scales("kv_head").model_copy(update={"version": 3, "maps": list(maps)})


def per_head(matrix):
    return [[matrix for _ in heads] for heads in planted.scales("kv_head").g]


def test_no_maps_no_picture():
    assert figure_maps.by_layer_and_group(planted.scales("kv_head")) is None


def test_a_cell_is_the_number_of_channels_that_one_is_spread_over():
    turning = GroupMap(first=1, last=2, still=False, matrix=per_head(EVEN))
    still = GroupMap(first=5, last=5, still=True, matrix=per_head(ONE))
    picture = figure_maps.by_layer_and_group(with_maps(turning, still))
    heads = sum(len(row) for row in planted.scales("kv_head").g)
    assert list(picture.figure.data[0].x) == ["pairs 1–2", "still pairs 5–5"]
    assert [list(row) for row in picture.figure.data[0].z] == [[4.0, 1.0]] * heads
    assert picture.title == "In pairs 1–2 the maps spread one channel over 4.0 of 4 on average"
    assert picture.table["spread_over"].tolist() == [4.0] * heads + [1.0] * heads


def test_a_column_of_two_equal_parts_reaches_two_channels():
    matrix = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert figure_maps.channels_reached(matrix) == pytest.approx((2 + 1 + 1) / 3)
