"""Exports for readers older than transformers 5: what they look for is there, as the hub's own files spell it.

The oracle is the hub's config.json, which transformers 4 wrote. All of this was compared once with transformers 4.57
itself, logits against logits.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from qroar_core.exporters import hf, quantized_copy, verify, w4a16
from qroar_core.models.load import run as load_model
from qroar_core.specs import RopeSpec
from tests.models.hub_configs import HUB
from tests.models.hub_folders import IDS

ENTRIES = (
    "rope_theta",
    "rope_scaling",
    "partial_rotary_factor",
    "rope_local_base_freq",
    "rotary_pct",
    "rotary_emb_base",
    "num_experts",
)
NAMES = [
    "SmolLM2",
    "Llama3.2",
    "Mixtral",
    "Qwen2.5-yarn",
    "Qwen3-MoE",
    "Gemma3-text4b",
    "Phi4-mini",
    "Phi3-128k",
    "StableLM2",
    "Pythia",
    "GLM4-0414",
    "gpt-oss",
    "DSV3",
    "FalconH1",
]


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_an_export_says_what_the_hub_says(name, hub_folder, tmp_path):
    own = HUB[name]
    folder = hf.run(load_model(str(hub_folder(own)), device="cpu"), RopeSpec(), None, tmp_path / "out")
    said = config_of(folder)
    expected = {key: own[key] for key in ENTRIES if own.get(key) is not None}
    block = expected.get("rope_scaling", {})
    if "type" in block and name not in ("Phi4-mini", "Phi3-128k"):
        block = {"rope_type" if key == "type" else key: value for key, value in block.items()}
        expected["rope_scaling"] = block
    assert {key: said[key] for key in expected} == expected
    assert ("rope_scaling" in said) == bool(block)


@pytest.mark.parametrize("name", ["Llama3.2", "Mixtral", "Gemma3-text4b", "Pythia", "OLMo2"])
@pytest.mark.parametrize("method", ["yarn", "linear"])
def test_another_interpolation_is_said_in_both_spellings_and_read_as_one(name, method, hub_folder, tmp_path):
    loaded = load_model(str(hub_folder(HUB[name])), device="cpu", dtype="float32")
    folder = hf.run(loaded, RopeSpec(method, 2.0), None, tmp_path / "out")
    said = config_of(folder)
    new = said["rope_parameters"].get("full_attention", said["rope_parameters"])
    older = dict(said["rope_scaling"])
    assert (older.pop("rope_type", None) or older.pop("type")) == new["rope_type"] == method
    assert older == {key: new[key] for key in older}
    assert set(new) - set(older) <= {"rope_theta", "rope_type", "partial_rotary_factor"}
    assert said["rope_theta"] == new["rope_theta"]
    assert all(check.passed is not False for check in verify.run(folder))
    del said["rope_scaling"], said["rope_theta"]
    logits = [_logits(folder)]
    (folder / "config.json").write_text(json.dumps(said))  # as transformers 5 would write it
    logits.append(_logits(folder))
    assert torch.equal(*logits)


def _logits(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


def test_a_quantized_copy_says_both_too(hub_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))
    source = w4a16.run(
        load_model(str(hub_folder(HUB["Llama3.2"])), device="cpu"), RopeSpec(), None, tmp_path / "packed", group_size=32
    )
    folder = quantized_copy.run(load_model(str(source), device="cpu"), RopeSpec("yarn", 2.0), None, tmp_path / "copy")
    said = config_of(folder)
    assert said["rope_theta"] == said["rope_parameters"]["rope_theta"] == 500000.0
    assert said["rope_scaling"] == {k: v for k, v in said["rope_parameters"].items() if k != "rope_theta"}
    assert said["rope_scaling"]["rope_type"] == "yarn"
