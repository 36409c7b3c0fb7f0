"""No figure of a diagnosis depends on the chunk it was read in, or on how many short windows were read together.

In float64 a chunk leaves differences of some 1e-15 in q and k, and a rounding that falls the other way for them is not
met at these seeds. So numbers must agree to TOLERANCE, what float32 sketches and fp32 scales leave, and counts exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.models.load import run as load_model
from qroar_core.models.text import Document, split
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

TOLERANCE = 1e-5  # relative; of decibels and nats near 0 the same, absolute
CHUNKS = {"64 tokens, one short window": (64, 1), "192 tokens, eight": (192, 8), "whole, three": (512, 3)}
TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
QUANTIZERS = {
    "nothing": QuantSpec(),
    "int4": QuantSpec(k=QuantizerSpec(4)),
    "q int4": QuantSpec(qk=QuantizerSpec(4)),
    "before RoPE": QuantSpec(k=QuantizerSpec(4, before_rope=True)),
    "weights and K": QuantSpec(k=QuantizerSpec(4), weights=WeightQuantSpec(4)),
    **{name: QuantSpec(k=KV_PRESETS[name].k, v=KV_PRESETS[name].v) for name in ("kivi2", "q4_0")},
}
ROPES = {"yarn": RopeSpec("yarn", 8.0), "dynamic": RopeSpec("dynamic", 8.0), "none": RopeSpec()}
CASES = [*(("yarn", quant) for quant in QUANTIZERS), ("dynamic", "int4"), ("dynamic", "q4_0"), ("none", "kivi2")]
found: dict[tuple[str, str], list[dict[str, Any]]] = {}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number or word of a nested result under its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, value


def diagnosed(loaded, rope: RopeSpec, quant: QuantSpec, spec: DiagnosisSpec, text, monkeypatch) -> list[dict[str, Any]]:
    """The same diagnosis read in every way of CHUNKS, flat."""
    out = []
    for chunk, batch in CHUNKS.values():
        monkeypatch.setattr(diagnose, "SHORT_BATCH_TOKENS", batch * spec.short_length)
        asked = DiagnosisSpec(**{**vars_of(spec), "chunk": chunk})
        kept = diagnose.run(loaded, Setting(rope, quant, diagnosis=asked), text).model_dump(mode="json")
        out.append(dict(leaves({name: value for name, value in kept.items() if name != "seconds"})))
    return out


def vars_of(spec: DiagnosisSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__slots__}


def differing(several: list[dict[str, Any]]) -> dict[str, tuple]:
    """Path -> its values, where they do not agree."""
    first, *others = several
    for other in others:
        assert other.keys() == first.keys()
    return {
        path: tuple(one[path] for one in several)
        for path, value in first.items()
        if not all(same(value, other[path], path) for other in others)
    }


def same(a: Any, b: Any, path: str) -> bool:
    """Numbers to TOLERANCE; whole numbers, words and what is missing exactly.

    Moved mass is half a sum of differences of shares: where it is small, what float32 leaves of them is its error.
    """
    if isinstance(a, float) and isinstance(b, float):
        least = 1e-6 if "mass_moved" in path else TOLERANCE * 1e-3
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=least)
    return a == b


def of_case(case: tuple[str, str], tiny, monkeypatch) -> dict[str, tuple]:
    """What differs in a case on the tiny model; measured once for the two tests below."""
    if case not in found:
        loaded = tiny(dtype=torch.float64, head_dim=32)
        spec = DiagnosisSpec(length=512, short_length=64, bands=BandSpec(4), eps=0.01)
        found[case] = diagnosed(loaded, ROPES[case[0]], QUANTIZERS[case[1]], spec, TEXT, monkeypatch)
    return differing(found[case])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}, {case[0]}")
def test_no_figure_depends_on_chunks_and_batches(case, tiny, monkeypatch):
    assert of_case(case, tiny, monkeypatch) == {}


@cache
def demo_in_float64():
    return load_model("demo", device="cpu", dtype="float64")


def test_the_demo_says_the_same_in_every_chunk(monkeypatch):
    """A trained model, with outliers; KIVI's blocks of 32 keys behind 128 unrounded ones."""
    spec = DiagnosisSpec(length=512, short_length=128)
    several = diagnosed(
        demo_in_float64(), RopeSpec("yarn", 4.0), QUANTIZERS["kivi2"], spec, split("calibration"), monkeypatch
    )
    assert differing(several) == {}


def test_a_number_that_moves_is_named():
    """The comparison itself can fail: by a number, by a count, by a hole."""
    one = dict(leaves({"a": [1.0, 2.0], "b": 3, "c": None, "d": 0.0}))
    for path, other in (("a[1]", 2.0001), ("b", 4), ("c", 0.0), ("d", 1e-6)):
        assert differing([one, one | {path: other}]) == {path: (one[path], other)}
    assert differing([one, one | {"a[0]": 1.0 + 1e-7}]) == {}
