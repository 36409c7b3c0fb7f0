"""A scaled copy of a GGUF file: codes byte for byte, rows times g to half a float16 step, everything else untouched.

Oracles: gguf's own reader and dequantizer; the rows' factors spelled out from llama.cpp's pair order.
"""

from __future__ import annotations

import dataclasses
import json

import gguf
import numpy as np
import pytest

from qroar_core.errors import BadOutput, BadScales, BadSpec, UnsupportedModel
from qroar_core.exporters import gguf_copy, verify
from qroar_core.models.formats.gguf.blocks import scale_rows
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.specs import RopeSpec
from tests.exporters.scales_file import BANDS, write_scales
from tests.models.gguf_files import (
    CONTEXT,
    HAND_BUILT,
    HEAD_DIM,
    HEADS,
    KV,
    QK,
    SCALE_BYTES,
    WRITABLE,
    Q,
    random_blocks,
    write_model,
)

STEP = {Q.BF16: 2.0**-8, Q.F32: 2.0**-24}  # half a step; everything else stores float16
QUICK = (Q.Q8_0, Q.Q4_K)  # one with a single scale a block, one with two
EVERY_KIND = [
    pytest.param(kind, id=kind.name, marks=() if kind in QUICK else pytest.mark.slow)
    for kind in (*WRITABLE, *HAND_BUILT)
]


def factor(g, mode, layer, which, row, permuted=True):
    """What row `row` of attn_q or attn_k must be multiplied by."""
    head, channel = divmod(row, HEAD_DIM)
    kv_head = head // (HEADS // KV) if which == "q" else head
    pair = channel // 2 if permuted else channel % (HEAD_DIM // 2)
    band = next(b for b, (first, last) in enumerate(BANDS) if first <= pair <= last)
    value = g[layer, kv_head, band]
    return value if which == "q" or mode == "shared" else 1 / value


