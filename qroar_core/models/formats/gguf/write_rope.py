"""Position interpolation as llama.cpp reads it: a `rope_parameters` block -> GGUF keys and factors.

llama.cpp has linear, YaRN (same ramp, same attention factor as transformers) and a divisor per pair,
which is how it takes llama3. Static NTK is only another base. Dynamic NTK and LongRoPE change with the
length read, and a cache scaled for one length is not the other's: they are refused.
Source: ggml-org/llama.cpp src/llama-model.cpp (load_hparams), ggml/src/ggml-cpu/ops.cpp (rope_yarn),
convert_hf_to_gguf.py (LlamaModel.generate_extra_tensors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGUFValueType, Keys

from qroar_core.errors import BadSpec
from qroar_core.models.formats.gguf.header_entries import Entry, entry

BETA_FAST, BETA_SLOW = 32.0, 1.0  # llama.cpp's defaults, and the paper's


@dataclass(frozen=True, slots=True, eq=False)
class GgufRope:
    """Keys to set, and divisors per pair (float32), of llama3 or of tied pairs, where there are any."""

    entries: tuple[Entry, ...]
    divisors: np.ndarray | None = None


def gguf_rope(block: dict[str, Any], architecture: str, head_dim: int, context: int) -> GgufRope:
    """The keys that make llama.cpp compute what transformers computes from `block`.

    Args:
        block: `rope_parameters` of a config, or of interpolations.frequencies.rope_parameters.
        architecture: GGUF's name, the prefix of the keys.
        head_dim: rotated channels.
        context: tokens the result promises, llama.cpp's `context_length`.
    Raises:
        BadSpec: a method llama.cpp does not have, or numbers it would not follow.
    """
    kind = block.get("rope_type", "default")

    def key(name: str, kind: GGUFValueType, value: Any) -> Entry:
        return entry(name.format(arch=architecture), kind, value)

    keys = [
        key(Keys.LLM.CONTEXT_LENGTH, GGUFValueType.UINT32, int(context)),
        key(Keys.Rope.FREQ_BASE, GGUFValueType.FLOAT32, float(block["rope_theta"])),
    ]
    if kind == "default":
        return GgufRope(tuple(keys))
    if kind == "llama3" and architecture == "llama":  # other architectures do not load the tensor
        return GgufRope(tuple(keys), _llama3_divisors(block, head_dim))
    if kind not in ("linear", "yarn"):
        raise BadSpec(
            f"llama.cpp has no {kind} interpolation for {architecture}",
            where="--rope",
            do="choose yarn, linear or ntk" + (", or llama3 on a Llama" if kind != "llama3" else ""),
        )
    keys.append(key(Keys.Rope.SCALING_TYPE, GGUFValueType.STRING, kind))
    keys.append(key(Keys.Rope.SCALING_FACTOR, GGUFValueType.FLOAT32, float(block["factor"])))
    if kind == "yarn":
        native = int(block["original_max_position_embeddings"])
        keys.append(key(Keys.Rope.SCALING_ORIG_CTX_LEN, GGUFValueType.UINT32, native))
        for name, fixed in (("attention_factor", None), ("mscale", None), ("mscale_all_dim", None), ("truncate", True)):
            if block.get(name, fixed) != fixed:
                raise BadSpec(f"llama.cpp's YaRN takes no {name}", where="rope_parameters", do="export the hf format")
        fast, slow = block.get("beta_fast") or BETA_FAST, block.get("beta_slow") or BETA_SLOW
        if (fast, slow) != (BETA_FAST, BETA_SLOW):
            keys.append(key(Keys.Rope.SCALING_YARN_BETA_FAST, GGUFValueType.FLOAT32, float(fast)))
            keys.append(key(Keys.Rope.SCALING_YARN_BETA_SLOW, GGUFValueType.FLOAT32, float(slow)))
    return GgufRope(tuple(keys))


def per_pair_rope(divisors: np.ndarray, theta: float, architecture: str, context: int) -> GgufRope:
    """The keys under which llama.cpp divides each pair's frequency theta^(-2i/r) by its own number.

    Args:
        divisors: float32, > 0, (head_dim / 2,).
    Raises:
        BadSpec: an architecture that does not load them.
    """
    if architecture != "llama":  # others do not load the tensor
        raise BadSpec(
            f"llama.cpp reads no frequency per pair (rope_freqs.weight) for {architecture}",
            where="tied pairs",
            do="choose --format hf, or export without --tie",
        )
    plain = gguf_rope({"rope_theta": theta}, architecture, 2 * len(divisors), context)
    return GgufRope(plain.entries, divisors)


def _llama3_divisors(block: dict[str, Any], head_dim: int) -> np.ndarray:
    """inv_freq / scaled inv_freq of llama3, float32, (head_dim / 2,)."""
    inv_freq = block["rope_theta"] ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = block["original_max_position_embeddings"] * inv_freq / (2 * math.pi)  # per native window
    low, high, factor = block["low_freq_factor"], block["high_freq_factor"], block["factor"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 1: kept, 0: divided by the factor
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
