"""The map of pair angles: degrees from the nearest axis, row by row; none without angles."""

import math

from qroar_core.transforms.kinds.angles import figure as figure_angles
from tests.helpers import planted


def with_angles(per_head):
    return planted.scales("kv_head").model_copy(update={"version": 2, "angles": per_head})


def test_no_angles_no_picture():
    assert figure_angles.by_layer_and_pair(planted.scales("kv_head")) is None


def test_cells_are_degrees_from_the_nearest_axis():
    shape = planted.scales("kv_head").g
    table = [[[math.radians(d) for d in (0, 10, 50, 100, -80, 135)] for _ in heads] for heads in shape]
    picture = figure_angles.by_layer_and_pair(with_angles(table))
    assert [round(x, 9) for x in picture.figure.data[0].z[0]] == [0, 10, -40, 10, 10, -45]
    assert len(picture.table) == 6 * sum(len(heads) for heads in shape)
    assert picture.title == "33% of the pairs lie more than 15 degrees off the axes they had"
    assert len(picture.figure.data[0].y) == sum(len(heads) for heads in shape)