def tensors_of(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def without_scales(raw, kind):
    """The bytes of a block tensor that are no float16 scale."""
    blocks = np.array(raw).reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
    return np.delete(blocks, [at + i for at in SCALE_BYTES[kind] for i in (0, 1)], axis=1)


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_rows_are_multiplied_and_nothing_else_changes(tmp_path, kind, mode):
    source = write_model(tmp_path / "m.gguf", kind, bias=True)
    before = source.read_bytes()
    scales, g = write_scales(tmp_path / "scales.json", source, mode)
    folder = gguf_copy.run(source, scales, None, tmp_path / "out")
    result = folder / "m.gguf"
    assert source.read_bytes() == before
    assert result.stat().st_size == len(before)
    old, new = tensors_of(source), tensors_of(result)
    assert list(old) == list(new)
    start = read_header(source).data_start
    assert result.read_bytes()[:start] == before[:start]
    for name in old:
        if name.rpartition(".")[0] not in QK:
            assert bytes(new[name].data) == bytes(old[name].data), name
            continue
        _, layer, stem, leaf = name.split(".")
        rows = len(old[name].data)
        gains = np.array([factor(g, mode, int(layer), stem[-1], r) for r in range(rows)])
        if leaf == "bias":
            np.testing.assert_allclose(new[name].data, old[name].data * gains, rtol=2.0**-24)
            continue
        if kind in SCALE_BYTES:
            assert np.array_equal(without_scales(new[name].data, kind), without_scales(old[name].data, kind))
        was = gguf.dequantize(np.array(old[name].data), kind).astype(np.float64)
        now = gguf.dequantize(np.array(new[name].data), kind).astype(np.float64)
        wanted = was * gains[:, None]
        assert float(np.abs(was - wanted).max()) > 0.1 * float(np.abs(wanted).max())  # the factors are far from 1
        # one scale a block: half a step of the row's largest value; d * code + m may cancel to a quarter of its parts
        parts = 4 if len(SCALE_BYTES.get(kind, ())) == 2 else 1
        bound = parts * STEP.get(kind, 2.0**-11) * np.abs(wanted).max(axis=1)
        assert (np.abs(now - wanted).max(axis=1) <= bound).all()


@pytest.mark.parametrize("kind", [Q.Q4_1, Q.Q4_K, Q.Q5_K, Q.Q2_K], ids=lambda k: k.name)
def test_both_scales_of_a_block_are_within_half_a_float16_step(kind):
    """On the stored numbers themselves: no slack for cancellation between d * code and m."""
    rng = np.random.default_rng(3)
    raw = random_blocks(rng, 50, kind)
    gains = np.exp2(rng.uniform(-2, 2, 50))
    new = scale_rows(raw, kind, gains, "t")
    size = gguf.GGML_QUANT_SIZES[kind][1]
    for at in SCALE_BYTES[kind]:
        old_d, new_d = (
            np.ascontiguousarray(x.reshape(50, -1, size)[..., at : at + 2]).view("<f2")[..., 0].astype(np.float64)
            for x in (raw, new)
        )
        relative = np.abs(new_d / (old_d * gains[:, None]) - 1)
        assert 0 < relative.max() <= 2.0**-11


def test_qwen2_rows_keep_the_model_order(tmp_path):
    source = write_model(tmp_path / "m.gguf", Q.F32, "qwen2", bias=True)
    scales, g = write_scales(tmp_path / "s.json", source)
    result = gguf_copy.run(source, scales, None, tmp_path / "out") / "m.gguf"
    old, new = tensors_of(source), tensors_of(result)
    for name in ("blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.0.attn_k.bias"):
        _, layer, stem, _ = name.split(".")
        gains = [factor(g, "symmetric", int(layer), stem[-1], r, permuted=False) for r in range(len(old[name].data))]
        expected = (old[name].data.T.astype(np.float64) * gains).T
        np.testing.assert_allclose(new[name].data, expected, rtol=1e-7)
    llama = [factor(g, "symmetric", 1, "q", r) for r in range(HEAD_DIM)]
    assert llama != [factor(g, "symmetric", 1, "q", r, permuted=False) for r in range(HEAD_DIM)]


def test_a_scale_of_one_leaves_the_row_bit_for_bit():
    raw = random_blocks(np.random.default_rng(0), 4, Q.Q6_K)
    raw[1, 208:210] = (1, 0)  # a subnormal scale: left as it is, since nothing is rounded
    new = scale_rows(raw, Q.Q6_K, np.array([1.0, 1.0, 2.0, 1.0]), "t")
    assert np.array_equal(new[[0, 1, 3]], raw[[0, 1, 3]])
    assert not np.array_equal(new[2], raw[2])


@pytest.mark.parametrize(
    ("kind", "scale", "gain", "message"),
    [
        (Q.Q8_0, 60_000.0, 2.0, "t: row 5 times 2 leaves the range of its float16 scales; search within narrower"),
        (Q.Q8_0, 6.1e-5, 0.0137, "t: row 5 times 0.0137 is too small for its float16 scales"),
        (Q.Q4_K, 1e-6, 0.7, "t: row 5 times 0.7 is too small for its float16 scales"),
        (Q.F16, 40_000.0, 2.0, "leaves the range of its F16 values"),
        (Q.F16, 6e-8, 0.7, "is too small for its F16 values"),
        (Q.F32, 1e38, 10.0, "leaves the range of its F32 values"),
    ],
)
def test_what_float16_cannot_hold_is_refused_by_name(kind, scale, gain, message):
    if kind in SCALE_BYTES:
        raw = random_blocks(np.random.default_rng(0), 1, kind)
        blocks = raw.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
        for at in SCALE_BYTES[kind]:
            blocks[:, at : at + 2] = np.array([scale], "<f2").view(np.uint8)
    else:
        raw = gguf.quantize(np.full((1, 32), scale, np.float32), kind).view(np.uint8)
    with pytest.raises(BadScales, match=message):
        scale_rows(raw, kind, np.array([gain]), "t", first_row=5)


def test_a_refused_row_leaves_no_file(tmp_path):
    tiny = {"blk.1.attn_k": np.full((KV * HEAD_DIM, 256), 1e-4, np.float32)}
    source = write_model(tmp_path / "m.gguf", Q.Q8_0, tensors=tiny)
    scales, _ = write_scales(tmp_path / "s.json", source)
    with pytest.raises(BadScales, match=r"blk.1.attn_k.weight: row \d+ times .* too small for its float16 scales"):
        gguf_copy.run(source, scales, None, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "s.json"]


def test_power_of_two_block_scales_take_powers_of_two_exactly():
    """MXFP4, as gguf itself dequantizes it: the exponent byte moves, the codes do not."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (4, 2 * 17), dtype=np.uint8)  # two blocks a row
    raw[:, ::17] = rng.integers(100, 140, (4, 2))
    gains = np.array([4.0, 0.125, 1.0, 2.0])
    scaled = scale_rows(raw, Q.MXFP4, gains, "t")
    before, after = (gguf.dequantize(x, Q.MXFP4).astype(np.float64) for x in (raw, scaled))
    assert (after == before * gains[:, None]).all()
    assert np.abs(before).max() > 0
    assert (np.delete(scaled, [0, 17], axis=1) == np.delete(raw, [0, 17], axis=1)).all()


@pytest.mark.parametrize(
    ("gain", "exponent", "message"),
    [
        (1.5, 120, "t: MXFP4 block scales are powers of two, and row 0 times 1.5 is none"),
        (0.5 + 2.0**-40, 120, "MXFP4 block scales are powers of two"),
        (2.0**140, 120, "row 7 times .* leaves the range of its exponents"),
        (0.25, 1, "row 7 times 0.25 leaves the range of its exponents"),
        (0.5, 255, "leaves the range of its exponents"),  # NaN in the file
    ],
)
def test_power_of_two_block_scales_refuse_the_rest(gain, exponent, message):
    raw = np.full((1, 17), 0x21, np.uint8)
    raw[0, 0] = exponent
    with pytest.raises(BadScales, match=message):
        scale_rows(raw, Q.MXFP4, np.array([gain]), "t", first_row=7)


def test_a_type_whose_scales_are_not_known_is_refused():
    with pytest.raises(UnsupportedModel, match=r"IQ1_S rows cannot be scaled in place \(where its scales lie is not"):
        scale_rows(np.zeros((1, 50), np.uint8), Q.IQ1_S, np.ones(1), "t")


def test_scales_of_another_file_are_refused(tmp_path):
    source, other = write_model(tmp_path / "m.gguf"), write_model(tmp_path / "other.gguf", seed=1)
    scales, _ = write_scales(tmp_path / "s.json", other)
    with pytest.raises(BadScales, match="made for model"):
        gguf_copy.run(source, scales, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


ROPES = [
    (RopeSpec("linear", 2.0), {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0, "context_length": 256}),
    (RopeSpec("ntk", 2.0), {"context_length": 256, "rope.freq_base": 10_000.0 * 2 ** (64 / 62)}),
    (
        RopeSpec("yarn", 4.0, original_context=100),
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "context_length": 400,
            "rope.scaling.original_context_length": 100,
        },
    ),
    (
        RopeSpec("yarn", 2.0, beta_fast=16.0),
        {
            "rope.scaling.yarn_beta_fast": 16.0,
            "rope.scaling.yarn_beta_slow": 1.0,
            "rope.scaling.original_context_length": CONTEXT,
        },
    ),
    (RopeSpec("llama3", 8.0), {"context_length": 1024}),
]


@pytest.mark.parametrize(("rope", "keys"), ROPES, ids=lambda x: getattr(x, "method", ""))
def test_the_interpolation_is_in_the_metadata(tmp_path, rope, keys):
    source = write_model(tmp_path / "m.gguf", Q.Q4_0)
    scales, _ = write_scales(tmp_path / "s.json", source, rope=rope)
    plain = gguf_copy.run(source, scales, RopeSpec(), tmp_path / "plain") / "m.gguf"
    result = gguf_copy.run(source, scales, None, tmp_path / "out") / "m.gguf"  # the interpolation of the scales
    reader, old = gguf.GGUFReader(result), gguf.GGUFReader(source)
    for key, value in keys.items():
        found = reader.get_field(f"llama.{key}").contents()
        assert found == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6))
    kept = set(old.fields) - {"llama.context_length", "llama.rope.freq_base"} - {f for f in old.fields if "GGUF." in f}
    assert all(reader.get_field(k).contents() == old.get_field(k).contents() for k in kept)
    expected = {t.name: bytes(t.data) for t in gguf.GGUFReader(plain).tensors}
    found = {t.name: bytes(t.data) for t in reader.tensors}
    divisors = found.pop("rope_freqs.weight", None)
    assert found == expected
    if rope.method == "llama3":
        from transformers import LlamaConfig
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        block = {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": CONTEXT,
        }
        config = LlamaConfig(hidden_size=256, num_attention_heads=4, rope_parameters=block)
        wanted = ROPE_INIT_FUNCTIONS["llama3"](config, None)[0].numpy()
        inv_freq = 10_000.0 ** (-np.arange(0, 64, 2) / 64) / np.frombuffer(divisors, "<f4")
        np.testing.assert_allclose(inv_freq, wanted, rtol=1e-5)
    else:
        assert divisors is None


@pytest.mark.parametrize(
    ("rope", "architecture", "message"),
    [
        (RopeSpec("dynamic", 2.0), "llama", "llama.cpp has no dynamic interpolation for llama; choose yarn"),
        (RopeSpec("llama3", 2.0), "qwen2", "llama.cpp has no llama3 interpolation for qwen2; choose yarn"),
        (RopeSpec("longrope", 2.0, long_factor=(2.0,) * 32, short_factor=(1.0,) * 32), "llama", "has no longrope"),
    ],
)
def test_an_interpolation_llama_cpp_lacks_is_refused(tmp_path, rope, architecture, message):
    source = write_model(tmp_path / "m.gguf", architecture=architecture)
    with pytest.raises(BadSpec, match=message):
        gguf_copy.run(source, None, rope, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


OWN = {  # how a file may carry an interpolation: keys and tensors
    "linear": lambda w: (w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), w.add_rope_scaling_factor(4.0)),
    "old linear": lambda w: w.add_float32("llama.rope.scale_linear", 4.0),
    "yarn": lambda w: (
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN),
        w.add_rope_scaling_factor(4.0),
        w.add_rope_scaling_orig_ctx_len(64),
    ),
    "divisors": lambda w: w.add_tensor("rope_freqs.weight", np.linspace(1, 8, 32).astype(np.float32)),
}


WORDS = {  # what is said of them; 128 is the file's context
    "linear": "linear x4",
    "old linear": "linear x4",
    "yarn": "yarn x4 (from 64)",
    "divisors": "longrope x1 (from 128)",
}


@pytest.mark.parametrize("own", OWN)
def test_a_files_own_interpolation_is_kept_without_another(tmp_path, own):
    from qroar_core.models.formats.gguf.opened import open_gguf

    source = write_model(tmp_path / "m.gguf", extra=OWN[own])
    scales, _ = write_scales(tmp_path / "s.json", source)
    out = gguf_copy.run(source, scales, RopeSpec(), tmp_path / "out")
    block = open_gguf(source).config["rope_parameters"]
    assert block["rope_type"] != "default"
    assert open_gguf(out / "m.gguf").config == open_gguf(source).config
    note = json.loads((out / "qroar.json").read_text())
    assert (note["own_rope"], note["replaces"]) == (WORDS[own], "")
    assert f"- RoPE: as in the source, its own {WORDS[own]} kept.\n" in (out / "README.md").read_text()
    checks = verify.run(out)
    assert all(check.passed for check in checks)


@pytest.mark.parametrize("rope", [RopeSpec("yarn", 2.0), RopeSpec("llama3", 8.0)])
@pytest.mark.parametrize("own", OWN)
def test_a_files_own_interpolation_is_replaced_by_another(tmp_path, own, rope):
    """What the copy asks for is what the file without its own would get: nothing of the old one is left."""
    from qroar_core.models.formats.gguf.opened import open_gguf

    plain, source = write_model(tmp_path / "plain.gguf"), write_model(tmp_path / "m.gguf", extra=OWN[own])
    scales, _ = write_scales(tmp_path / "s.json", source, rope=rope)
    asked = dataclasses.replace(rope, original_context=64)
    out = gguf_copy.run(source, scales, asked, tmp_path / "out")
    expected = gguf_copy.run(plain, None, asked, tmp_path / "expected") / "plain.gguf"
    assert open_gguf(out / "m.gguf").config == open_gguf(expected).config
    note = json.loads((out / "qroar.json").read_text())
    assert (note["own_rope"], note["replaces"]) == (WORDS[own], WORDS[own])
    written = f"RoPE: {rope.method} x{rope.factor:g}, written into the file's metadata"
    assert f"- {written}; it replaces the source's own {WORDS[own]}.\n" in (out / "README.md").read_text()
    kept = {t.name: bytes(t.data) for t in gguf.GGUFReader(source).tensors}
    copied = {t.name: bytes(t.data) for t in gguf.GGUFReader(out / "m.gguf").tensors}
    untouched = [name for name in kept if not name.startswith(("rope_", *QK))]
    assert len(untouched) > 10
    assert all(copied[name] == kept[name] for name in untouched)
    assert all(check.passed for check in verify.run(out))


def test_a_shard_takes_no_scales(tmp_path):
    source = write_model(tmp_path / "m.gguf", extra=lambda w: w.add_uint16("split.count", 2))
    with pytest.raises(UnsupportedModel, match=r"this is one of 2 shards; join them with .*llama-gguf-split --merge"):
        gguf_copy.run(source, None, RopeSpec("linear", 2.0), tmp_path / "out")


def test_an_unknown_architecture_is_refused(tmp_path):
    source = write_model(tmp_path / "m.gguf", architecture="falcon")
    said = "a falcon file takes no scales in place: q, k and v are one matrix; export the hf"
    with pytest.raises(UnsupportedModel, match=said):
        gguf_copy.run(source, None, RopeSpec("linear", 2.0), tmp_path / "out")


def test_an_existing_folder_is_left_alone(tmp_path):
    source = write_model(tmp_path / "m.gguf")
    (tmp_path / "out").mkdir()
    with pytest.raises(BadOutput, match="already exists; choose a new folder"):
        gguf_copy.run(source, None, RopeSpec("linear", 2.0), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_scale_wider_than_a_chunk_is_whole(tmp_path, monkeypatch):
    """Rows in pieces of three: the same bytes as at once."""
    source = write_model(tmp_path / "m.gguf", Q.Q5_K)
    scales, _ = write_scales(tmp_path / "s.json", source)
    whole = (gguf_copy.run(source, scales, None, tmp_path / "a") / "m.gguf").read_bytes()
    monkeypatch.setattr(gguf_copy, "CHUNK", 3 * 176)
    assert (gguf_copy.run(source, scales, None, tmp_path / "b") / "m.gguf").read_bytes() == whole
