"""The blown-up diagnosis is one that a file of that size could hold: every list at its size, nothing contradicts."""

import numpy as np
import pytest
import torch

from benchmarks.synthetic import inflated
from qroar_core.diagnostics import run as diagnose
from qroar_core.result_shapes import contradiction
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec
from tests.helpers import planted
from tests.models.families_table import CASES, loaded_of
from tests.models.small_specs import INT4, SMALL, TEXT

SIZES = {
    "more of all": {"length": 4096, "layers": 5, "kv_heads": 6, "head_dim": 48, "bands": 5, "bins": 9, "hidden": 72},
    "fewer bands": {"length": 600, "layers": 7, "kv_heads": 2, "head_dim": 20, "bands": 3, "bins": 40, "hidden": 8},
}


@pytest.fixture(scope="module")
def found(byte_tokenizer, tokenizer_folder):
    """Diagnoses of models of one kind of layers, of two, and of some layers without attention; and the planted one."""

    def small(name, rope):
        loaded = loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
        return diagnose.run(loaded, Setting(rope, INT4, diagnosis=SMALL), TEXT)

    return {
        "alike": small("starcoder2", RopeSpec("yarn", 2.0)),
        "groups": small("gemma3", RopeSpec()),
        "hybrid": small("lfm2", RopeSpec()),
        "planted": planted.diagnosis(),
    }


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", ["alike", "groups", "hybrid", "planted"])
def test_nothing_in_it_contradicts(found, name, sizes):
    asked = SIZES[sizes]
    large = inflated(found[name], **asked)
    written = large.as_written()
    assert contradiction(written) == ""
    layers, heads, bands, bins = (asked[size] for size in ("layers", "kv_heads", "bands", "bins"))
    assert np.shape(large.dilation.absmax) == (layers, bands, bins)
    assert np.shape(large.outliers.maps["k/post"]) == (layers, heads, asked["head_dim"], bins)
    assert len(large.pairs.inv_freq) == asked["head_dim"] // 2
    assert large.position_edges[-1] == large.length == asked["length"]
    assert large.logit_noise.position[-1] < asked["length"] <= 2 * large.logit_noise.distance[-1] + 1
    if large.band_cost is not None:
        assert sum(large.band_cost.channels) == asked["head_dim"]
    assert large.tails.keys() == found[name].tails.keys()


def test_lists_that_grow_are_drawn_in_the_order_they_had_and_the_others_stay(found):
    small = found["alike"]
    large = inflated(small, **SIZES["more of all"])
    assert large.band_cost is not None
    assert large.survival["k/post"].share == small.survival["k/post"].share
    assert large.anisotropy.angle == small.anisotropy.angle
    assert large.pairs.inv_freq == sorted(large.pairs.inv_freq, reverse=True)  # frequencies fall
    assert len(np.unique(large.dilation.rms)) == 5 * 5 * 9  # 5 layers, 5 bands, 9 bins: no number is there twice
    assert large == inflated(small, **SIZES["more of all"])
    assert large.dilation.rms != inflated(small, **SIZES["more of all"], seed=1).dilation.rms


def test_groups_share_the_layers_as_in_the_small_model(found):
    small = found["groups"]
    large = inflated(small, **SIZES["fewer bands"])
    count = len(small.dilation.absmax)
    for before, after in zip(small.groups, large.groups, strict=True):
        assert after.layers == [layer for layer in range(7) if layer % count in before.layers]
        assert len(after.anisotropy.ratio) == len(after.layers)
        assert after.logit_change.layers == after.layers
