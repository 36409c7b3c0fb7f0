"""Shuffled scales: the same values in other places, and nothing else."""

import torch

from qroar_core.transforms.scales import Scales
from qroar_core.transforms.shuffled import shuffled_bands, shuffled_heads

BANDS = ((0, 1), (2, 3), (4, 5), (6, 7))


def scales(granularity="kv_head", layers=3, heads=2):
    """Every unit has values of its own: its number in the thousands, its band behind the point."""
    units = {"kv_head": (layers, heads), "layer": (layers, 1), "model": (1, 1)}[granularity]
    number = torch.arange(1, 1 + units[0] * units[1], dtype=torch.float64).view(*units, 1)
    g = number + torch.arange(4, dtype=torch.float64) / 10
    return Scales("symmetric", granularity, BANDS, g.expand(layers, heads, 4).contiguous())


def test_bands_keep_each_units_values_and_change_their_order():
    before = scales()
    after = [shuffled_bands(before, seed) for seed in range(5)]
    for one in after:
        assert torch.equal(one.g.sort(-1).values, before.g)  # planted ascending
        assert (one.mode, one.granularity, one.bands) == (before.mode, before.granularity, before.bands)
    assert sum(torch.equal(one.g, before.g) for one in after) == 0
    orders = {tuple(unit.argsort().tolist()) for one in after for unit in one.g.flatten(0, 1)}
    assert len(orders) > 8  # of 24: every unit draws its own
    assert torch.equal(shuffled_bands(before, 3).g, after[3].g)


def test_shared_scales_stay_shared():
    assert torch.equal(*(shuffled_bands(scales("layer"), 1).g[:, head] for head in (0, 1)))
    whole = shuffled_bands(scales("model"), 1).g
    assert torch.equal(whole, whole[:1, :1].expand_as(whole))
    moved = shuffled_heads(scales("layer"), 2).g
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert sorted(moved[:, 0, 0].tolist()) == [1.0, 2.0, 3.0]


def test_heads_swap_whole_sets_and_layers_without_rope_take_no_part():
    before = scales(layers=4)
    after = shuffled_heads(before, 0, still=(1,))
    assert torch.equal(after.g[1], before.g[1])
    moving = [0, 2, 3]
    given = sorted(map(tuple, after.g[moving].flatten(0, 1).tolist()))
    assert given == sorted(map(tuple, before.g[moving].flatten(0, 1).tolist()))
    assert not torch.equal(after.g, before.g)


def test_with_one_set_for_all_there_is_nothing_to_swap():
    assert shuffled_heads(scales("model"), 0) is None
    assert shuffled_heads(scales(layers=1, heads=1), 0) is None
    assert shuffled_heads(scales("layer", layers=2), 0, still=(0,)) is None


def test_pair_angles_go_with_their_head():
    before = scales()
    angles = before.g[..., :1].expand(3, 2, 8) / 100
    before = Scales("symmetric", "kv_head", BANDS, before.g, angles.contiguous())
    after = shuffled_heads(before, 1)
    assert torch.equal(after.angles[..., 0] * 100, after.g[..., 0])
    assert torch.equal(shuffled_bands(before, 1).angles, before.angles)
