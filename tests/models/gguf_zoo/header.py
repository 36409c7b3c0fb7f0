"""The metadata of a file: the keys that llama.cpp's converter writes for every text model, and the RoPE's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor

from tests.models.gguf_zoo.kind import Kind

DEMO = Path(__file__).parents[3] / "assets" / "demo" / "tokenizer.json"


def keys_of(kind: Kind, config: Any, rope: str | None) -> dict[str, Any]:
    """Keys without the architecture in front; int, float, bool, str or list."""
    found: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None),
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", None),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": getattr(config, "layer_norm_eps", None),
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.value_length": getattr(config, "head_dim", None),
        "expert_count": getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
    }
    found |= rope_keys(config, rope) | kind.keys(config)
    return {key: value for key, value in found.items() if value is not None}


def _parameters(config: Any) -> dict[str, Any]:
    return config.rope_parameters.get("full_attention", config.rope_parameters)


def rope_keys(config: Any, rope: str | None) -> dict[str, Any]:
    """Frequency bases and scaling. `linear, old` and `linear, untyped` are how older files say it."""
    parameters = _parameters(config)
    found = {"rope.freq_base": float(parameters["rope_theta"])}
    slides = config.rope_parameters.get("sliding_attention")
    if isinstance(slides, dict):
        found["rope.freq_base_swa"] = float(slides["rope_theta"])
    factor = parameters.get("factor")
    if rope == "linear, old":
        return found | {"rope.scale_linear": factor}
    if rope == "linear, untyped":
        return found | {"rope.scaling.factor": factor}
    if parameters["rope_type"] in ("linear", "yarn"):
        found |= {"rope.scaling.type": parameters["rope_type"], "rope.scaling.factor": factor}
    if parameters["rope_type"] == "yarn":
        found["rope.scaling.original_context_length"] = parameters["original_max_position_embeddings"]
        said = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "yarn_attn_factor": "attention_factor"}
        for theirs, ours in said.items():
            if parameters.get(ours) is not None:
                found[f"rope.scaling.{theirs}"] = float(parameters[ours])
    return found


def rope_tensors(config: Any) -> dict[str, Tensor]:
    """Llama 3's divisors of the frequencies, and LongRoPE's two lists."""
    parameters = _parameters(config)
    if parameters["rope_type"] == "longrope":
        return {f"rope_factors_{x}.weight": torch.tensor(parameters[f"{x}_factor"]) for x in ("long", "short")}
    if parameters["rope_type"] != "llama3":
        return {}
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turns = (
        parameters["original_max_position_embeddings"]
        * parameters["rope_theta"] ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        / (2 * torch.pi)
    )
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # how much of a frequency is kept as it is
    return {"rope_freqs.weight": (1 / (kept + (1 - kept) / parameters["factor"])).float()}


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """The demo's byte-level BPE, as `gpt2` with GPT-2's split rule."""
    whole = json.loads(DEMO.read_text(encoding="utf-8"))
    tokens = sorted(whole["model"]["vocab"], key=whole["model"]["vocab"].get)
    special = {entry["content"] for entry in whole["added_tokens"]}
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", "gpt-2")
    writer.add_array("tokenizer.ggml.tokens", tokens)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_array("tokenizer.ggml.token_type", [control if t in special else normal for t in tokens])
    writer.add_array("tokenizer.ggml.merges", [" ".join(pair) for pair in whole["model"]["merges"]])
    writer.add_uint32("tokenizer.ggml.bos_token_id", 0)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 0)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)


def add_keys(writer: gguf.GGUFWriter, architecture: str, keys: dict[str, Any]) -> None:
    """Each value by its Python type, as the converter stores it: uint32, float32, bool, string, array."""
    for key, value in keys.items():
        name = f"{architecture}.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, list(value))
