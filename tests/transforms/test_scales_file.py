"""scales.json: exact to the last bit there and back, and kept off every model it was not made for."""

import json
import math
from pathlib import Path

import pytest
import torch

from qroar_core.errors import BadOutput, BadScales
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file, rope_from, to_file, write_atomically
from qroar_core.transforms.scales import Scales

BANDS = ((0, 0), (1, 4), (5, 7))  # of the tiny model's 8 pairs
ROPE, QUANT = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
SHARED_BY = {"model": (1, 1), "layer": (2, 1), "kv_head": (2, 2)}


def awkward(granularity, mode="symmetric"):
    """Scales whose every bit matters: irrational, tiny, huge, one ulp from 1."""
    generator = torch.Generator().manual_seed(5)
    g = (4 * torch.randn(*SHARED_BY[granularity], 3, generator=generator, dtype=torch.float64)).exp2()
    g[0, 0] = torch.tensor([math.nextafter(1, 2), 1 / 3, 1e-300], dtype=torch.float64)
    return Scales(mode, granularity, BANDS, g.expand(2, 2, 3).contiguous())


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("granularity", SHARED_BY)
def test_there_and_back_to_the_last_bit(tiny, tmp_path, granularity, mode):
    loaded, scales, path = tiny(), awkward(granularity, mode), tmp_path / "scales.json"
    write_atomically(path, to_file(loaded, ROPE, QUANT, scales, {"trials": 7}).to_json())
    again, content = from_file(path, loaded)
    assert torch.equal(again.g, scales.g)
    assert again.g.dtype == torch.float64
    assert (again.mode, again.granularity, again.bands) == (mode, granularity, BANDS)
    assert content.search == {"trials": 7}
    assert rope_from(content.rope) == ROPE
    raw = json.loads(path.read_text())["g"]
    depth = {"model": 1, "layer": 2, "kv_head": 3}[granularity]
    for _ in range(depth - 1):
        raw = raw[0]
    assert raw == [math.nextafter(1, 2), 1 / 3, 1e-300]


@pytest.mark.parametrize(
    "rope",
    [
        RopeSpec(),
        RopeSpec("llama3", 8.0, original_context=32),
        RopeSpec("yarn", 2.5, beta_fast=16.0, beta_slow=0.5),
        RopeSpec("longrope", 2.0, long_factor=(1.5,) * 8, short_factor=(1.0,) * 8),
    ],
    ids=lambda r: r.method,
)
def test_the_rope_comes_back_as_it_was(tiny, tmp_path, rope):
    loaded, path = tiny(), tmp_path / "scales.json"
    path.write_text(to_file(loaded, rope, QUANT, awkward("model")).to_json())
    assert rope_from(from_file(path, loaded)[1].rope) == rope


@pytest.mark.parametrize(
    "block",
    [
        {"method": "foo"},
        {"colour": 1},
        {"method": "yarn", "factor": 0.5},
        {"factor": "x"},
        {"method": "yarn", "factor": None},
    ],
)
def test_a_rope_block_of_the_future_is_refused(block):
    with pytest.raises(BadScales, match=r"rope block is not understood .*; name --rope and --factor"):
        rope_from(block)


def write(path, loaded, change):
    content = json.loads(to_file(loaded, ROPE, QUANT, awkward("kv_head")).to_json())
    change(content)
    path.write_text(json.dumps(content))
    return path


def set_at(*keys):
    """A change that puts the last argument at the path of the others."""
    *way, last, value = keys

    def change(content):
        for key in way:
            content = content[key]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("model", "fingerprint", "0" * 16), r"made for tiny-llama \(0{16}\), this model is tiny-llama"),
        (set_at("version", 4), "version"),
        (set_at("version", 3), "says version 3, and what it has is of version 1"),
        (
            set_at("version", 2),
            r"\(band scales since version 1, pair angles since version 2, channel maps since",
        ),
        (set_at("version", "1"), "version"),
        (set_at("format", "other"), "format"),
        (set_at("mode", "both"), "mode"),
        (set_at("granularity", "head"), "granularity"),
        (set_at("granularity", "layer"), "g: no table of 2 x 3 numbers, one per layer and band"),
        (set_at("bands", []), "bands"),
        (set_at("bands", [[0, 3], [4, 7]]), "g: no table of 2 x 2 x 2 numbers, one per layer, KV head and band"),
        (set_at("bands", 0, [0, 1]), "8 RoPE pairs"),
        (set_at("bands", 2, [5, 8]), "8 RoPE pairs"),
        (set_at("bands", 2, [5, 6]), "8 RoPE pairs"),
        (set_at("bands", [[5, 7], [1, 4], [0, 0]]), "8 RoPE pairs"),
        (set_at("g", []), "g: no table of 2 x 2 x 3 numbers"),
        (set_at("g", 0, [[1.0, 1.0, 1.0]]), "g: no table of 2 x 2 x 3 numbers"),
        (set_at("g", 0, 0, 0, 0.0), "g: a scale that is not above 0"),
        (set_at("g", 0, 0, 0, -2.0), "g: a scale that is not above 0"),
        (set_at("g", 0, 0, 0, float("nan")), "g: a number that is not finite"),
        (set_at("g", 0, 0, 0, float("inf")), "g: a number that is not finite"),
        (set_at("g", 0, 0, 0, "2.0"), "g: no table of 2 x 2 x 3 numbers"),
        (set_at("g", 0, 0, 0, None), "g: no table of 2 x 2 x 3 numbers"),
        (set_at("g", 0, 0, 0, {"a": 1}), "g: no table of 2 x 2 x 3 numbers"),
        (set_at("extra", 1), "extra"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tiny, tmp_path, change, message):
    loaded = tiny()
    path = write(tmp_path / "scales.json", loaded, change)
    with pytest.raises(BadScales, match=message) as caught:
        from_file(path, loaded)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unchanged_it_is_taken(tiny, tmp_path):
    """Or the test above could not fail."""
    loaded = tiny()
    from_file(write(tmp_path / "scales.json", loaded, lambda content: None), loaded)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'"words"'])
def test_what_is_no_scales_file_is_refused(tiny, tmp_path, content):
    path = tmp_path / "scales.json"
    path.write_bytes(content)
    with pytest.raises(BadScales) as caught:
        from_file(path, tiny())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_changed_weight_makes_another_model(tiny, tmp_path):
    """The same architecture and name are not enough."""
    path = tmp_path / "scales.json"
    path.write_text(to_file(tiny(seed=0), ROPE, QUANT, awkward("layer")).to_json())
    from_file(path, tiny(seed=0))
    with pytest.raises(BadScales, match=r"made for .* this model is"):
        from_file(path, tiny(seed=1))


def test_writing_replaces_whole_files_only(tmp_path, monkeypatch):
    import os

    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "first ü")
    assert path.read_text(encoding="utf-8") == "first ü"
    assert path.stat().st_mode & 0o777 == 0o644
    seen = []
    real = os.replace

    def watched(source, target):
        seen.append((path.read_text(encoding="utf-8"), Path(source).read_text(encoding="utf-8")))
        real(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(path, "second")
    assert seen == [("first ü", "second")]  # whole before it takes the old one's place
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stop"])
def test_a_failed_write_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch, trouble):
    import os

    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def fails(*args):
        raise trouble

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(BadOutput if isinstance(trouble, OSError) else KeyboardInterrupt):
        write_atomically(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]
    assert path.read_text() == "old"


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOutput, match="choose another folder"):
        write_atomically(tmp_path / "file" / "scales.json", "{}")
