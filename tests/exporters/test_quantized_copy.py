"""Folders that are quantized already: read as their own library reads them, scaled without touching a code."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, BadScales, BadSpec, QRoarError, UnsupportedModel
from qroar_core.exporters import hf, quantized_copy, verify, verify_files
from qroar_core.models.formats.read_formats import packings_of
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import replaced_parameters, scaled_parameters
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.quantized_folders import BITSANDBYTES, EIGHT_BIT_FLOATS, FORMS, awq, decompressed, write_quantized

pytest.importorskip("compressed_tensors")
BANDS = ((0, 2), (3, 7))
HALF_STEP = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def scales(mode="symmetric"):
    generator = torch.Generator().manual_seed(3)
    g = (torch.rand(2, 2, 2, generator=generator, dtype=torch.float64) * 3 - 1.5).exp2()
    return Scales(mode, "kv_head", BANDS, g)


def factor(g, mode, layer, which, row):
    """What row `row` of q_proj or k_proj is multiplied by: 4 query heads, 2 KV heads, head_dim 16, half pairing."""
    head, channel = divmod(row, 16)
    kv_head = head // 2 if which == "q" else head
    value = float(g[layer, kv_head, 0 if channel % 8 <= 2 else 1])
    return value if which == "q" or mode == "shared" else 1 / value


@pytest.mark.parametrize("form", [*FORMS, *BITSANDBYTES, *EIGHT_BIT_FLOATS])
def test_it_is_read_as_its_own_library_reads_it(tiny, folder, form):
    original = tiny(hidden_size=64)
    oracle = write_quantized(folder, original, form)
    loaded = load_model(str(folder), device="cpu")
    own = dict(loaded.model.named_parameters())
    assert len(oracle) == 14
    for name, wanted in oracle.items():
        torch.testing.assert_close(own[name].data, wanted.float(), rtol=1e-6, atol=1e-6)
        assert float((wanted - dict(original.model.named_parameters())[name]).abs().max()) > 1e-4  # it was rounded
    exact = "(its kernels quantize activations as they come, here they stay exact)"
    label = {
        "awq": "AWQ int4",
        "modelopt fp8": "ModelOpt FP8 (its activation scales are not applied)",
        "autofp8": "FP8 (its activation scales are not applied)",
        "block fp8": f"FP8 in blocks of 32 x 48 {exact}",
        "fbgemm fp8": f"FBGEMM FP8 {exact}",
        "gptq3": "GPTQ int3",
        "gptq4": "GPTQ int4",
        "gptq8": "GPTQ int8",
        "nf4 double": "bitsandbytes nf4",
        "nf4": "bitsandbytes nf4",
        "fp8": "compressed-tensors fp8 float-quantized",
        "bitsandbytes int8": f"bitsandbytes int8 {exact}",
        "int8": "compressed-tensors int8 int-quantized",
        "pack8": "compressed-tensors int8 pack-quantized",
    }
    assert loaded.note == f"dequantized from {label.get(form, 'compressed-tensors int4 pack-quantized')}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("form", [*FORMS, "nf4", "bitsandbytes int8"])
def test_only_the_scales_of_q_and_k_change(tiny, ids, folder, tmp_path, form, mode):
    write_quantized(folder, tiny("qwen2", hidden_size=64), form)
    loaded, s = load_model(str(folder), device="cpu"), scales(mode)
    before = (folder / "model.safetensors").read_bytes()
    out = quantized_copy.run(loaded, RopeSpec(), s, tmp_path / "out")
    assert (folder / "model.safetensors").read_bytes() == before
    assert (out / "model.safetensors").stat().st_size == len(before)
    assert (out / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    old, new = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    suffix = {"nf4": "weight.absmax", "bitsandbytes int8": "SCB"}.get(form, "weight_scale")  # nf4: one block a row here
    suffix, axis = ("scales", 1) if form.startswith(("gptq", "awq")) else (suffix, 0)
    changed = {f"model.layers.{i}.self_attn.{x}_proj.{p}" for i in (0, 1) for x in "qk" for p in (suffix, "bias")}
    assert old.keys() == new.keys()
    assert {n for n in old if old[n].view(torch.uint8).ne(new[n].view(torch.uint8)).any()} == changed
    for name in changed:
        _, _, layer, _, stem, part = name.split(".", 5)
        where = 0 if part == "bias" else axis
        rows = old[name].shape[where]
        gains = torch.tensor([factor(s.g, mode, int(layer), stem[0], r) for r in range(rows)], dtype=torch.float64)
        wanted = old[name].double().transpose(0, where) * gains.view(-1, *[1] * (old[name].ndim - 1))
        relative = (new[name].double().transpose(0, where) - wanted).abs() / wanted.abs()
        assert float(relative.max()) <= HALF_STEP[old[name].dtype]
    again, tokens = load_model(str(out), device="cpu"), ids(1, 40)
    with torch.inference_mode():
        with replaced_parameters(loaded.model, scaled_parameters(loaded, s)):
            patched = loaded.model(tokens).logits
        plain, found = loaded.model(tokens).logits, again.model(tokens).logits
    assert float((found - patched).abs().max()) < 0.05
    moved = float((found - plain).abs().max())
    assert moved > 0.5 if mode == "shared" else moved < 0.05


@pytest.mark.parametrize("form", ["pack4", "pack4 asymmetric", "int8", "fp8"])
def test_its_own_library_decompresses_the_scaled_rows(tiny, folder, tmp_path, form):
    write_quantized(folder, tiny(hidden_size=64), form)
    s = scales()
    out = quantized_copy.run(load_model(str(folder), device="cpu"), RopeSpec(), s, tmp_path / "out")
    old, new = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    stem = "model.layers.1.self_attn.k_proj."
    was, now = ({n.removeprefix(stem): t for n, t in x.items() if n.startswith(stem)} for x in (old, new))
    before, after = decompressed(form, was).double(), decompressed(form, now).double()
    gains = torch.tensor([factor(s.g, "symmetric", 1, "k", r) for r in range(32)], dtype=torch.float64)
    wanted = before * gains[:, None]
    assert float(((after - wanted).abs() / wanted.abs().clamp(min=1e-30)).max()) <= 2.0**-11 * (1 + 1e-6)
    assert float((after - before).abs().max()) > 0.1 * float(before.abs().max())


def test_an_awq_layer_is_what_the_librarys_converter_makes_of_it():
    """compressed-tensors' own reader of AutoAWQ files, packed again by it and decompressed."""
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter

    parts, wanted = awq(torch.randn(32, 64, generator=torch.Generator().manual_seed(2)))
    converter = AutoAWQConverter(group_size=16)
    theirs = converter.process({f"x.{name}": value for name, value in parts.items()})
    theirs = {name.removeprefix("x."): value for name, value in theirs.items()}
    plan = converter.update_config(None).config_groups["config_group_0"]
    theirs["weight_scale"] = theirs["weight_scale"].float()
    read = PackedQuantizationCompressor.decompress(theirs, plan)["weight"]
    (packing,) = packings_of({"quant_method": "awq", "bits": 4, "group_size": 16}, "x")
    ours = packing.dequantize(parts)
    torch.testing.assert_close(ours, read, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours, wanted.float(), rtol=1e-6, atol=1e-7)


