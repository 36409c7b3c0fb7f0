"""A field that holds a number holds one: fractions, words and True are refused by its name, in one line."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from qroar_core import specs
from qroar_core.errors import BadSpec
from qroar_core.interpolations.spec import rope_of_block

KINDS = [kind for name, kind in vars(specs).items() if name.endswith("Spec")]
NEEDED = {"bits": 4, "tasks": ("task",)}
FIELDS = [(kind, field) for kind in KINDS for field in fields(kind)]


def made(kind, name, value):
    needed = {f.name: NEEDED[f.name] for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return kind(**needed | {name: value})


def of(*annotations):
    return [
        pytest.param(kind, field.name, id=f"{kind.__name__} {field.name}")
        for kind, field in FIELDS
        if str(field.type) in annotations
    ]


def refused(kind, name, value):
    with pytest.raises(BadSpec) as caught:
        made(kind, name, value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_spec_is_here():
    assert {kind.__name__ for kind in KINDS} >= {
        "RopeSearchSpec",
        "SearchSpec",
        "RopeSpec",
        "QuantizerSpec",
        "BandSpec",
    }
    assert len(of("int", "int | None")) > 60


@pytest.mark.parametrize(("kind", "name"), of("int", "int | None"))
@pytest.mark.parametrize("value", [2.5, 64.0, True, "8", [8]], ids=repr)
def test_a_whole_number_is_one(kind, name, value):
    assert refused(kind, name, value).startswith(f"{name} must be a whole number, got {value!r}")


@pytest.mark.parametrize(("kind", "name"), of("float", "float | None"))
@pytest.mark.parametrize("value", [True, "0.9"], ids=repr)
def test_a_number_is_one(kind, name, value):
    assert refused(kind, name, value).startswith(f"{name} must be a number, got {value!r}")


@pytest.mark.parametrize(("kind", "name"), of("tuple[int, ...]", "tuple[float, ...]", "tuple[float, ...] | None"))
def test_a_list_of_numbers_is_one(kind, name):
    assert f"{name} must be a list of" in refused(kind, name, "64")
    assert f"{name} must be a list of" in refused(kind, name, 64)
    for value in (True, "64"):
        assert f"each of {name} must be a" in refused(kind, name, (value,))


def test_a_refusal_says_what_to_give():
    assert refused(specs.RopeSearchSpec, "trials", 2.5).endswith("got 2.5; give one such as 40")
    assert refused(specs.EvaluationSpec, "targets", 2.5).endswith("got 2.5; give one, or leave it out")


def test_lists_are_kept_as_tuples_so_that_specs_stay_values():
    listed = specs.EvaluationSpec(lengths=[64, 128])
    assert listed == specs.EvaluationSpec(lengths=(64, 128))
    assert hash(listed) == hash(specs.EvaluationSpec(lengths=(64, 128)))
    assert specs.RopeSpec("longrope", 2, long_factor=[1, 2.5]).long_factor == (1, 2.5)


def test_a_file_of_before_that_writes_its_window_as_a_fraction_opens():
    """`Rope(original_context=2048.0)` was taken, and scales.json kept it so."""
    rope = rope_of_block({"method": "yarn", "factor": 2.0, "original_context": 2048.0})
    assert rope == specs.RopeSpec("yarn", 2.0, original_context=2048)
    assert isinstance(rope.original_context, int)
