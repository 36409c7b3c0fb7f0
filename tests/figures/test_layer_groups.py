"""Figures of models whose layers differ: one set a group that turns, each with its own numbers."""

import sys
from pathlib import Path

import planted
import pytest

from qroar_core.figures import gallery
from qroar_core.results.diagnosis import LayerGroup

sys.path.insert(0, str(Path(__file__).parent))


def group(name, bands, whole, **differ):
    fields = {"layers": [0], "theta": 1e4, "window": None, "interpolated": True, "reach": 64}
    pairs, kernel = (whole.pairs, whole.kernel) if bands else (None, None)
    return LayerGroup(name=name, bands=bands, pairs=pairs, kernel=kernel, **(fields | differ))


@pytest.fixture
def grouped():
    whole = planted.diagnosis()
    slow = [b.model_copy(update={"interpolation_pressure": 0.25 * (1 + b.index)}) for b in whole.bands]
    groups = [
        group("full attention", whole.bands, whole),
        group("window of 16 tokens", slow, whole, window=16, reach=16),
        group("not rotated", [], whole, theta=None, interpolated=False),
    ]
    return whole.model_copy(update={"groups": groups})


def test_a_model_of_one_group_is_drawn_as_before():
    whole = planted.diagnosis()
    titles = [picture.title for picture in gallery.diagnosed(whole)]
    assert titles[0] == "Band 1 turns most under the interpolation, band 0 moves the logits most"
    assert len(gallery.by_layer_group(whole)) == 4


def test_layers_that_no_interpolation_changes_are_not_said_to_turn(grouped):
    still = [b.model_copy(update={"interpolation_pressure": 0.0}) for b in grouped.bands]
    pairs = grouped.pairs.model_copy(update={"interpolation_pressure": [0.0] * 4})
    first, second, *_ = gallery.by_layer_group(planted.diagnosis().model_copy(update={"bands": still, "pairs": pairs}))
    assert first.title == "No interpolation presses on these bands"
    assert second.title == "No interpolation turns these pairs"


def test_every_group_that_turns_has_its_pictures_and_numbers(grouped):
    drawn = gallery.by_layer_group(grouped)
    assert [p.title.split(":")[0] for p in drawn] == ["Full attention"] * 4 + ["Window of 16 tokens"] * 4
    assert drawn[0].table["interpolation_pressure"].tolist() == [0.5, 4.0]
    assert drawn[4].table["interpolation_pressure"].tolist() == [0.25, 0.5]
    assert list(drawn[4].figure.data[0].y) == [0.25, 0.5]
    assert "distances in 64 tokens" in drawn[0].how_to_read
    assert "distances in 16 tokens" in drawn[4].how_to_read
    assert [p.title for p in gallery.diagnosed(grouped)][:8] == [p.title for p in drawn]
