"""Malformed quantized folders: each one clear line of ours, no other exception, nothing written anywhere."""

from __future__ import annotations

import json
import random
import shutil
import struct

import pytest

from qroar_core.errors import QRoarError
from qroar_core.models.formats.quantized_folder import stored_tensors
from tests.models.quantized_folders import write_quantized

pytest.importorskip("compressed_tensors")
FORMS = ("awq", "gptq4", "pack4", "int8", "nf4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sound folder of each format, written once."""
    return {"root": tmp_path_factory.mktemp("sound")}


@pytest.fixture
def folder(whole, tiny, tmp_path, monkeypatch):
    """`folder(form)` -> a copy of a sound one, to be damaged."""
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))

    def copy(form):
        if form not in whole:
            whole[form] = whole["root"] / form
            whole[form].mkdir()
            loaded = tiny(hidden_size=64)
            write_quantized(whole[form], loaded, form)
        return shutil.copytree(whole[form], tmp_path / "model")

    return copy


def outcome(tmp_path, must_fail=True):
    """Read the damaged folder; the line that refuses it, or "" where what is left is still a checkpoint."""
    before = {p: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    try:
        tensors, label = stored_tensors(tmp_path / "model")
        for stored in tensors.values():
            assert tuple(stored[...].shape) == stored.shape
        line = "" if label else "plain"
    except QRoarError as error:
        line = str(error)
        assert "\n" not in line
        assert len(line) < 500
    assert line or not must_fail
    assert {p: p.read_bytes() for p in (tmp_path / "model").iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"model"}
    return line


def test_the_sound_folders_are_read(folder, tmp_path):
    for form in FORMS:
        folder(form)
        assert outcome(tmp_path, must_fail=False) == ""
        shutil.rmtree(tmp_path / "model")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", range(12))
def test_weights_cut_anywhere(folder, tmp_path, form, part):
    path = folder(form) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * part // 12])
    assert "cannot be read" in outcome(tmp_path)


@pytest.mark.parametrize("seed", range(120))
def test_flipped_bytes_of_the_header_never_crash(folder, tmp_path, seed):
    """Names, types, shapes, offsets: up to eight random bytes changed, as often as not to another digit or letter."""
    rng = random.Random(seed)
    path = folder(FORMS[seed % len(FORMS)]) / "model.safetensors"
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(rng.randint(1, 8)):
        content[8 + rng.randrange(length)] = (
            rng.choice(b"0123456789IFUB_.") if rng.random() < 0.5 else rng.randrange(256)
        )
    path.write_bytes(content)
    outcome(tmp_path, must_fail=False)


def rewritten(path, change):
    """The same file with `change(header)` applied to its table."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    change(head)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


SHAPES = ([], [0], [1], [-1, 4], [1 << 62, 4], [2, 1 << 61], [4, 4, 4], [1 << 31, 1 << 31], [None], ["x", 2])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_that_lies(folder, tmp_path, form, shape):
    rewritten(
        folder(form) / "model.safetensors",
        lambda head: next(v for n, v in head.items() if "k_proj" in n).update(shape=shape),
    )
    outcome(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../../tmp/x", "/etc/passwd", "a\\..\\b", "..", "C:x", "a\nb", "\u0000", "x" * 5000]
)
def test_a_tensor_named_like_a_path_is_no_path(folder, tmp_path, name):
    """It is a name without a place in the model; whatever becomes of it, no file of that name is made."""
    rewritten(folder("awq") / "model.safetensors", lambda head: head.update({name: head.pop("model.norm.weight")}))
    outcome(tmp_path, must_fail=False)


@pytest.mark.parametrize("places", [{"a": "../../../etc/passwd"}, {"a": "/etc/passwd"}, [], 5, {"a": 5}], ids=str)
def test_an_index_that_points_elsewhere_is_not_followed(folder, tmp_path, places):
    (folder("pack4") / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    outcome(tmp_path, must_fail=False)


CONFIGS = [
    "",
    "{",
    "[]",
    "5",
    "null",
    '{"quantization_config": {"quant_method": "awq", "bits": 4}}',
    '{"architectures": ["../x"], "quantization_config": {"quant_method": "gptq", "bits": 4}}',
    '{"architectures": 5, "quantization_config": {"quant_method": "gptq", "bits": 4}}',
    '{"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "gptq", "bits": "four"}}',
    '{"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": {}}}',
    '{"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "bitsandbytes", '
    '"load_in_4bit": true, "bnb_4bit_quant_type": []}}',
]


@pytest.mark.parametrize("content", CONFIGS)
def test_a_config_that_is_no_config(folder, tmp_path, content):
    from qroar_core.models.load import run as load_model

    (folder("gptq4") / "config.json").write_text(content)
    with pytest.raises(QRoarError) as caught:
        load_model(str(tmp_path / "model"), device="cpu")
    assert "\n" not in str(caught.value)
