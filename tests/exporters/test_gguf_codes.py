"""What rounding explains in a GGUF, on files that gguf's own library quantizes: every other number is farther."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from qroar_core.exporters.gguf_codes import farthest

Kind = gguf.GGMLQuantizationType
KINDS = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0)


@pytest.fixture
def values():
    """Rows of many sizes, one of zeros, one whose largest number is positive, one far below float16's normal range."""
    rows = np.random.default_rng(3).standard_normal((6, 64)).astype(np.float32)
    rows *= np.float32([1e-7, 1e-3, 0, 1, 30, 1000])[:, None]
    rows[3, 5] = 9
    return rows


def written(path, rows, kind, change=lambda raw: None):
    """A file of one tensor, its bytes changed in place before they are written."""
    raw = quantize(rows, kind).copy()
    change(raw.view(np.uint8).reshape(len(rows), -1))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("w", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_the_library_rounds_is_explained(tmp_path, values, kind):
    far, _ = farthest(written(tmp_path / "m.gguf", values, kind), {"w": torch.from_numpy(values)})
    assert far == 0 if kind == Kind.F32 else 0.5 < far <= 1


def next_code(raw):
    """The first code of the fourth row one level off: a number that no block's largest is."""
    raw[3, 2] ^= 1


def twice(raw):
    """The first scale of the fourth row doubled."""
    raw[3, :2] = (raw[3, :2].copy().view("<f2") * 2).view(np.uint8)


def last_digit(raw):
    """Two of the last digits of the first number of the fourth row."""
    raw[3, 0] ^= 2


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.Q8_0, next_code),
        (Kind.Q8_0, twice),
        (Kind.Q4_0, next_code),
        (Kind.Q4_0, twice),
        (Kind.F16, last_digit),
        (Kind.BF16, last_digit),
        (Kind.F32, last_digit),
    ],
    ids=lambda it: getattr(it, "name", getattr(it, "__name__", "")),
)
def test_one_wrong_number_is_not(tmp_path, values, kind, change):
    far, where = farthest(written(tmp_path / "m.gguf", values, kind, change), {"w": torch.from_numpy(values)})
    assert far > 1
    assert where.split()[0] == "w"


def test_other_tensors_and_shapes_are_named(tmp_path, values):
    path, tensor = written(tmp_path / "m.gguf", values, Kind.F16), torch.from_numpy(values)
    assert farthest(path, {"w": tensor, "more": tensor}) == (float("inf"), "more is in one of the two alone")
    assert farthest(path, {"w": tensor[:5]}) == (float("inf"), "w has another shape or type")
    assert farthest(path, {"w": tensor * float("nan")}) == (float("inf"), "w holds what no rounding gives")
