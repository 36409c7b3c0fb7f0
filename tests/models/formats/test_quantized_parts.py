"""Every part of one quantized layer removed, renamed, reshaped, retyped, others added; every setting, format by format.

Each damage is refused in one line, or changes no weight at all: those are listed. A number that moves fails.
"""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import QRoarError
from qroar_core.models.formats.quantized_folder import stored_tensors
from qroar_core.models.load import run as load_model
from tests.models.quantized_folders import BITSANDBYTES, EIGHT_BIT_FLOATS, FORMS, write_quantized

pytest.importorskip("compressed_tensors")
STEM = "model.layers.1.self_attn.k_proj"
ALL = (*FORMS, *BITSANDBYTES, *EIGHT_BIT_FLOATS)
FLAT = {"one axis more weight", "transposed weight", "another type weight.quant_state.bitsandbytes__nf4"}
HARMLESS = {  # form: damages that change no weight
    "gptq4": {"remove g_idx"},  # says desc_act false: groups are runs of inputs anyway
    "gptq8": {"remove g_idx"},
    "gptq3": {"remove g_idx"},
    "bitsandbytes int8": {f"{x} weight_format" for x in ("remove", "one axis more", "another type")},  # still 0
    "nf4": FLAT,
    "nf4 double": FLAT,
    "modelopt fp8": {"one axis more weight_scale"},  # one number, as (), (1,) or (1, 1)
    "autofp8": {"one axis more weight_scale"},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return {"root": tmp_path_factory.mktemp("sound")}


@pytest.fixture
def folder(sound, tiny, tmp_path):
    """`folder(form)` -> a copy of a sound one, and what it is read as."""

    def copy(form):
        if form not in sound:
            path = sound["root"] / form.replace(" ", "-")
            path.mkdir()
            write_quantized(path, tiny(hidden_size=64), form)
            sound[form] = path, {name: stored[...] for name, stored in stored_tensors(path)[0].items()}
        path, wanted = sound[form]
        return shutil.copytree(path, tmp_path / "model"), wanted

    return copy


def outcome(folder, wanted):
    """ "refused", "same", "moved", or "another set" of weights; a refusal is one line."""
    try:
        found = stored_tensors(folder)[0]
        if found.keys() != wanted.keys():
            return "another set"
        if any(found[name].shape != tuple(wanted[name].shape) for name in wanted):
            load_model(str(folder), device="cpu")  # refuses it
            return "another set"
        same = all(torch.equal(found[name][...], wanted[name]) for name in wanted)
        return "same" if same else "moved"
    except QRoarError as error:
        return "refused" if "\n" not in str(error) and len(str(error)) < 600 else "refused in a mess"


def damages(tensors):
    """Name -> change of a file's tensors, for every part of the layer STEM."""
    table = {}
    for name in [n for n in tensors if n.startswith(f"{STEM}.")]:
        suffix, value = name.removeprefix(f"{STEM}."), tensors[name]
        table[f"remove {suffix}"] = lambda t, n=name: t.pop(n)
        table[f"rename {suffix}"] = lambda t, n=name: t.update({f"{n}_old": t.pop(n)})
        table[f"one axis more {suffix}"] = lambda t, n=name: t.update({n: t[n][None].clone()})
        table[f"another type {suffix}"] = lambda t, n=name: t.update({n: t[n].double().to(torch.float64)})
        if value.ndim:
            table[f"short {suffix}"] = lambda t, n=name: t.update({n: t[n][:-1].clone()})
            table[f"long {suffix}"] = lambda t, n=name: t.update({n: longer(t[n])})
        if value.ndim == 2 and value.shape[0] != value.shape[1]:
            table[f"transposed {suffix}"] = lambda t, n=name: t.update({n: t[n].mT.contiguous()})
    for suffix in ("weight_scale_2", "pre_quant_scale", "scale", "lut", "weight.codebook", "g_idx", "qweight", "SCB"):
        if f"{STEM}.{suffix}" not in tensors:
            table[f"add {suffix}"] = lambda t, s=suffix: t.update({f"{STEM}.{s}": torch.ones(32)})
    return table


def longer(value):
    return torch.cat((value.view(torch.uint8), value[:1].view(torch.uint8))).view(value.dtype)


@pytest.mark.parametrize("form", ALL)
def test_no_damage_to_a_part_moves_a_weight_without_a_word(folder, tmp_path, form):
    path, wanted = folder(form)
    assert outcome(path, wanted) == "same"
    tensors = load_file(path / "model.safetensors")
    table = damages(tensors)
    assert len(table) > 12
    found = {}
    for name, damage in table.items():
        damaged = dict(tensors)
        damage(damaged)
        save_file(damaged, path / "model.safetensors", metadata={"format": "pt"})
        found[name] = outcome(path, wanted)
    harmless = HARMLESS.get(form, set()) | {name for name in table if "input_scale" in name}
    assert {name for name, what in found.items() if what == "same"} <= harmless
    assert set(found.values()) <= {"refused", "same"}, found


def test_a_shape_that_fits_its_own_scale_is_refused_by_the_model(folder):
    path, _ = folder("modelopt fp8")
    tensors = load_file(path / "model.safetensors")
    tensors[f"{STEM}.weight"] = tensors[f"{STEM}.weight"][:-1].clone()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QRoarError, match=r"another shape than config\.json says, first model\.layers\.1\.self_attn\.k"):
        load_model(str(path), device="cpu")


