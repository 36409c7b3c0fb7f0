"""Malformed GGUF files: each one clear line of ours, no other exception, nothing written."""

from __future__ import annotations

import random
import re
import struct

import pytest

from qroar_core.errors import BadCheckpoint, QRoarError
from qroar_core.exporters import gguf_copy
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.header_entries import entry, header_bytes
from qroar_core.specs import RopeSpec
from tests.models.gguf_files import write_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Bytes of a good file, and its header."""
    path = write_model(tmp_path_factory.mktemp("good") / "m.gguf")
    return path.read_bytes(), read_header(path)


def refusal(content, folder):
    """The line that refuses `content`; asserts that it is one line, names the file, and leaves no trace."""
    path = folder / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(QRoarError) as caught:
        gguf_copy.run(path, None, RopeSpec("linear", 2.0), folder / "out")
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    assert "bad.gguf" in line or "--rope" in line
    assert [p.name for p in folder.iterdir()] == ["bad.gguf"]
    assert path.read_bytes() == content
    return line


@pytest.mark.parametrize("share", [0, 1, 3, 4, 7, 8, 12, 15, 16, 23, 24, 31, 60, 100, 200, 300, 400, 500, 600, 700])
def test_a_file_cut_in_its_header(whole, tmp_path, share):
    content, header = whole
    line = refusal(content[: share * header.data_start // 800 if share > 24 else share], tmp_path)
    assert "not a readable GGUF file (" in line or "it is empty" in line


@pytest.mark.parametrize("part", range(10))
def test_a_file_cut_in_its_data(whole, tmp_path, part):
    content, header = whole
    end = header.data_start + header.data_bytes
    cut = header.data_start + part * header.data_bytes // 10
    assert f"it ends {end - cut} bytes before its last tensor does" in refusal(content[:cut], tmp_path)


def with_tensor(header, **changes):
    """The header's tensor list with attn_q of layer 0 changed, as header bytes and room for its data."""
    values = {"name": "blk.0.attn_q.weight", "shape": (256, 256), "kind": 8} | changes

    class Claimed:
        """A TensorInfo that may lie."""

        def __init__(self, info):
            self.name, self.shape, self.kind, self.offset = info.name, info.shape, info.kind, info.offset
            if info.name == "blk.0.attn_q.weight":
                self.__dict__.update(values)

    head = header_bytes(header.entries.values(), [Claimed(t) for t in header.tensors.values()], header.alignment)
    return head + bytes(header.data_bytes)


HUGE = (1 << 64) - 1
TENSORS = [
    ({"name": "../../../etc/passwd"}, "is no name for a tensor"),
    ({"name": "/etc/passwd"}, "is no name for a tensor"),
    ({"name": "a/b.weight"}, "is no name for a tensor"),
    ({"name": "C:\\x"}, "is no name for a tensor"),
    ({"name": "a..b"}, "is no name for a tensor"),
    ({"name": "a\nb"}, "is no name for a tensor"),
    ({"name": "a\0b"}, "is no name for a tensor"),
    ({"name": "x" * 64}, "has 64 bytes, 1 to 63 are allowed"),
    ({"name": ""}, "has 0 bytes"),
    ({"name": "output_norm.weight"}, "tensor output_norm.weight comes twice"),
    ({"kind": 99}, "unknown type 99"),
    ({"kind": HUGE & 0xFFFFFFFF}, "unknown type"),
    ({"kind": 4}, "unknown type 4"),
    ({"kind": 0}, "is its place"),
    ({"kind": 14}, "is its place"),
    ({"shape": (256, HUGE)}, "is its place"),
    ({"shape": (1 << 40, 1 << 40)}, "is its place"),
    ({"shape": (HUGE - 31, 2)}, "is its place"),
    ({"shape": (0, 256)}, "has shape"),
    ({"shape": (250, 256)}, "comes in blocks of 32"),
    ({"shape": ()}, "has 0 dimensions"),
    ({"shape": (32, 1, 1, 1, 1)}, "has 5 dimensions"),
    ({"shape": (256, 255)}, "is its place"),
    ({"shape": (512, 128)}, "its sizes say"),
    ({"shape": (65536,)}, "its sizes say"),
    ({"offset": 1}, "begins at byte 1 of the data"),
    ({"offset": HUGE}, "is its place"),
    ({"offset": 0}, "is its place"),
]


@pytest.mark.parametrize(("changes", "message"), TENSORS, ids=lambda x: str(x)[:40])
def test_a_hostile_tensor(whole, tmp_path, changes, message):
    assert re.search(message, refusal(with_tensor(whole[1], **changes), tmp_path))


def with_entry(whole, key, kind, value):
    """The good file with one key set."""
    content, header = whole
    entries = header.entries | {key: entry(key, kind, value)}
    head = header_bytes(entries.values(), header.tensors.values(), header.alignment)
    return head + content[header.data_start :]


