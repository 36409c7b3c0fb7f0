"""rope.json: what is written is read back exactly, and whatever is not an interpolation gets one line."""

from __future__ import annotations

import json

import pytest

from qroar_core.cli.rope_options import rope_spec
from qroar_core.cli.settings import check
from qroar_core.errors import BadSpec
from qroar_core.interpolations.rope_file import rope_from_file, rope_text
from qroar_core.interpolations.tie import Tie
from qroar_core.specs import RopeSpec

THIRD = 1 + 1 / 3
SPECS = [
    RopeSpec(),
    RopeSpec(tie=(Tie(4, 7),)),
    RopeSpec("linear", THIRD),
    RopeSpec("ntk", 2.5, tie=(Tie(28, 31, 0.0),)),
    RopeSpec("yarn", 4.0, 512, beta_fast=24.5, beta_slow=0.7, attention_factor=1.0 + 1e-12, tie=(Tie(2, 3, 0.9),)),
    RopeSpec("llama3", 2.0, low_freq_factor=0.5, high_freq_factor=6.0),
    RopeSpec("longrope", 2.0, long_factor=(1.0, THIRD), short_factor=(1.0, 1.5)),
]


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "rope.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.method)
def test_a_spec_comes_back_to_the_last_bit(file, spec):
    path = file(rope_text(spec))
    assert rope_from_file(path) == spec
    options = {"rope": str(path), "factor": spec.factor}
    check(options)
    assert rope_spec(options) == spec


YARN = {"method": "yarn", "factor": 2}
LISTS = {"method": "longrope", "factor": 2}


def test_published_numbers_stand_where_the_file_gives_none(file):
    assert rope_from_file(file(YARN)) == RopeSpec("yarn", 2.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "is no interpolation; give a JSON object"),
        ("{", "cannot be read: not JSON"),
        ({"method": "yarn"}, "it has no factor"),
        ({"factor": 2}, "it has no method"),
        (YARN | {"beta": 1}, "unknown entry 'beta'; choose from method, factor"),
        (YARN | {"low_freq_factor": 1.5}, "yarn takes no low_freq_factor; leave it out"),
        ({"method": "linear", "factor": 2, "attention_factor": 1.2}, "linear takes no attention_factor"),
        ({"method": "default", "factor": 1, "original_context": 64}, "default takes no original_context"),
        ({"method": "yarn", "factor": "2"}, "factor: Input should be a valid number"),
        ({"method": "yarn", "factor": 0.5}, "factor must be at least 1"),
        ({"method": "spline", "factor": 2}, "unknown rope method 'spline'"),
        (YARN | {"tie": [{"first": 3, "last": 2}]}, "pairs 3-2 are no group"),
        (YARN | {"attention_factor": 0}, "attention_factor must be at least 0.001"),
        (YARN | {"attention_factor": 1e30}, "attention_factor must be at most 1000"),
        (YARN | {"original_context": 10**23}, "original_context must be at most 1e.07"),
        (YARN | {"tie": [{"first": 4, "last": 9, "trun": 0}]}, "unknown entry 'trun' of a tie"),
        (YARN | {"tie": [{"first": 4}]}, "tie: a tie needs first and last"),
        (YARN | {"tie": [{"first": 4, "last": 5}, {"first": 5, "last": 6}]}, "tied groups 4-5 and 5-6 overlap"),
        (YARN | {"beta_fast": 0.5}, "need beta_fast > beta_slow > 0, got 0.5, 1.0; correct the file"),
        ({"method": "default", "factor": 2}, "factor 2.0 needs a method"),
        (LISTS | {"long_factor": [1.0, "2"]}, r"long_factor.1: Input should be a valid number; correct the file"),
        (LISTS | {"long_factor": 2.0}, r"long_factor: .*; correct the file"),
        (LISTS | {"short_factor": [1.0, -2.0]}, "short_factor: -2 is no factor of a pair; give numbers above 0"),
    ],
)
def test_what_is_no_interpolation_is_one_line_with_the_file(file, content, words):
    path = file(content)
    with pytest.raises(BadSpec, match=words) as refused:
        rope_from_file(path)
    assert str(refused.value).startswith(f"--rope {path}: ")
    assert "\n" not in str(refused.value)
    assert refused.value.do


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(BadSpec, match=r"cannot be read.*check the path"):
        check({"rope": str(tmp_path / "none.json")})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"factor": 3.0}, "--factor: .*has factor 2, not 3; leave it out"),
        ({"longrope_factors": "lists.json"}, "--longrope-factors: .*sets the interpolation"),
        ({"tie": "1-2"}, "--tie: .*ties 4-5 already; leave it out"),
        ({"tie": "auto", "maps": True}, "--tie: .*ties 4-5 already"),
    ],
)
def test_an_option_that_says_something_else_is_refused(file, more, words):
    path = file(rope_text(RopeSpec("yarn", 2.0, tie=(Tie(4, 5),))))
    with pytest.raises(BadSpec, match=words):
        rope_spec({"rope": str(path)} | more)


def test_pairs_may_be_tied_beside_a_file_that_ties_none(file):
    path = str(file(YARN))
    assert rope_spec({"rope": path, "tie": "4-5"}) == RopeSpec("yarn", 2.0, tie=(Tie(4, 5),))
    assert rope_spec({"rope": path, "tie": "auto", "maps": True}) == RopeSpec("yarn", 2.0)