def test_transformers_with_compressed_tensors_loads_the_result(tiny, ids, folder, tmp_path):
    from transformers import AutoModelForCausalLM

    write_quantized(folder, tiny(hidden_size=64), "int8")
    loaded = load_model(str(folder), device="cpu")
    out = quantized_copy.run(loaded, RopeSpec("linear", 2.0), scales("shared"), tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    ours = load_model(str(out), device="cpu")
    tokens = ids(1, 40)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(tokens).logits, ours.model(tokens).logits, rtol=0, atol=1e-3)
        assert float((theirs(tokens).logits - loaded.model(tokens).logits).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("form", "rope"),
    [("awq", RopeSpec()), ("awq", RopeSpec("yarn", 2.0)), ("nf4", RopeSpec()), ("bitsandbytes int8", RopeSpec())],
    ids=["awq", "awq under yarn", "nf4", "bitsandbytes int8"],
)
def test_verify_compares_the_logits(tiny, folder, tmp_path, form, rope):
    write_quantized(folder, tiny(hidden_size=64), form)
    out = quantized_copy.run(load_model(str(folder), device="cpu"), rope, scales("shared"), tmp_path / "out")
    last = verify.run(out)[-1]
    assert (last.question, last.passed) == ("logits against the source model", True)


def test_a_folder_of_the_hub_is_copied_without_a_second_set_of_weights(tiny, folder, tmp_path):
    write_quantized(folder, tiny(hidden_size=64), "awq")
    others = ("consolidated.safetensors", "pytorch_model.bin", "model-Q4_0.gguf")
    for name in others:
        shutil.copyfile(folder / "model.safetensors", folder / name)
    loaded = load_model(str(folder), device="cpu")
    loaded.source = "org/name"
    out = quantized_copy.run(loaded, RopeSpec(), scales("shared"), tmp_path / "out")
    assert not any((out / name).exists() for name in others)
    assert verify_files.unlisted(out, {"files": dict.fromkeys(p.name for p in out.iterdir())}, False).passed is True
    assert (out / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()
    again = load_model(str(out), device="cpu")
    assert again.note == loaded.note == "dequantized from AWQ int4"


@pytest.mark.parametrize("form", ["gptq4", "modelopt fp8"])
def test_a_full_precision_export_says_nothing_of_quantization(tiny, folder, tmp_path, form):
    write_quantized(folder, tiny(hidden_size=64), form)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    loaded = load_model(str(folder), device="cpu")
    again = load_model(str(hf.run(loaded, RopeSpec(), None, tmp_path / "out")), device="cpu")
    assert "quant" not in (tmp_path / "out" / "config.json").read_text()
    assert (again.note, again.fingerprint) == ("", loaded.fingerprint)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_scaled_is_refused(tiny, folder, tmp_path):
    loaded = tiny(hidden_size=64)
    with pytest.raises(BadSpec, match="is no folder with quantized weights; choose hf or gguf-f16"):
        quantized_copy.run(loaded, RopeSpec(), scales(), tmp_path / "out")
    write_quantized(folder, loaded, "pack8", torch.bfloat16)
    quantized = load_model(str(folder), device="cpu")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.k_proj.weight_scale"].mul_(1e-36)
    save_file({k: v.half() if "_scale" in k else v for k, v in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(BadScales, match=r"k_proj.weight_scale: row \d+ times .* cannot be held in|q_proj"):
        quantized_copy.run(
            quantized, RopeSpec(), Scales("shared", "kv_head", BANDS, scales().g * 1e7), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def compressed_config(**weights):
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group"} | weights}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": group}}


CONFIGS = [
    ({"quant_method": "bitsandbytes"}, "not known here"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "int4"}, "not known here"),
    ({"quant_method": "aqlm"}, "not known here"),
    ({"quant_method": "gptq", "bits": 5}, "GPTQ of 5 bits is not known here"),
    ({"quant_method": "gptq", "bits": 4}, "say group_size = None, not a whole number"),
    ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "not known here"),
    (compressed_config(strategy="tensor"), "4 bits, int, a scale a tensor, is not known here"),
    (compressed_config(strategy="block"), "in blocks of None is not known here"),
    (compressed_config(strategy="group"), "in groups of None is not known here"),
    (compressed_config(num_bits=3, group_size=16), "pack-quantized with 3 bits, int, a scale a group, is not known"),
    ({"quant_method": "compressed-tensors", "config_groups": {}}, "with 0 weight schemes"),
    ({"quant_method": "compressed-tensors", "config_groups": "x"}, "with 0 weight schemes"),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": 5}}}, "with 1 weight schemes"),
    ({"bits": 4}, "quantized already (None)"),
    ("gptq", "quantization_config is gptq, no table of settings"),
    (["gptq"], "quantization_config is ['gptq'], no table of settings"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS, ids=lambda x: str(x)[:50])
def test_formats_that_rows_cannot_be_scaled_in(tiny, folder, config, message):
    write_quantized(folder, tiny(hidden_size=64), "gptq4")
    raw = json.loads((folder / "config.json").read_text()) | {"quantization_config": config}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises((UnsupportedModel, BadCheckpoint)) as caught:
        load_model(str(folder), device="cpu")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


K = "model.layers.1.self_attn.k_proj."
DAMAGES = {
    "qweight short": ("gptq4", lambda t: t.update({K + "qweight": t[K + "qweight"][:-1].contiguous()})),
    "qweight of floats": ("gptq4", lambda t: t.update({K + "qweight": t[K + "qweight"].float()})),
    "qzeros missing": ("gptq4", lambda t: t.pop(K + "qzeros")),
    "scales missing": ("gptq4", lambda t: t.pop(K + "scales")),
    "qweight missing": ("gptq4", lambda t: t.pop(K + "qweight")),
    "scales of five groups": ("awq", lambda t: t.update({K + "scales": torch.ones(5, 32).half()})),
    "scales one-dimensional": ("awq", lambda t: t.update({K + "scales": torch.ones(32).half()})),
    "group index out of range": ("gptq4", lambda t: t.update({K + "g_idx": torch.full((64,), 99, dtype=torch.int32)})),
    "a negative shape": ("pack4", lambda t: t.update({K + "weight_shape": torch.tensor([-1, 64])})),
    "a shape of one number": ("pack4", lambda t: t.update({K + "weight_shape": torch.tensor([32])})),
    "no shape": ("pack4", lambda t: t.pop(K + "weight_shape")),
    "too many groups": ("pack4", lambda t: t.update({K + "weight_scale": torch.ones(32, 7).half()})),
    "too few rows": ("int8", lambda t: t.update({K + "weight_scale": torch.ones(3, 1)})),
    "no layer at all": ("int8", lambda t: [t.pop(n) for n in list(t) if n.endswith("weight_scale")]),
    "a hostile group count": ("awq", lambda t: t.update({K + "qzeros": torch.zeros(0, 4, dtype=torch.int32)})),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_layers_are_one_line(tiny, folder, tmp_path, name):
    form, damage = DAMAGES[name]
    write_quantized(folder, tiny(hidden_size=64), form)
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QRoarError) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("case", range(30))
def test_hostile_safetensors_headers_are_one_line(tiny, folder, tmp_path, case):
    """Cut files, header lengths beyond the file, names with path parts, offsets that lie."""
    write_quantized(folder, tiny(hidden_size=64), "awq")
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if case < 12:
        path.write_bytes(
            content[: (0, 3, 8, 9, 100, length, length + 7, length + 8, length + 9, 5000, 20_000, -1)[case]]
        )
    elif case < 20:
        lie = (0, 1, length - 1, length + 1, 1 << 40, (1 << 64) - 1, 1 << 63, len(content))[case - 12]
        path.write_bytes(struct.pack("<Q", lie) + content[8:])
    else:
        head = json.loads(content[8 : 8 + length])
        victim = K + "scales"
        change = [
            lambda: head.update({"../../x": head.pop(victim)}),
            lambda: head.update({"/etc/passwd.scales": head.pop(victim)}),
            lambda: head[victim].update(data_offsets=[0, 1 << 50]),
            lambda: head[victim].update(data_offsets=[-5, 3]),
            lambda: head[victim].update(data_offsets=[10, 5]),
            lambda: head[victim].update(dtype="F99"),
            lambda: head[victim].update(dtype="F64"),
            lambda: head[victim].update(shape=[1 << 62, 1 << 62]),
            lambda: head[victim].update(shape=[-1, 32]),
            lambda: head[victim].pop("shape"),
        ][case - 20]
        change()
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(BadCheckpoint) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("cache", "model")) == []
