"""A hybrid's layers go by their numbers in the decoder: in every title, axis, hover text and table."""

from __future__ import annotations

import re

import pytest

from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise import figure_split as noise_split
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as outlier_rules
from qroar_core.diagnostics.similarity import figure as similarity
from qroar_core.diagnostics.tail_inflation import figure as tails
from qroar_core.transforms.kinds.scales import figure as scales
from qroar_core.transforms.result import ModelIdentity, ScalesFile
from tests.helpers import planted

NUMBERS = [3, 7]  # decoder layers of the two that were measured
OF_ALL = {
    "noise by layer and band": noise.by_layer_and_band,
    "noise by layer and position": lambda d: noise_split.split(d, "layer"),
    "hidden states": similarity.hidden_states,
    "tails": tails.overview,
    "outlier maps": lambda d: outliers.layers(d, "k/post"),
    "outlier shift": lambda d: outlier_rules.shift(d, "k/post"),
    "outlier error": outlier_rules.error_share,
    "outlier counts": lambda d: outlier_rules.counts(d, "k/post"),
    "error by channel": outlier_rules.error_by_channel,
}
OF_ONE = {
    "range": lambda d: dilation.by_position(d, 1),
    "survival": lambda d: tails.survival(d, ("k/post", 1, 0, 0)),
    "outlier map": lambda d: outliers.channel_map(d, "k/post", 1, 0),
}


def numbered(picture):
    """Every number that follows the word layer, and those of the table."""
    words = picture.title + picture.figure.to_json()
    said = {int(n) for n in re.findall(r"layer (\d+)", words)}
    return said, set(picture.table["layer"]) if "layer" in picture.table else None


@pytest.mark.parametrize("what", OF_ALL)
def test_every_layer_goes_by_its_number_in_the_decoder(what):
    found = planted.diagnosis().model_copy(update={"decoder_layers": NUMBERS})
    said, in_table = numbered(OF_ALL[what](found))
    assert said == in_table == set(NUMBERS)
    plain, plain_table = numbered(OF_ALL[what](planted.diagnosis()))
    assert plain == plain_table == {0, 1}


@pytest.mark.parametrize("what", OF_ONE)
def test_one_layer_goes_by_its_number_in_the_decoder(what):
    found = planted.diagnosis().model_copy(update={"decoder_layers": NUMBERS})
    said, in_table = numbered(OF_ONE[what](found))
    assert said == {7}
    assert in_table in ({7}, None)


@pytest.mark.parametrize("granularity", ["layer", "kv_head"])
def test_scales_are_shown_by_decoder_layer_and_say_so_in_their_file(granularity, tmp_path):
    g = {"layer": [[1.0, 2.0], [0.5, 1.0]], "kv_head": [[[1.0, 2.0], [2.0, 1.0]], [[0.5, 1.0], [1.0, 1.0]]]}
    plain = planted.scales(granularity, g[granularity])
    model = ModelIdentity(**plain.model.model_dump() | {"decoder_layers": NUMBERS})
    path = tmp_path / "scales.json"
    path.write_text(plain.model_copy(update={"model": model}).to_json())
    again = ScalesFile.from_file(path, ValueError)
    assert again.model.decoder_layers == NUMBERS
    assert {int(re.findall(r"layer (\d+)", where)[0]) for where in scales.table_of(again)["where"]} == set(NUMBERS)
    assert {int(re.findall(r"layer (\d+)", where)[0]) for where in scales.table_of(plain)["where"]} == {0, 1}
    assert "decoder_layers" not in plain.to_json()
