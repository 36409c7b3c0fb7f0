"""Eight-bit floats as four writers store them, and other places where a folder speaks of its quantization.

Oracles: transformers' own dequantization of fine-grained FP8, the compressed-tensors library, float64 by hand.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, QRoarError, UnsupportedModel
from qroar_core.exporters import quantized_copy
from qroar_core.models.formats.quantized_folder import SIGNS, packing_of, stored_tensors
from qroar_core.models.load import run as load_model
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.families_table import CASES, loaded_of
from tests.models.quantized_folders import EIGHT_BIT_FLOATS, awq, compressed, eight_bit_float, write_quantized


def weight(out=64, inputs=96, seed=1):
    return torch.randn(out, inputs, generator=torch.Generator().manual_seed(seed))


def folder_of(path, parts, config=None, **files):
    """A folder of one layer called `a`."""
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    save_file({f"a.{k}": v for k, v in parts.items()}, path / "model.safetensors", metadata={"format": "pt"})
    for name, content in ({"config": config or {}} | files).items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def quantized(**block):
    return {"quantization_config": block}


def read(folder):
    found, label = stored_tensors(folder)
    return found["a.weight"][...].double(), label


def test_blocks_are_read_as_transformers_reads_them(tmp_path):
    from types import SimpleNamespace

    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    parts, wanted = eight_bit_float("block fp8", weight())
    assert parts["weight_scale_inv"].shape == (2, 2)
    fp8 = quantized(quant_method="fp8", weight_block_size=[32, 48], activation_scheme="dynamic")
    found, label = read(folder_of(tmp_path / "x", parts, fp8))
    assert label == f"FP8 in blocks of 32 x 48 ({EXACT})"
    theirs = Fp8Dequantize(SimpleNamespace())._dequantize_one(parts["weight"], parts["weight_scale_inv"], torch.float32)
    assert torch.equal(found, theirs.double())
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    powers = parts["weight_scale_inv"].log2().round().exp2()
    byte = parts | {"weight_scale_inv": powers.to(torch.float8_e8m0fnu)}
    found, _ = read(folder_of(tmp_path / "x", byte, quantized(**fp8["quantization_config"], scale_fmt="ue8m0")))
    theirs = Fp8Dequantize(SimpleNamespace())._dequantize_one(byte["weight"], byte["weight_scale_inv"], torch.float32)
    assert torch.equal(found, theirs.double())


def test_short_last_blocks_keep_their_own_scale(tmp_path):
    parts, wanted = eight_bit_float("block fp8", weight(40, 100))
    assert parts["weight_scale_inv"].shape == (2, 3)
    found, _ = read(folder_of(tmp_path / "x", parts, quantized(quant_method="fp8", weight_block_size=[32, 48])))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


EXACT = "its kernels quantize activations as they come, here they stay exact"
MODELOPT = {"producer": {"name": "modelopt", "version": "0.29.0"}}


def modelopt(algorithm, **more):
    return MODELOPT | {"quantization": {"quant_algo": algorithm, "kv_cache_quant_algo": None, **more}}


def test_modelopt_says_it_in_either_file_a_tensor_a_row_or_a_block_at_a_time(tmp_path):
    parts, wanted = eight_bit_float("modelopt fp8", weight())
    inside = quantized(quant_method="modelopt", quant_algo="FP8", ignore=["lm_head"], producer=MODELOPT["producer"])
    for config, files in (
        ({}, {"hf_quant_config": modelopt("FP8")}),
        (inside, {}),
        (inside, {"hf_quant_config": modelopt("FP8")}),
    ):
        found, label = read(folder_of(tmp_path / "x", parts, config, **files))
        assert label == "ModelOpt FP8 (its activation scales are not applied)"
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    rows, by_row = eight_bit_float("fbgemm fp8", weight())
    rows["weight_scale"] = rows["weight_scale"][:, 0].clone()
    each = {"hf_quant_config": modelopt("FP8_PER_CHANNEL_PER_TOKEN")}
    torch.testing.assert_close(read(folder_of(tmp_path / "x", rows, **each))[0], by_row, rtol=1e-6, atol=0)
    grid = torch.tensor([[0.5, 2.0], [0.25, 4.0]])
    codes = weight(200, 256).to(torch.float8_e4m3fn)
    blocks = {"weight": codes, "weight_scale": grid[:, None, :, None].contiguous()}
    whole = codes.double()
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        whole[128 * i : 128 * i + 128, 128 * j : 128 * j + 128] *= float(grid[i, j])
    found, label = read(folder_of(tmp_path / "x", blocks, hf_quant_config=modelopt("FP8_PB_WO")))
    assert (label, torch.equal(found, whole)) == ("ModelOpt FP8_PB_WO", True)


@pytest.mark.parametrize("algorithm", ["NVFP4", "W4A8_AWQ", "MIXED_PRECISION", "fp4"])
def test_other_algorithms_of_modelopt_are_refused_by_name(tmp_path, algorithm):
    parts, _ = eight_bit_float("modelopt fp8", weight())
    with pytest.raises(UnsupportedModel, match=rf"already \(modelopt\): ModelOpt {algorithm} is not known here"):
        read(folder_of(tmp_path / "x", parts, hf_quant_config=modelopt(algorithm)))


def test_activation_scales_are_named_only_where_the_folder_holds_them(tmp_path):
    fp8 = quantized(quant_method="fp8", weight_block_size=[32, 48], activation_scheme="dynamic")
    parts, _ = eight_bit_float("block fp8", weight())
    static = parts | {"activation_scale": torch.tensor(0.1)}
    for held, said in ((parts, EXACT), (static, "its activation scales are not applied")):
        assert read(folder_of(tmp_path / "x", held, fp8))[1] == f"FP8 in blocks of 32 x 48 ({said})"
    rows, _ = eight_bit_float("fbgemm fp8", weight())
    bound = quantized(quant_method="fbgemm_fp8", activation_scale_ub=1200.0)
    for held, said in ((rows, EXACT), (rows | {"input_scale_ub": torch.tensor(1200.0)}, "its activation scales are")):
        assert read(folder_of(tmp_path / "x", held, bound))[1].startswith(f"FBGEMM FP8 ({said}")


CACHE_ALONE = {  # what a folder says whose K/V cache alone is quantized: in config.json, in ModelOpt's own file
    "ModelOpt's file": ({}, {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}),
    "ModelOpt's config": (
        {"quant_method": "modelopt", "quant_algo": None, "kv_cache_scheme": {"num_bits": 8}, "config_groups": {}},
        None,
    ),
    "llm-compressor": (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {},
            "format": "dense",
            "quantization_status": "frozen",
            "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"},
        },
        None,
    ),
}


@pytest.mark.parametrize("case", CACHE_ALONE)
def test_a_folder_whose_cache_alone_is_quantized_is_the_model_that_its_weights_are(tiny, ids, tmp_path, case):
    block, file = CACHE_ALONE[case]
    original = tiny()
    original.model.save_pretrained(tmp_path)
    original.tokenizer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    more = {f"model.layers.{i}.self_attn.{x}_proj.{x}_scale": torch.tensor(0.3) for i in range(2) for x in "kv"}
    save_file(tensors | more, tmp_path / "model.safetensors", metadata={"format": "pt"})
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | ({"quantization_config": block} if block else {})))
    if file:
        (tmp_path / "hf_quant_config.json").write_text(json.dumps(MODELOPT | file))
    loaded = load_model(str(tmp_path), device="cpu", dtype="float32")
    assert loaded.note == "its K/V cache scales are not applied"
    with torch.no_grad():
        assert torch.equal(loaded.model(ids(2, 40)).logits, original.model(ids(2, 40)).logits)
    with pytest.raises(UnsupportedModel, match="none of its weights is quantized; choose --format hf"):
        packing_of(tmp_path)
    codes = {"model.layers.0.mlp.up_proj.weight": tensors["model.layers.0.mlp.up_proj.weight"].to(torch.float8_e4m3fn)}
    save_file(tensors | codes, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QRoarError, match=r"up_proj.weight \(F8_E4M3\) belongs to .*, and its config says that none is"):
        load_model(str(tmp_path), device="cpu")


def test_a_modelopt_file_that_names_no_algorithm_is_refused_in_a_sentence(tmp_path):
    parts, _ = eight_bit_float("modelopt fp8", weight())
    silent = {"quantization": {"kv_cache_quant_algo": "FP8"}}
    with pytest.raises(UnsupportedModel, match=r"\(modelopt\): ModelOpt that names no quant_algo is not known here"):
        read(folder_of(tmp_path / "x", parts, hf_quant_config=silent))


def test_two_places_that_disagree_are_refused(tmp_path):
    parts, _ = eight_bit_float("modelopt fp8", weight())
    inside = quantized(quant_method="modelopt", quant_algo="FP8")
    with pytest.raises(BadCheckpoint, match=r"config says quant_algo = FP8, hf_quant_config\.json says NVFP4; remove"):
        read(folder_of(tmp_path / "x", parts, inside, hf_quant_config=modelopt("NVFP4")))


def test_scales_of_the_cache_are_named_in_the_note_not_dropped_in_silence(tiny, tmp_path):
    write_quantized(tmp_path, tiny(hidden_size=64), "modelopt fp8")
    tensors = load_file(tmp_path / "model.safetensors")
    more = {f"model.layers.0.self_attn.{x}_proj.{x}_scale": torch.tensor(0.3) for x in "kv"}
    save_file(tensors | more, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(str(tmp_path), device="cpu")
    assert loaded.note == "dequantized from ModelOpt FP8 (its activation and K/V cache scales are not applied)"
    plain = {n: t.float() for n, t in tensors.items() if "scale" not in n} | more
    save_file(plain, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "hf_quant_config.json").unlink()
    with pytest.raises(QRoarError, match=r"k_proj\.k_scale \(F32\) belongs to quantized weights, and no file of"):
        load_model(str(tmp_path), device="cpu")


def test_autoawqs_own_file_alone_is_read(tmp_path):
    parts, wanted = awq(weight())
    old = {"zero_point": True, "q_group_size": 16, "w_bit": 4, "version": "GEMM"}
    found, label = read(folder_of(tmp_path / "x", parts, quant_config=old))
    assert label == "AWQ int4"
    torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=1e-7)
    with pytest.raises(UnsupportedModel, match="version GEMV is not known here"):
        read(folder_of(tmp_path / "x", parts, quant_config=old | {"version": "GEMV"}))


def scheme(form="int-quantized", **weights):
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "symmetric": True} | weights}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"g": group}, "ignore": ["lm_head"]}


def test_the_old_key_of_compressed_tensors_is_read(tmp_path):
    parts, wanted = compressed("int8", weight(), torch.float32)
    block = scheme(strategy="channel")
    for old in (block, block | {"quant_method": "sparseml"}):
        found, label = read(folder_of(tmp_path / "x", parts, {"compression_config": old}))
        assert label == "compressed-tensors int8 int-quantized"
        torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "tensor"},
        {"strategy": "channel"},
        {"strategy": "group", "group_size": 32},
        {"strategy": "block", "block_structure": [32, 48]},
    ],
    ids=lambda o: o["strategy"],
)
def test_every_strategy_is_read_as_its_own_library_reads_it(tmp_path, options, symmetric):
    from compressed_tensors.compressors import IntQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    plan = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(num_bits=8, symmetric=symmetric, **options))
    grid = {"tensor": (1,), "channel": (64, 1), "group": (64, 3), "block": (2, 2)}[options["strategy"]]
    scale = torch.rand(grid, generator=torch.Generator().manual_seed(5)) * 0.02 + 0.02
    zero = {} if symmetric else {"weight_zero_point": torch.arange(scale.numel()).view(grid).fmod(7).to(torch.int8)}
    parts = IntQuantizationCompressor.compress({"weight": weight(), "weight_scale": scale, **zero}, plan)
    theirs = IntQuantizationCompressor.decompress(dict(parts), plan)["weight"]
    parts = {name: value.contiguous() for name, value in parts.items()}
    found, _ = read(folder_of(tmp_path / "x", parts, quantized(**scheme(**options, symmetric=symmetric))))
    torch.testing.assert_close(found, theirs.double(), rtol=1e-6, atol=1e-7)
    assert float((found - weight()).abs().max()) < 3  # codes saturate where the scale is small
    if symmetric:
        wrong = parts | {"weight_zero_point": torch.ones(grid, dtype=torch.int8)}
        with pytest.raises(BadCheckpoint, match="it has zero points, and the config says symmetric"):
            read(folder_of(tmp_path / "x", wrong, quantized(**scheme(**options))))
        zeros = parts | {"weight_zero_point": torch.zeros(grid, dtype=torch.int8)}
        assert torch.equal(read(folder_of(tmp_path / "x", zeros, quantized(**scheme(**options))))[0], found)


BAD_SCALES = {
    "modelopt fp8": ("weight_scale", {"hf_quant_config": modelopt("FP8")}),
    "autofp8": ("weight_scale", {"config": quantized(quant_method="fp8")}),
    "block fp8": ("weight_scale_inv", {"config": quantized(quant_method="fp8", weight_block_size=[32, 48])}),
    "fbgemm fp8": ("weight_scale", {"config": quantized(quant_method="fbgemm_fp8")}),
    "fp8": ("weight_scale", {"config": quantized(**scheme("float-quantized", strategy="channel", type="float"))}),
    "int8": ("weight_scale", {"config": quantized(**scheme(strategy="channel"))}),
}


@pytest.mark.parametrize("form", BAD_SCALES)
@pytest.mark.parametrize("bad", [0.0, -0.01, float("inf"), float("nan")])
def test_a_scale_that_no_writer_makes_is_refused(tmp_path, form, bad):
    """Read, a scale of 0 is a layer of zeros and one below 0 a layer turned round, both without a word."""
    name, said = BAD_SCALES[form]
    make = eight_bit_float if form in EIGHT_BIT_FLOATS else lambda kind, w: compressed(kind, w, torch.float32)
    parts, wanted = make(form, weight())
    torch.testing.assert_close(read(folder_of(tmp_path / "x", parts, **said))[0], wanted.double(), rtol=1e-5, atol=1e-7)
    parts[name].flatten()[-1:] = bad  # a view: one of all
    if form == "int8" and bad == -0.01:  # AutoRound's symmetric integers have such scales
        turned = read(folder_of(tmp_path / "x", parts, **said))[0][-1]
        torch.testing.assert_close(turned, parts["weight"][-1].double() * -0.01, rtol=1e-6, atol=0)
        return
    with pytest.raises(BadCheckpoint, match=rf"a is no .* layer \({name} .*a positive, finite number belongs\); fetch"):
        read(folder_of(tmp_path / "x", parts, **said))


@pytest.mark.parametrize("form", ["pack4", "pack4 asymmetric"])
def test_a_packed_group_with_a_scale_of_zero_is_refused(tmp_path, form):
    parts, wanted = compressed(form, weight(), torch.float32)
    options = {"num_bits": 4, "strategy": "group", "group_size": 16, "symmetric": form == "pack4"}
    said = quantized(**scheme("pack-quantized", **options))
    found = read(folder_of(tmp_path / "x", parts, said))[0]
    torch.testing.assert_close(found, wanted.double(), rtol=1e-6, atol=1e-7)
    assert found[3, 16:32].any()
    parts["weight_scale"][3, 1] = 0
    with pytest.raises(BadCheckpoint, match="weight_scale is 0 over codes that are not: where a positive, finite"):
        read(folder_of(tmp_path / "x", parts, said))


@pytest.mark.parametrize("form", BAD_SCALES)
def test_a_scale_of_zero_over_codes_of_zero_is_a_block_of_zeros(tmp_path, form):
    name, said = BAD_SCALES[form]
    make = eight_bit_float if form in EIGHT_BIT_FLOATS else lambda kind, w: compressed(kind, w, torch.float32)
    parts, _ = make(form, weight())
    parts["weight"] = torch.zeros_like(parts["weight"].float()).to(parts["weight"].dtype)
    parts[name].flatten()[-1:] = 0.0
    assert not read(folder_of(tmp_path / "x", parts, **said))[0].any()


@pytest.mark.parametrize("form", ["modelopt fp8", "block fp8"])
def test_rows_that_share_a_scale_are_not_scaled(tiny, tmp_path, form):
    (tmp_path / "in").mkdir()
    write_quantized(tmp_path / "in", tiny(hidden_size=64), form)
    scales = Scales("shared", "kv_head", ((0, 2), (3, 7)), torch.full((2, 2, 2), 1.5, dtype=torch.float64))
    with pytest.raises(UnsupportedModel, match=r"one weight scale a \w+.*: rows of several bands share it; sc"):
        quantized_copy.run(load_model(str(tmp_path / "in"), device="cpu"), RopeSpec(), scales, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_fbgemm_are_scaled(tiny, tmp_path):
    (tmp_path / "in").mkdir()
    write_quantized(tmp_path / "in", tiny(hidden_size=64), "fbgemm fp8")
    scales = Scales("shared", "kv_head", ((0, 2), (3, 7)), torch.full((2, 2, 2), 1.5, dtype=torch.float64))
    loaded = load_model(str(tmp_path / "in"), device="cpu")
    again = load_model(str(quantized_copy.run(loaded, RopeSpec(), scales, tmp_path / "out")), device="cpu")
    for one, other in zip(loaded.model.model.layers, again.model.model.layers, strict=True):
        for name, factor in (("q_proj", 1.5), ("k_proj", 1.5), ("v_proj", 1.0)):
            before, after = (getattr(x.self_attn, name).weight for x in (one, other))
            torch.testing.assert_close(after, before * factor, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_no_family_has_a_parameter_that_looks_like_a_quantizers(byte_tokenizer, tokenizer_folder, name):
    """What is refused in a folder that says nothing of quantization must not be a model's own weight."""
    model = loaded_of(CASES[name], byte_tokenizer, tokenizer_folder).model
    names = [n for n in model.state_dict()]
    assert len(names) > 10
    assert [n for n in names if SIGNS.search(n)] == []


@pytest.mark.parametrize("form", EIGHT_BIT_FLOATS)
def test_one_layer_at_a_time_is_in_memory(tiny, tmp_path, form):
    """Opening a folder reads no weight, and each is made anew when it is asked for."""
    write_quantized(tmp_path, tiny(hidden_size=64), form)
    found, _ = stored_tensors(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        found["model.layers.0.mlp.up_proj.weight"][...]
