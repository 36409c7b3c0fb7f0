"""The transformers model of a kind: its real config class, weights large enough that every part of it is felt."""

from __future__ import annotations

import gguf
import numpy as np
import torch
import transformers
from torch import Tensor, nn

from tests.models.gguf_zoo.kind import CONTEXT, SIZES, Kind, rope_parameters

ORIGINAL = 128  # tokens, where a RoPE scaling says what window it stretches
LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL}
SCALED = {
    "linear": LINEAR,
    "linear, old": LINEAR,
    "linear, untyped": LINEAR,
    "yarn": YARN,
    "yarn, betas": YARN | {"beta_fast": 9.0, "beta_slow": 2.0},
    "yarn, attention factor": YARN | {"attention_factor": 1.4},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
}
FLOAT32 = ("mlp.gate.weight", "router.weight", "shared_expert_gate.weight", "conv.conv.weight")  # kept so in a file


def build(kind: Kind, rope: str | None = None, seed: int = 0) -> nn.Module:
    """A float32 model with random weights, on the CPU, in eval mode."""
    rope_now = rope_parameters(kind)
    if rope == "longrope":
        rope_now |= longrope(kind)
    elif rope is not None and "full_attention" in rope_now:
        rope_now["full_attention"] = rope_now["full_attention"] | SCALED[rope]
    elif rope is not None:
        rope_now |= SCALED[rope]
    config = getattr(transformers, kind.config or f"{kind.stem}Config")(
        **(SIZES | {"architectures": [f"{kind.stem}ForCausalLM"]} | kind.options | {"rope_parameters": rope_now})
    )
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{kind.stem}ForCausalLM")(config)
    _randomize(model, kind, seed)
    return model.float().eval()


def longrope(kind: Kind) -> dict:
    """Factors for a window of ORIGINAL stretched to the model's."""
    sizes = SIZES | kind.options
    head_dim = sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]
    pairs = int(head_dim * rope_parameters(kind).get("partial_rotary_factor", 1.0)) // 2
    original = sizes.get("original_max_position_embeddings", ORIGINAL)
    return {
        "rope_type": "longrope",
        "original_max_position_embeddings": original,
        "factor": CONTEXT / original,
        "short_factor": [1.0 + 0.02 * i for i in range(pairs)],
        "long_factor": [1.0 + 0.9 * i for i in range(pairs)],
    }


def _randomize(model: nn.Module, kind: Kind, seed: int) -> None:
    """Logits spread over a few nats, attention far from uniform, gains away from one, biases away from zero."""
    generator = torch.Generator().manual_seed(seed)
    tied = model.config.tie_word_embeddings
    for name, tensor in state(model).items():
        noise = torch.randn(tensor.shape, generator=generator)
        if "embed" in name and tensor.ndim == 2:
            noise *= 2.5 * tensor.shape[1] ** -0.5 if tied else 1.0
        elif tensor.ndim >= 2 and not _is_gain(name):
            noise *= 1.6 * tensor.shape[_last(name, kind)] ** -0.5
            if name.endswith(("bias",)):
                noise = noise * tensor.shape[-1] ** 0.5 * 0.2
        elif _is_gain(name):
            noise = ((0.3 * noise).clamp(-0.6, 0.6) * 1024).round() / 1024 + (0 if kind.centred else 1)
        else:
            noise *= 0.3
        tensor.data.copy_(noise)


def _is_gain(name: str) -> bool:
    module, _, suffix = name.rpartition(".")
    last = module.rpartition(".")[2]
    return suffix == "weight" and ("norm" in last or last.startswith("ln_") or "layernorm.norms." in name)


def _last(name: str, kind: Kind) -> int:
    return next((dim for end, dim in kind.rounded_along.items() if name.endswith(end)), -1)


def state(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a checkpoint holds; a tied head once."""
    tensors = model.state_dict(keep_vars=True)
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
        tensors.pop("embed_out.weight", None)
    return tensors


def stored_kind(
    kind: Kind, name: str, ndim: int, last: int, asked: gguf.GGMLQuantizationType
) -> gguf.GGMLQuantizationType:
    """The type in which a transformers tensor is kept in the file, as llama.cpp's converter chooses it."""
    if ndim < 2 or name.endswith(FLOAT32) or _is_gain(name) or "bias" in name or "sinks" in name:
        return gguf.GGMLQuantizationType.F32
    if asked == gguf.GGMLQuantizationType.MXFP4 and "experts." not in name:
        return gguf.GGMLQuantizationType.F16
    block, _ = gguf.GGML_QUANT_SIZES[asked]
    whole = last % block == 0 and (block == 1 or not name.endswith(kind.unblocked))
    return asked if whole else gguf.GGMLQuantizationType.F16


def round_to(model: nn.Module, kind: Kind, asked: gguf.GGMLQuantizationType) -> None:
    """Give the model the very values that the file will hold."""
    for name, tensor in state(model).items():
        dim = _last(name, kind)
        how = stored_kind(kind, name, tensor.ndim, tensor.shape[dim], asked)
        rows = np.ascontiguousarray(tensor.detach().transpose(-1, dim).numpy()) if tensor.ndim > 1 else None
        if how != gguf.GGMLQuantizationType.F32 and rows is not None:
            there = gguf.dequantize(gguf.quantize(rows, how), how).reshape(rows.shape)
            tensor.data.copy_(torch.from_numpy(there.astype(np.float32)).transpose(-1, dim))