U32, STRING, F32, I32, F64 = 4, 8, 6, 5, 12
KEYS = [
    ("general.alignment", U32, 0, "alignment 0 is no power of two"),
    ("general.alignment", U32, 3, "alignment 3 is no power of two"),
    ("general.alignment", U32, 1 << 31, "is no power of two"),
    ("general.alignment", STRING, "32", "alignment '32' is no power"),
    ("general.architecture", STRING, "x" * 5000, "architecture x+ is not known"),
    ("general.architecture", U32, 5, "architecture 5 is not known"),
    ("general.architecture", STRING, "../llama", "architecture ../llama is not known"),
    ("llama.block_count", U32, 0, "llama.block_count is 0"),
    ("llama.block_count", U32, 3, "blk.2.attn_q.weight is missing"),
    ("llama.block_count", U32, (1 << 31) - 1, "blk.2.attn_q.weight is missing"),
    ("llama.block_count", STRING, "two", "llama.block_count is two"),
    ("llama.attention.head_count", U32, 0, "head_count is 0"),
    ("llama.attention.head_count", U32, 3, "3 query heads over 2 KV heads"),
    ("llama.attention.head_count", U32, 512, "rotated: no layout known|is 0"),
    ("llama.attention.head_count_kv", U32, 4, "blk.0.attn_k has shape"),
    ("llama.attention.head_count_kv", I32, -2, "head_count_kv is -2"),
    ("llama.attention.head_count_kv", U32, [2, 1], r"head_count_kv is \[2, 1\]"),
    ("llama.attention.key_length", U32, 32, "64 of 32 channels"),
    ("llama.embedding_length", U32, 512, "rotated|has shape"),
    ("llama.rope.dimension_count", U32, 32, "32 of 64 channels rotated"),
    ("llama.rope.freq_base", F32, float("nan"), "freq_base is nan"),
    ("llama.rope.freq_base", F32, -1.0, "freq_base is -1.0"),
    ("llama.rope.freq_base", F64, 1e300, "freq_base is 1e"),
    ("llama.rope.freq_base", STRING, "a", "freq_base is 'a'"),
    ("llama.context_length", F32, 1.5, "context_length is 1.5"),
    ("llama.context_length", U32, 0, "context_length is 0"),
    ("llama.rope.scaling.type", STRING, "dynamic", "rope.scaling.type is 'dynamic'"),
]


@pytest.mark.parametrize(("key", "kind", "value", "message"), KEYS, ids=lambda x: str(x)[:30])
def test_a_hostile_key(whole, tmp_path, key, kind, value, message):
    assert re.search(message, refusal(with_entry(whole, key, kind, value), tmp_path))


COUNTS = [
    (4, "<I", 1, "version 1 is not known"),
    (4, "<I", 4, "version 4 is not known"),
    (4, ">I", 3, "it is big-endian"),
    (8, "<Q", HUGE, "claims .* tensors"),
    (8, "<Q", 0, "it holds no tensors"),
    (8, "<Q", 1000, "not a readable GGUF"),
    (8, "<Q", 1, "not known|is missing|no token_embd"),
    (16, "<Q", HUGE, "claims .* keys"),
    (16, "<Q", 0, "not a readable GGUF"),
    (16, "<Q", 65_000, "not a readable GGUF"),
    (24, "<Q", HUGE, "a key has 18446744073709551615 bytes"),
    (24, "<Q", 0, "a key has 0 bytes"),
    (0, "<I", 0, "does not begin with GGUF"),
]


@pytest.mark.parametrize(("at", "form", "value", "message"), COUNTS)
def test_a_hostile_count(whole, tmp_path, at, form, value, message):
    content = bytearray(whole[0])
    content[at : at + struct.calcsize(form)] = struct.pack(form, value)
    assert re.search(message, refusal(bytes(content), tmp_path))


def test_lists_that_claim_more_than_the_file_holds(whole, tmp_path):
    for item, kind in ((HUGE, 8), (1 << 50, 8), (HUGE, 4), (HUGE, 9), (3, 77)):
        key = entry("x", 4, 0)
        lying = key.raw[:9] + struct.pack("<IIQ", 9, kind, item)
        content, header = whole
        entries = [type(key)("x", lying, None), *header.entries.values()]
        (tmp_path / "bad.gguf").unlink(missing_ok=True)
        line = refusal(header_bytes(entries, header.tensors.values(), 32) + content[header.data_start :], tmp_path)
        assert "not a readable GGUF file (x" in line or "it ends inside x" in line


@pytest.mark.parametrize("seed", range(100))
def test_flipped_bytes_never_crash(whole, tmp_path, seed):
    """Up to eight random bytes of the header changed: refused in one line, or still a file gguf's rules allow."""
    content, header = whole
    rng, damaged = random.Random(seed), bytearray(content)
    for _ in range(rng.randint(1, 8)):
        damaged[rng.randrange(header.data_start)] = rng.randrange(256)
    path = tmp_path / "bad.gguf"
    path.write_bytes(damaged)
    try:
        gguf_copy.run(path, None, RopeSpec("linear", 2.0), tmp_path / "out")
    except QRoarError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert [p.name for p in tmp_path.iterdir()] == ["bad.gguf"]
    else:
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "bad.gguf", "qroar.json"]


def test_a_folder_and_a_missing_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(BadCheckpoint, match="cannot be read"):
            gguf_copy.run(path, None, RopeSpec("linear", 2.0), tmp_path / "out")
