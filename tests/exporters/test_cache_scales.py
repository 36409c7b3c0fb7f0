"""Scales of an fp8 K/V cache in a checkpoint: measured, written, read back, and what they do to K and V.

Oracles: transformers' own cache of K after RoPE, and compressed-tensors itself, which rounds K and V of such a folder
in transformers. vLLM 0.32.0 was run on such folders by hand: its layers hold the same numbers.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, BadSpec, UnsupportedModel
from qroar_core.exporters import hf, verify
from qroar_core.exporters.cache_scales import checks, measured, require_scaled_cache
from qroar_core.exporters.exported import of_folder
from qroar_core.exporters.folder import NOTE, write_note
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.forward_pass import SCORED, sample_ids, scored
from qroar_core.exporters.verify_runtime import as_transformers_rounds
from qroar_core.exporters.writers import cache_scales_of
from qroar_core.models import cache_scales, load
from qroar_core.models.calibrate import calibrated
from qroar_core.models.stream import Condition
from qroar_core.models.text import windows
from qroar_core.models.text_choice import texts_of
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.presets import KV_PRESETS, preset_quant
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales

pytestmark = pytest.mark.slow  # checkpoints are written, loaded and rounded in transformers
YARN, LENGTH = RopeSpec("yarn", 4.0), 256
FP8 = preset_quant("fp8-calibrated")
PRESET = KV_PRESETS["fp8-calibrated"]


@pytest.fixture(scope="module")
def texts():
    return texts_of("messages")["calibration"]


@pytest.fixture(scope="module")
def exported(demo, texts, tmp_path_factory):
    scales = measured(demo, YARN, None, texts, LENGTH)
    folder = hf.run(demo, YARN, None, tmp_path_factory.mktemp("scaled") / "out", cache_scales=scales)
    return folder, scales


@pytest.fixture(scope="module")
def again(exported):
    return load.run(str(exported[0]), device="cpu", dtype="float32")


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def edited(folder, change):
    """The folder with other tensors, under a note with their hashes."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    note = json.loads((folder / NOTE).read_text())
    write_note(folder, {key: value for key, value in note.items() if key != "files"})
    return folder


def test_they_are_the_largest_magnitudes_of_transformers_own_cache(demo, exported, texts, tmp_path):
    from transformers import AutoModelForCausalLM

    plain = hf.run(demo, YARN, None, tmp_path / "plain")
    model = AutoModelForCausalLM.from_pretrained(plain)
    ids = windows(demo.tokenizer, texts, LENGTH, 4, 0, fewer=True).ids
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    for layer, kept in enumerate(cache.layers):
        assert exported[1].k[layer] == pytest.approx(float(kept.keys.abs().max()) / 448, rel=1e-5)
        assert exported[1].v[layer] == pytest.approx(float(kept.values.abs().max()) / 448, rel=1e-5)


def test_they_lie_where_vllm_looks_for_them(exported):
    folder, scales = exported
    with safe_open(folder / "model.safetensors", "pt") as file:
        for layer in range(4):
            for name, wanted in (("k", scales.k), ("v", scales.v)):
                found = file.get_tensor(f"model.layers.{layer}.self_attn.{name}_scale")
                assert (found.dtype, found.shape, float(found)) == (torch.float32, (1,), wanted[layer])
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    assert config["config_groups"] == {}
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True, "dynamic": False}
    assert scheme.items() <= config["kv_cache_scheme"].items()


