"""Every kind of transform is in every list, and all that a family takes at once leave its logits as they are."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from qroar_core.errors import BadScales, BadSpec
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.figures import figures_of
from qroar_core.transforms.file import tables_of, to_file
from qroar_core.transforms.groups import groups_of, part_alike, still_channels
from qroar_core.transforms.polish import Polish
from qroar_core.transforms.refusals import require, why_not
from qroar_core.transforms.registry import flag, kinds, switches
from qroar_core.transforms.result import ScalesFile
from qroar_core.transforms.scales import Scales
from tests.models.families.scaled import EXACT, bands_of, random_g, streamed
from tests.models.families_table import CASES, WIDE
from tests.transforms.test_angles import with_angles
from tests.transforms.test_maps import tied, with_maps
from tests.transforms.test_value_maps import random_maps

QUANT = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))


def drawn_maps(loaded, case, rope, scales):
    drawn = with_maps(loaded, case, rope)
    return replace(scales, groups=drawn.groups, maps=drawn.maps)


def drawn_offset(loaded, case, rope, scales):
    geo, generator = loaded.geometry, torch.Generator().manual_seed(11)
    drawn = 3 * torch.randn(geo.n_layers, geo.n_kv_heads, geo.head_dim, generator=generator, dtype=torch.float64)
    return replace(scales, k_offset=drawn * still_channels(geo, rope)[:, None])


def drawn_polish(loaded, rope, seed=13):
    """Random matrices around 1 for every head and tied group."""
    geo, generator = loaded.geometry, torch.Generator().manual_seed(seed)
    groups = tuple(group for group in groups_of(geo, rope) if not group.rest)

    def around_one(heads, size):
        drawn = torch.randn(geo.n_layers, heads, size, size, generator=generator, dtype=torch.float64)
        return torch.eye(size, dtype=torch.float64) + 0.3 * drawn

    return Polish(groups, *(tuple(around_one(n, g.size) for g in groups) for n in (geo.n_heads, geo.n_kv_heads)))


DRAWN = {  # a random transform of the kind beside what is there
    "scales": lambda _loaded, case, _rope, scales: replace(scales, g=random_g(case, seed=5)),
    "angles": lambda _loaded, case, _rope, scales: replace(scales, angles=with_angles(case).angles),
    "maps": drawn_maps,
    "value_maps": lambda loaded, _case, _rope, scales: replace(scales, value_maps=random_maps(loaded)),
    "k_offset": drawn_offset,
    "polish": lambda loaded, _case, rope, scales: replace(scales, polish=drawn_polish(loaded, rope)),
}


def rope_of(case):
    """With tied pairs, one group of them still; DeepSeek's own YaRN stays, as its softmax belongs to it."""
    return RopeSpec() if case.family.startswith("deepseek") else tied(case)


def all_at_once(loaded, case, rope, free=False):
    """One of every kind that the model takes, or of every one that is exact, and the names of these."""
    refused = why_not(loaded.geometry, rope, QUANT)
    taken = [name for name, kind in kinds().items() if name not in refused and (kind.free or not free)]
    scales = Scales("symmetric", case.finest, bands_of(case), random_g(case))
    for name in taken:
        scales = DRAWN[name](loaded, case, rope, scales)
    return scales, taken


def test_a_kind_is_a_field_of_what_asks_for_it_holds_it_and_writes_it():
    assert list(DRAWN) == list(kinds())
    assert [name for name, kind in kinds().items() if kind.switch is None] == ["scales"]
    for name in switches():
        assert name in {field.name for field in fields(SearchSpec)}
        assert name in {field.name for field in fields(Scales)}
        assert name in ScalesFile.model_fields
    versions = [kind.version for kind in kinds().values()]
    assert versions == sorted(set(versions))
    assert ScalesFile.model_fields["version"].annotation.__args__ == tuple(versions)


@pytest.mark.parametrize("name", ["llama, 1 KV head", "gpt_neox"])
def test_a_transform_of_every_kind_is_written_and_drawn_under_their_names(build, name):
    loaded, case = build(name), CASES[name]
    rope = rope_of(case)
    scales, taken = all_at_once(loaded, case, rope)
    assert taken == list(kinds())
    content = to_file(loaded, rope, QUANT, scales)
    assert set(tables_of(scales)) == set(content.kinds) == set(switches())
    assert list(figures_of(content)) == list(kinds())
    assert content.version == max(kind.version for kind in kinds().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_all_kinds_that_a_family_takes_at_once_leave_its_logits(build, tokens, name):
    loaded, case = build(name), CASES[name]
    rope = rope_of(case)
    scales, taken = all_at_once(loaded, case, rope, free=True)
    with WIDE():
        plain = streamed(loaded, tokens, Condition(rope))
        torch.testing.assert_close(streamed(loaded, tokens, Condition(rope, scales=scales)), plain, **EXACT)
    assert taken[0] == "scales"
    assert [name for name, kind in kinds().items() if not kind.free] == ["polish"]  # and no more is left out


def test_what_a_model_cannot_take_is_refused_by_the_option_with_the_reason(build):
    geometry = build("qwen3").geometry
    refused = why_not(geometry, RopeSpec("linear", 2.0), QuantSpec(k=QuantizerSpec(4)))
    assert set(refused) == set(switches())  # V is not rounded, q and k are normalised before RoPE
    for name in refused:
        with pytest.raises(BadSpec) as caught:
            require(name, geometry, RopeSpec("linear", 2.0), QuantSpec(k=QuantizerSpec(4)))
        assert caught.value.where == flag(name)


@pytest.mark.parametrize("name", ["gpt_neox", "llama, 1 KV head"])
def test_the_part_that_fits_another_interpolation_leaves_its_logits(build, tokens, name):
    """Of everything at once under ties, what is left without them: maps past the rotated channels, where there are."""
    loaded, case = build(name), CASES[name]
    rope = tied(case, "yarn")
    whole = drawn_offset(loaded, case, rope, with_maps(loaded, case, rope))
    whole = replace(whole, polish=drawn_polish(loaded, rope))
    untied = replace(rope, tie=())
    part = part_alike(loaded.geometry, untied, whole)
    rest = loaded.geometry.head_dim - loaded.geometry.rotary_dim
    assert [group.rest for group in part.groups] == ([rest] if rest else [])
    assert part.shifts == bool(rest)
    assert part.polish is None
    assert (part.g, part.angles) == (whole.g, whole.angles)
    assert part_alike(loaded.geometry, rope, whole).digest == whole.digest
    with WIDE():
        plain = streamed(loaded, tokens, Condition(untied))
        torch.testing.assert_close(streamed(loaded, tokens, Condition(untied, scales=part)), plain, **EXACT)
        with pytest.raises(BadScales):
            streamed(loaded, tokens, Condition(untied, scales=whole))
