"""The space: every candidate is an interpolation that the model takes, within bounds; known ones stand in it."""

from __future__ import annotations

import math
import random

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.interpolations.frequencies import native_inv_freq, rope_of
from qroar_core.interpolations.methods.longrope import KNOTS
from qroar_core.interpolations.registry import interpolation_methods, stretching
from qroar_core.interpolations.tie import Tie
from qroar_core.rope_search.space import Candidate, RopeSpace
from qroar_core.specs import RopeSpec
from tests.models.families_table import CASES, loaded_of

YARN = RopeSpec("yarn", 4.0)
LENGTH = 200  # of native windows of 64


def drawn(space, method, draw):
    numbers = {
        one.name: math.exp(draw.uniform(math.log(one.low), math.log(one.high)))
        if one.log
        else draw.uniform(one.low, one.high)
        for one in space.ranges[method]
    }
    return Candidate(method, numbers, draw.randint(0, space.most_still(method)))


def edges(space, method):
    yield Candidate(method, {one.name: one.low for one in space.ranges[method]})
    yield Candidate(method, {one.name: one.high for one in space.ranges[method]}, space.most_still(method))


@pytest.mark.parametrize("name", ["llama, 1 KV head", "qwen3", "gpt_neox", "gemma3", "phi3, longrope, partial"])
def test_every_candidate_is_taken_by_every_layout(name, byte_tokenizer, tokenizer_folder):
    loaded = loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
    geo = loaded.geometry
    length = int(3.1 * geo.original_context)
    space, draw = RopeSpace.of(loaded, YARN, length), random.Random(0)
    assert set(space.ranges) | set(space.absent) == set(stretching())
    assert ("yarn" in space.ranges) == (geo.family != "phi3")  # its configuration takes LongRoPE alone
    assert "longrope" in space.ranges
    for method in space.ranges:
        for candidate in (*edges(space, method), *(drawn(space, method, draw) for _ in range(3))):
            spec = space.spec(candidate)
            rope = rope_of(loaded, spec, length)
            assert bool((rope.inv_freq[: geo.n_pairs - candidate.still] > 0).all())
            assert int((rope.inv_freq == 0).sum()) == candidate.still
            assert promised_length(loaded, spec) >= length
            for one in space.ranges[method]:
                if (value := getattr(spec, one.name, None)) is not None:
                    assert one.low * (1 - 1e-5) <= value <= one.high * (1 + 1e-5)


def test_numbers_are_kept_to_as_many_digits_as_files_have(tiny):
    space = RopeSpace.of(tiny(), YARN, LENGTH)
    spec = space.spec(Candidate("yarn", {"beta_fast": 12.3456789, "beta_slow": 0.123456789, "attention_factor": 1.1}))
    assert (spec.beta_fast, spec.beta_slow, spec.attention_factor) == (12.3457, 0.123457, 1.1)


def test_longropes_divisors_never_fall_and_are_linear_in_their_logarithm_between_knots(tiny):
    """By hand: ln lambda of the knots from the slowest back, straight lines between, over 16 pairs."""
    space = RopeSpace.of(tiny(head_dim=32), YARN, LENGTH)
    shares = {f"share_{i}": share for i, share in enumerate((0.5, 0.25, 0.8, 0.9))}
    found = space.spec(Candidate("longrope", {"slowest": 6.0, **shares, "attention_factor": 1.2}, 3))
    top = math.log(6.0)
    logs = [top * 0.9 * 0.8 * 0.25 * 0.5, top * 0.9 * 0.8 * 0.25, top * 0.9 * 0.8, top * 0.9, top]
    for pair, factor in enumerate(found.long_factor):
        at = pair / 15 * (KNOTS - 1)
        k = min(int(at), KNOTS - 2)
        assert math.log(factor) == pytest.approx(logs[k] + (at - k) * (logs[k + 1] - logs[k]), abs=1e-5)
    assert found.short_factor == found.long_factor
    assert sorted(found.long_factor) == list(found.long_factor)
    assert found.tie == (Tie(13, 15, 0.0),)
    assert found.attention_factor == 1.2


def test_known_interpolations_are_the_published_ones_and_stand_where_they_are(tiny):
    loaded = tiny(head_dim=32)
    space = RopeSpace.of(loaded, YARN, LENGTH)
    known = {rope.method: (how, rope, candidate) for how, rope, candidate in space.known()}
    assert list(known) == ["linear", "ntk", "dynamic", "yarn", "longrope", "llama3"]
    for method in ("linear", "ntk", "dynamic", "yarn", "llama3"):
        how, rope, candidate = known[method]
        assert (how, rope) == ("published", RopeSpec(method, 4.0))
        again, published = rope_of(loaded, space.spec(candidate), LENGTH), rope_of(loaded, rope, LENGTH)
        torch.testing.assert_close(again.inv_freq, published.inv_freq, rtol=1e-5, atol=0)
        assert again.attention_factor == pytest.approx(published.attention_factor, rel=1e-5)
    how, near, _ = known["longrope"]  # knots of YaRN's own divisors
    wanted = native_inv_freq(loaded) / rope_of(loaded, YARN, LENGTH).inv_freq.double()
    assert how == "nearest"
    assert near.long_factor[-1] == pytest.approx(float(wanted[-1]), rel=1e-5)
    assert near.long_factor[0] == pytest.approx(float(wanted[0]), rel=1e-5)


def test_a_factor_is_searched_from_what_still_reaches_the_length(tiny):
    loaded = tiny()
    for length, low in ((256, 4.0), (128, 2.0), (32, 1.0), (1000, 4.0)):
        (one,) = RopeSpace.of(loaded, YARN, length).ranges["linear"]
        assert (one.low, one.high) == (low, 12.0)
    (counted,) = RopeSpace.of(loaded, RopeSpec("ntk", 4.0), 256).ranges["ntk"]
    assert counted.low == 4.0


def test_pairs_stand_still_only_where_one_list_holds_the_frequencies(tiny):
    space = RopeSpace.of(tiny(head_dim=32), YARN, LENGTH)
    assert {name: space.most_still(name) for name in interpolation_methods() if name != "default"} == {
        **dict.fromkeys(("linear", "ntk", "yarn", "longrope", "llama3"), 4),
        "dynamic": 0,
    }


def test_without_a_factor_there_is_nothing_to_search_around(tiny):
    with pytest.raises(BadSpec, match=r"no factor to search around.*name a method"):
        RopeSpace.of(tiny(), RopeSpec(), 64)