def test_they_round_as_compressed_tensors_does_in_transformers(exported, again, demo):
    from transformers import AutoModelForCausalLM

    ids = windows(demo.tokenizer, texts_of("messages")["heldout"], LENGTH, 1, 0).ids
    model = AutoModelForCausalLM.from_pretrained(exported[0])
    with torch.no_grad():
        wanted = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    plain = AutoModelForCausalLM.from_pretrained(exported[0])
    for module in plain.modules():
        module.quantization_enabled = False
    with torch.no_grad():
        exact = plain(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    condition = calibrated(again, Condition(RopeSpec(), QuantSpec(k=FP8.k, v=FP8.v)), ids)
    _, found = scored(again, condition, ids)
    found = -found.flatten()
    tail = slice(-len(found), None)
    rounding = float((wanted - exact)[tail].abs().mean())
    assert rounding > 1e-3
    off = float((found - wanted[tail]).abs().mean())
    assert off < rounding / 20  # sums in another order cross a tie here and there


def test_the_preset_rounds_bit_for_bit_as_compressed_tensors(again):
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize as theirs

    args = QuantizationArgs(num_bits=8, type="float", strategy="tensor", symmetric=True)
    generator = torch.Generator().manual_seed(3)
    levels = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    between = (levels[1:] + levels[:-1]) / 2  # where a product with the reciprocal is not a quotient
    for scale in (*again.cache_scales.k / 448, *torch.rand(200, generator=generator, dtype=torch.float64) + 1e-3):
        step = scale.float()
        x = torch.cat([between * step, -between * step, torch.randn(256, generator=generator) * 9])[None]
        wanted = theirs(x, step, torch.zeros(1), args)
        assert torch.equal(fake_quantize(x, PRESET.k, absmax=step.double() * 448), wanted)


def test_a_folder_is_loaded_with_its_own_scales(exported, again):
    folder, scales = exported
    for table, wanted in ((again.cache_scales.k, scales.k), (again.cache_scales.v, scales.v)):
        assert (table / 448).float().tolist() == list(wanted)
    assert "its K/V cache scales are those of the preset fp8-calibrated" in again.note
    assert of_folder(folder, "hf").cache_scales


def test_they_are_used_where_nothing_is_changed_and_measured_elsewhere(again, demo):
    ids = torch.arange(3, 67)[None]
    kept = calibrated(again, Condition(RopeSpec(), FP8), ids).static
    assert torch.equal(kept.k, again.cache_scales.k)
    assert torch.equal(kept.v, again.cache_scales.v)
    k_alone = calibrated(again, Condition(RopeSpec(), QuantSpec(k=FP8.k, qk=replace(FP8.k, bits=8))), ids).static
    assert torch.equal(k_alone.k, again.cache_scales.k)
    assert k_alone.q is not None
    ones = torch.full((4, 2, 1), 2.0, dtype=torch.float64)
    for other in (
        Condition(RopeSpec("linear", 2.0), FP8),
        Condition(RopeSpec(), FP8, Scales("symmetric", "kv_head", ((0, 31),), ones)),
    ):
        assert not torch.equal(calibrated(again, other, ids).static.k.double(), again.cache_scales.k)
    assert demo.cache_scales is None


def test_what_is_measured_belongs_to_them_too(exported, again, tmp_path):
    other = edited(copied(exported[0], tmp_path), lambda t: t["model.layers.2.self_attn.v_scale"].mul_(2))
    found = load.run(str(other), device="cpu", dtype="float32")
    assert found.fingerprint == again.fingerprint
    assert found.checksum != again.checksum


def asked(folder):
    found = load.run(str(folder), device="cpu", dtype="float32")
    (check,) = checks(found, json.loads((folder / NOTE).read_text()))
    return check.answer, check.passed


def test_they_are_compared_with_what_was_measured(exported, tmp_path):
    wrong = edited(copied(exported[0], tmp_path), lambda t: t["model.layers.2.self_attn.v_scale"].mul_(1 + 2.0**-20))
    assert asked(exported[0]) == ("two of each of 4 layers, all as measured", True)
    assert asked(wrong) == ("two of each of 4 layers, 1 other than measured", False)
    lost = json.loads((wrong / "config.json").read_text())
    lost["quantization_config"]["kv_cache_scheme"]["num_bits"] = 4
    (wrong / "config.json").write_text(json.dumps(lost))
    assert asked(wrong) == ("there are none in the files, or config.json does not ask for them", False)


def test_verify_asks_for_them(exported, tmp_path):
    found = {one.question: one.passed for one in verify.run(exported[0])}
    assert found["scales of the K/V cache"]
    assert all(found.values())
    wrong = edited(copied(exported[0], tmp_path), lambda t: t["model.layers.0.self_attn.k_scale"].mul_(2))
    failed = [one.question for one in verify.run(wrong) if not one.passed]
    assert failed == ["scales of the K/V cache"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["model.layers.1.self_attn.k_scale"].zero_(), "k_scale is 0, where one positive number belongs"),
        (lambda t: t.pop("model.layers.1.self_attn.k_scale"), "it has no model.layers.1.self_attn.k_scale"),
        (lambda t: t.update({"model.layers.3.self_attn.v_scale": torch.ones(2)}), "v_scale has 2 numbers"),
    ],
    ids=["zero", "missing", "per head"],
)
def test_scales_that_no_reader_takes_are_refused(exported, tmp_path, change, said):
    with pytest.raises(BadCheckpoint, match=said):
        load.run(str(edited(copied(exported[0], tmp_path), change)), device="cpu", dtype="float32")


def test_four_bit_weights_have_scales_of_their_own(demo, exported, texts, tmp_path):
    from qroar_core.exporters import w4a16

    scales = cache_scales_of("w4a16", demo, YARN, None, texts, LENGTH, group_size=64)
    assert all(a != b and a == pytest.approx(b, rel=0.2) for a, b in zip(scales.k, exported[1].k, strict=True))
    folder = w4a16.run(demo, YARN, None, tmp_path / "out", group_size=64, cache_scales=scales)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["format"] == "pack-quantized"
    assert config["kv_cache_scheme"]["type"] == "float"
    found = load.run(str(folder), device="cpu", dtype="float32").cache_scales
    assert (found.k / 448).float().tolist() == list(scales.k)


def test_caches_and_formats_without_such_scales_are_refused():
    with pytest.raises(BadSpec, match="this K/V cache reads no scales from a checkpoint; add --kv fp8-calibrated"):
        require_scaled_cache(preset_quant("fp8"), "hf")
    for format in FORMATS:
        if format in ("hf", "w4a16"):
            require_scaled_cache(FP8, format)
            continue
        with pytest.raises(BadSpec, match=f"{format} holds no scales of a K/V cache; export as hf, w4a16"):
            require_scaled_cache(FP8, format)


def test_a_latent_cache_has_none(demo):
    latent = SimpleNamespace(geometry=replace(demo.geometry, latent_dim=8))
    with pytest.raises(UnsupportedModel, match="caches a latent"):
        cache_scales.names_of(latent)


def test_a_runtime_that_rounds_by_them_is_compared_with_transformers_that_rounds(exported, demo):
    """By transformers itself on the folder with and without the scheme: verify's reference is the first."""
    from transformers import AutoModelForCausalLM

    folder, _ = exported
    ids = sample_ids(demo, 600)
    found = as_transformers_rounds(folder, ids)[0]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        ln = model(ids, use_cache=False).logits[0, -SCORED - 1 : -1].double().log_softmax(-1)
    assert torch.allclose(found, -ln.gather(1, ids[0, -SCORED:, None])[:, 0], atol=1e-5)
    whole = load.run(str(folder), device="cpu", dtype="float32")
    _, exact = scored(whole, Condition(RopeSpec()), ids)
    assert float((found - exact[0].double()).abs().max()) > 1e-3  # rounded they are
