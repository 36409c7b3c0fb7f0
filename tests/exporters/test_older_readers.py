"""Exports for readers older than transformers 5: what they look for is there, as the hub's own files spell it.

The oracle is the hub's config.json, which transformers 4 wrote. What the older readers compute of it themselves is
asked in test_runtimes.py.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
import transformers

from qroar_core.exporters import hf, quantized_copy, verify, w4a16
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
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


def test_longrope_says_its_window_where_transformers_4_looks(hub_folder, tmp_path):
    lists = {"long_factor": (1.5,) * 8, "short_factor": (1.25,) * 8}
    loaded = load_model(str(hub_folder(HUB["Mixtral"])), device="cpu", dtype="float32")
    folder = hf.run(loaded, RopeSpec("longrope", 2.0, **lists), None, tmp_path / "out")
    said = config_of(folder)
    window = said["original_max_position_embeddings"]
    assert window == said["rope_parameters"]["original_max_position_embeddings"] == loaded.geometry.original_context
    assert said["rope_scaling"]["original_max_position_embeddings"] == window == said["max_position_embeddings"] / 2
    again = load_model(str(folder), device="cpu", dtype="float32")  # refuses entries that contradict each other
    for length in (window // 2, 2 * window):
        wanted, found = rope_of(loaded, RopeSpec("longrope", 2.0, **lists), length), rope_of(again, RopeSpec(), length)
        assert torch.equal(wanted.inv_freq, found.inv_freq)
        assert wanted.attention_factor == found.attention_factor
    both = _logits(folder)
    del said["rope_scaling"], said["rope_theta"], said["original_max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(said))
    assert torch.equal(both, _logits(folder))


def test_gpt_oss_without_an_interpolation_says_so_where_transformers_4_would_take_yarn(hub_folder, tmp_path):
    """`GptOssConfig` of transformers 4 takes YaRN x32 where `rope_scaling` is not there."""
    loaded = load_model(str(hub_folder(HUB["gpt-oss"])), device="cpu")
    said = config_of(hf.run(loaded, RopeSpec("ntk", 2.0), None, tmp_path / "out"))
    assert said["rope_parameters"]["rope_type"] == "default"
    assert said["rope_scaling"] is None
    assert load_model(str(tmp_path / "out"), device="cpu").geometry.original_context == said["max_position_embeddings"]


def test_lfm2_says_its_theta_under_both_names(hub_folder, tmp_path):
    """transformers 4 reads `theta` first, which LFM2's checkpoints have beside `rope_theta`."""
    loaded = load_model(str(hub_folder(HUB["LFM2"])), device="cpu")
    said = config_of(hf.run(loaded, RopeSpec("ntk", 2.0), None, tmp_path / "out"))
    assert said["theta"] == said["rope_theta"] == said["rope_parameters"]["rope_theta"] > HUB["LFM2"]["theta"]


def test_qwen3_moe_says_its_experts_where_transformers_4_looks(hub_folder, tmp_path):
    """Also where the checkpoint has transformers 5's name alone."""
    own = {key: value for key, value in HUB["Qwen3-MoE"].items() if key != "num_experts"}
    own["num_local_experts"] = HUB["Qwen3-MoE"]["num_experts"]
    said = config_of(hf.run(load_model(str(hub_folder(own)), device="cpu"), RopeSpec(), None, tmp_path / "out"))
    assert said["num_experts"] == said["num_local_experts"] == own["num_local_experts"]


def test_the_number_format_is_said_under_both_names(hub_folder, tmp_path):
    loaded = load_model(str(hub_folder(HUB["SmolLM2"])), device="cpu", dtype="float32")
    said = config_of(hf.run(loaded, RopeSpec(), None, tmp_path / "out"))
    assert (said["dtype"], said["torch_dtype"]) == ("bfloat16", "bfloat16")


def test_a_tokenizer_has_a_class_that_transformers_4_knows(tmp_path):
    """Whatever else its config says stays; transformers 5 gives the same tokens by either name."""
    source = tmp_path / "source"
    shutil.copytree(DEMO, source)
    before = json.loads((source / "tokenizer_config.json").read_text())
    assert before["tokenizer_class"] == "TokenizersBackend"
    (source / "tokenizer_config.json").write_text(json.dumps(before | {"extra_special_tokens": ["<|a|>", "<|b|>"]}))
    folder = hf.run(load_model(str(source), device="cpu"), RopeSpec(), None, tmp_path / "out")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    assert said == before | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<|a|>", "<|b|>"],
    }
    old, new = (transformers.AutoTokenizer.from_pretrained(one) for one in (source, folder))
    text = "In 1837, <|a|> the nation's <|b|>"
    assert new(text)["input_ids"] == old(text)["input_ids"]
    assert set(new.all_special_tokens) == set(old.all_special_tokens) >= {"<|a|>", "<|b|>"}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_as_readable_as_the_umask_says(demo, tmp_path, mask):
    before = os.umask(mask)
    try:
        folder = hf.run(demo, RopeSpec(), None, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        path.name: oct(0o666 & ~mask) for path in folder.iterdir()
    }


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
