"""Folders whose config.json is what the hub has: each loads and gives transformers' own logits, bit by bit."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from hub_configs import HUB

from qroar_core.errors import QRoarError
from qroar_core.models.loading import load_model

IDS = torch.arange(1, 151)[None] % 250


def random_model(config):
    """Random weights as large as trained ones, bfloat16."""
    with torch.random.fork_rng():  # what decays in a state is drawn by the model itself
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).float()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "A_log" not in name:
            matrix = weight.ndim > 1 and "norm" not in name
            noise = torch.randn(weight.shape, generator=generator)
            weight.data = noise * 1.2 * weight.shape[-1] ** -0.5 if matrix else weight.data + 0.2 * noise
    return model.to(torch.bfloat16)


@pytest.fixture
def written(tmp_path, byte_tokenizer):
    """`written(raw)` -> a folder with weights of that config.json, and config.json letter by letter."""

    def write(raw, **said):
        (tmp_path / "config.json").write_text(json.dumps(raw))
        random_model(transformers.AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
        (tmp_path / "generation_config.json").unlink(missing_ok=True)
        byte_tokenizer.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(raw | said))
        return tmp_path

    return write


@pytest.mark.parametrize("name", HUB)
def test_a_config_of_the_hub_loads_and_gives_the_logits_of_transformers(name, written):
    folder = written(HUB[name])
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = oracle(IDS, use_cache=False).logits
        got = loaded.model(IDS, use_cache=False).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert float(expected.std()) > 0.03
    noted = "its dual chunk attention, for texts past 253952 tokens, is not computed" if "1M" in name else ""
    assert loaded.note == noted


AT_ODDS = {  # what is said twice and differently, or not computed by transformers: was read without a word
    "rope_scaling.factor is 4.0, and no rope_type says how": ("SmolLM2", {"rope_scaling": {"factor": 4.0}}),
    "rope_scaling.short_factor is .*, and no rope_type": ("Phi3-4k", {
        "rope_scaling": {"rope_type": "default", "short_factor": [2.0] * 8}}),
    "rope_theta is 100000, which a llama": ("SmolLM2", {"rope_parameters": {"rope_theta": 1e4}}),
    "rope_local_base_freq is 10000, which": ("Gemma3-v5", {"rope_local_base_freq": 10000, "rope_parameters": {
        kind: {"rope_type": "default", "rope_theta": 1e6} for kind in ("full_attention", "sliding_attention")}}),
    "rope_parameters and rope_scaling differ": ("SmolLM2", {
        "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}}),
    "rope_scaling has rope_type yarn and type linear": ("SmolLM2", {
        "rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 2.0}}),
    "rope_scaling.short_mscale is not known": ("Phi3-128k", {"rope_scaling": {
        **HUB["Phi3-128k"]["rope_scaling"], "short_mscale": 1.2, "long_mscale": 1.3}}),
    "rope_scaling.factor is 100000.*, a number of at least 1": ("SmolLM2", {
        "rope_scaling": {"type": "linear", "factor": 10**400}}),
    "hidden_size is 10000.*, a whole number": ("SmolLM2", {"hidden_size": 10**400}),
    "partial_rotary_factor is 0.25, which a gpt_neox": ("Pythia", {"rotary_pct": 0.5, "partial_rotary_factor": 0.25}),
    "rope_pct is 0.5, which a stablelm": ("StableLM-3b-4e1t", {"rope_pct": 0.5}),
    "experts_per_token is 4, which": ("gpt-oss", {"experts_per_token": 4}),
    "sliding_window_size is 512, which": ("Gemma2-it", {"sliding_window_size": 512}),
    "use_sliding_window is False, which": ("Mistral0.1", {"use_sliding_window": False}),
    "max_window_layers is 2, which": ("Qwen3-MoE", {
        "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}),
    "layer_types is .*, which a llama": ("SmolLM2", {"layer_types": ["sliding_attention", "full_attention"] * 2}),
    "norm_topk_prob is True, which": ("DSV2-Lite", {"norm_topk_prob": True}),
    "topk_method is greedy, which": ("DSV3", {"topk_method": "greedy"}),
    "hidden_act is gelu, which": ("gpt-oss", {"hidden_act": "gelu"}),
    "norm_type is rms_norm, which": ("StarCoder2-3b", {"norm_type": "rms_norm"}),
    "use_qk_norm is False, which": ("Qwen3-Coder", {"use_qk_norm": False}),
    "rope_interleaved is False, which": ("CommandR", {"rope_interleaved": False}),
}  # fmt: skip


@pytest.mark.parametrize("message", AT_ODDS)
def test_what_is_said_twice_and_differently_or_not_computed_is_refused(message, written):
    name, said = AT_ODDS[message]
    folder = written(HUB[name], **said)
    with pytest.raises(QRoarError, match=f"config.json: {message}") as error:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_yarn_on_a_model_whose_config_names_no_head_size(written):
    """transformers 5.23 itself multiplies null there, on Mixtral alone; the oracle is told the size."""
    block = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    raw = HUB["Mixtral"] | {"rope_scaling": block}
    folder = written(raw | {"head_dim": 16}, head_dim=None)
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    (folder / "config.json").write_text(json.dumps(raw | {"head_dim": 16}))
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        got, expected = loaded.model(IDS, use_cache=False).logits, oracle(IDS, use_cache=False).logits
    assert torch.equal(got, expected)