def with_config(path, **changes):
    raw = json.loads((path / "config.json").read_text())
    raw["quantization_config"] |= changes
    (path / "config.json").write_text(json.dumps(raw))


CONFIGS = {
    "gptq4": {
        "bits": (2, 8, 5, "4", None, True),
        "group_size": (32, -1, 0, "16", None),
        "desc_act": (True, "no"),
        "sym": (True, None),
        "checkpoint_format": ("marlin", 5),
        "pack_dtype": ("int64",),
        "dynamic": ({"+:.*q_proj": {"bits": 8}},),
        "is_marlin_format": (True,),
        "rotation": ("hadamard",),
        "adapter": ({"name": "lora"},),
        "quant_method": ("awq", "gguf", None),
    },
    "awq": {
        "bits": (8, "4"),
        "group_size": (32, -1, None),
        "version": ("gemv", "llm-awq"),
        "zero_point": (False, "x"),
        "quant_method": ("gptq",),
        "smoother": ("x",),
    },
    "pack4": {
        "format": ("int-quantized", "dense", "nvfp4-pack-quantized"),
        "sparsity_config": ({"format": "sparse-24"},),
        "transform_config": ({"config_groups": {"R1": {}}},),
        "quantization_status": ("frozen",),
    },
    "nf4": {
        "bnb_4bit_quant_type": ("fp4", "int4"),
        "bnb_4bit_use_double_quant": (True,),
        "load_in_4bit": (False,),
        "load_in_8bit": (True,),
    },
    "nf4 double": {"bnb_4bit_use_double_quant": (False,)},
    "block fp8": {
        "weight_block_size": ([64, 64], [32, 16], None, [16], "x"),
        "expert_dtype": ("fp4",),
        "fmt": ("e5m2",),
        "scale_fmt": ("log2",),
        "quant_method": ("fbgemm_fp8",),
    },
}
SAME = {
    ("nf4", "load_in_8bit", True),  # load_in_4bit decides
    ("gptq4", "desc_act", True),  # its g_idx says which input is of which group, in any order
}


@pytest.mark.parametrize("form", CONFIGS)
def test_no_wrong_setting_moves_a_weight_without_a_word(folder, form):
    path, wanted = folder(form)
    before = (path / "config.json").read_bytes()
    for key, values in CONFIGS[form].items():
        for value in values:
            (path / "config.json").write_bytes(before)
            with_config(path, **{key: value})
            expected = "same" if (form, key, value if isinstance(value, bool) else None) in SAME else "refused"
            assert outcome(path, wanted) == expected, (key, value)


SCHEMES = {
    "num_bits": (8, 3),
    "symmetric": (False,),
    "group_size": (32, 0, None),
    "strategy": ("channel", "tensor", "x"),
    "type": ("float",),
    "dynamic": (True,),
    "actorder": ("group", "x"),
    "rounding": ("up",),
}


def test_no_wrong_weight_scheme_moves_a_weight_without_a_word(folder):
    path, wanted = folder("pack4")
    raw = json.loads((path / "config.json").read_text())
    for key, values in SCHEMES.items():
        for value in values:
            changed = json.loads(json.dumps(raw))
            changed["quantization_config"]["config_groups"]["group_0"]["weights"][key] = value
            (path / "config.json").write_text(json.dumps(changed))
            assert outcome(path, wanted) == "refused", (key, value)
    second = json.loads(json.dumps(raw))
    groups = second["quantization_config"]["config_groups"]
    groups["group_1"] = json.loads(json.dumps(groups["group_0"])) | {"targets": ["re:.*q_proj"]}
    (path / "config.json").write_text(json.dumps(second))
    assert outcome(path, wanted) == "same"
    groups["group_1"]["weights"]["num_bits"] = 8
    (path / "config.json").write_text(json.dumps(second))
    assert outcome(path, wanted) == "refused"


@pytest.mark.parametrize("form", [f for f in ALL if f != "modelopt fp8"])
def test_a_config_that_is_silent_about_quantized_tensors_is_refused_by_the_tensors_name(folder, form):
    path, _ = folder(form)
    raw = json.loads((path / "config.json").read_text())
    raw.pop("quantization_config")
    (path / "config.json").write_text(json.dumps(raw))
    line = r"model\.layers\.0\.\S+ \(\w+\) belongs to quantized weights, and no file"
    with pytest.raises(QRoarError, match=line) as caught:
        load_model(str(path), device="cpu")
    assert "\n" not in str(caught.value)
