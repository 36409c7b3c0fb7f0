"""What config.json says after an export, of RoPE that was kept or replaced, however the source had spelled it.

Oracle: transformers' own config class, which reads the written file without a second reading of ours.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from qroar_core.exporters import hf, quantized_copy, verify
from qroar_core.models.config_rope import BESIDE
from qroar_core.models.load import run as load_model
from qroar_core.specs import RopeSpec
from tests.models.hub_configs import HUB
from tests.models.hub_folders import IDS
from tests.models.quantized_folders import write_quantized

pytest.importorskip("compressed_tensors")
YARN = {"factor": 4.0, "beta_fast": 16.0, "beta_slow": 2.0}
FULL, SLIDING = "full_attention", "sliding_attention"
LISTS = {key: HUB["Phi3-128k"]["rope_scaling"][key] for key in ("short_factor", "long_factor")}
LONG = LISTS | {"rope_type": "longrope", "original_max_position_embeddings": 4096, "rope_theta": 1e4}
NEAR = {"rope_type": "default", "rope_theta": 1e4}
CASES = {  # the source's spelling, and the rope_parameters that it means
    "Gemma 3, type": (
        "Gemma3-1b",
        {"rope_scaling": {"type": "linear", "factor": 8.0}, "rope_theta": 1e6, "rope_local_base_freq": 1e4},
        {FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, SLIDING: NEAR},
    ),
    "Llama, type": (
        "SmolLM2",
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 2e4},
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 2e4},
    ),
    "Llama, a window beside the block": (
        "SmolLM2",
        {"rope_scaling": YARN | {"type": "yarn"}, "original_max_position_embeddings": 128, "rope_theta": 1e4},
        YARN | {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 128},
    ),
    "Phi-3, su": (
        "Phi3-128k",
        {"rope_scaling": LISTS | {"type": "su"}, "original_max_position_embeddings": 4096, "rope_theta": 1e4},
        LONG | {"partial_rotary_factor": 1.0},
    ),
    "Phi-3, su as rope_parameters": (
        "Phi3-128k",
        {
            "rope_parameters": LISTS | {"rope_type": "su", "type": "su", "rope_theta": 1e4},
            "original_max_position_embeddings": 4096,
        },
        LONG | {"partial_rotary_factor": 1.0},
    ),
}


@pytest.fixture
def source(tmp_path, hub_folder, byte_tokenizer):
    """`source(case)` -> a folder with int8 weights whose config.json spells RoPE as the case does."""

    def write(case):
        name, said, _ = CASES[case]
        plain = load_model(str(hub_folder(HUB[name])), device="cpu", dtype="float32")
        folder = tmp_path / "int8"
        folder.mkdir()
        write_quantized(folder, plain, "int8")
        raw = {key: v for key, v in config_of(folder).items() if key not in (*BESIDE, "rope_parameters")}
        (folder / "config.json").write_text(json.dumps(raw | said))
        return folder

    return write


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def read_by_transformers(folder):
    """rope_parameters as transformers 5 has them, without the second name that Phi-3's older readers need."""
    block = transformers.AutoConfig.from_pretrained(folder).rope_parameters
    return {key: value for key, value in block.items() if key != "type"}


@pytest.mark.parametrize("case", CASES)
def test_a_copy_with_its_own_interpolation_says_what_it_is(case, source, tmp_path):
    folder, wanted = source(case), CASES[case][2]
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    out = quantized_copy.run(loaded, RopeSpec(), None, tmp_path / "out")
    said = config_of(out)
    assert said["rope_parameters"] == wanted == read_by_transformers(out)
    assert "su" not in str(said)
    again = load_model(str(out), device="cpu", dtype="float32")
    assert again.geometry == loaded.geometry
    with torch.no_grad():
        assert torch.equal(again.model(IDS, use_cache=False).logits, loaded.model(IDS, use_cache=False).logits)
    assert all(check.passed is not False for check in verify.run(out))
    beside = {"rope_parameters", "partial_rotary_factor", *BESIDE}  # the second is what older readers look for
    before = config_of(folder)
    assert {k: v for k, v in said.items() if k not in beside} == {k: v for k, v in before.items() if k not in beside}


def test_a_spelling_that_transformers_reads_is_copied_byte_for_byte(source, tmp_path):
    folder = source("Llama, type")
    raw = config_of(folder) | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
    (folder / "config.json").write_text(json.dumps(raw, indent=3))
    out = quantized_copy.run(load_model(str(folder), device="cpu"), RopeSpec(), None, tmp_path / "out")
    assert (out / "config.json").read_bytes() == (folder / "config.json").read_bytes()


@pytest.mark.parametrize("write", [hf, quantized_copy])
def test_nothing_of_a_replaced_interpolation_stays(write, source, tmp_path):
    """A window beside the block is the replaced YaRN's: none of the new one's entries."""
    folder = source("Llama, a window beside the block")
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    out = write.run(loaded, RopeSpec("linear", 2.0), None, tmp_path / "out")
    said = config_of(out)
    assert "original_max_position_embeddings" not in str(said)
    assert "beta" not in str(said)
    linear = {"rope_type": "linear", "factor": 2.0}
    assert (said["rope_parameters"], said["rope_scaling"]) == (linear | {"rope_theta": 1e4}, linear)


@pytest.mark.parametrize("write", [hf, quantized_copy])
def test_a_replaced_window_is_not_said_beside_the_new_one(write, source, tmp_path):
    """The new YaRN starts from other tokens; readers that find the old number beside it compute another model."""
    folder = source("Llama, a window beside the block")
    (folder / "config.json").write_text(json.dumps(config_of(folder) | {"initial_context_length": 128}))
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    out = write.run(loaded, RopeSpec("yarn", 2.0, original_context=256), None, tmp_path / "out")
    assert config_of(out)["rope_parameters"]["original_max_position_embeddings"] == 256
    assert read_by_transformers(out)["original_max_position_embeddings"] == 256
    again = load_model(str(out), device="cpu", dtype="float32")
    assert again.geometry.original_context == 256
