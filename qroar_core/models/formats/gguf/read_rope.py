"""The RoPE scaling that a GGUF file carries, as a `rope_parameters` block of transformers.

llama.cpp computes theta_i = position * base^(-2i/r) / divisor_i * scale, with the scale 1 / factor. A factor without a
type is linear, and so is the old key `rope.scale_linear`. Divisors come from `rope_freqs.weight` (llama3) or from the
two tensors of LongRoPE, one for windows up to the original context and one past it. What transformers has no name for
is given to it as LongRoPE with equal lists, which divides each pair by its own number whatever the length.
Source: ggml-org/llama.cpp src/llama-model.cpp (load_hparams, get_rope_factors), src/llama-context.cpp (YaRN's factor),
ggml/src/ggml-cpu/ops.cpp (rope_yarn), convert_hf_to_gguf.py (LlamaModel.generate_extra_tensors).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.reading import TensorPart, assembled

FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
KINDS = ("none", "linear", "yarn", "longrope")
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # of every released model
LLAMA3_CONTEXTS = (8192, 4096, 2048)  # native windows tried where no pair lies between the two factors
CLOSE = 1e-6  # relative: the divisors are float32


def rope_parameters(meta: Metadata, files: GgufFiles, rotary_dim: int, *, mla: bool = False) -> dict[str, Any]:
    """The block, and every RoPE key asked for.

    Args:
        rotary_dim: channels of a head that turn.
        mla: DeepSeek's attention, whose YaRN also scales the logits by `yarn_log_multiplier`.
    Raises:
        BadCheckpoint: divisors of a wrong number, or not positive.
        UnsupportedModel: a combination that llama.cpp does not have.
    """
    context = meta.size("context_length")
    base = meta.real("rope.freq_base", 10_000.0)
    if not base > 1:
        raise meta.wrong("rope.freq_base", base)
    kind = meta.word("rope.scaling.type", "linear")
    old = meta.real("rope.scale_linear", 0.0)
    factor = meta.real("rope.scaling.factor", old) or 1.0  # llama.cpp takes 0 as 1
    original = meta.size("rope.scaling.original_context_length", context, least=0) or context
    attention = meta.real("rope.scaling.attn_factor", 1.0)
    betas = meta.real("rope.scaling.yarn_beta_fast", 32.0), meta.real("rope.scaling.yarn_beta_slow", 1.0)
    meta.only("rope.scaling.yarn_ext_factor", 1.0 if kind == "yarn" else 0.0)
    meta.only("rope.scaling.yarn_attn_factor", 1.0)
    meta.flag("rope.scaling.finetuned", False)  # what was done in training; Granite asks it again
    log_multiplier = meta.real("rope.scaling.yarn_log_multiplier", 0.0) if mla else 0.0
    if kind not in KINDS:
        raise meta.wrong("rope.scaling.type", kind)
    if kind == "none":
        factor = 1.0
    if log_multiplier and kind != "yarn" and factor != 1:
        raise UnsupportedModel(f"{meta.full('rope.scaling.yarn_log_multiplier')} without YaRN", where=meta.where)
    lists = [_divisors(files, name, rotary_dim) for name in (FREQS, LONG, SHORT)]
    block: dict[str, Any] = {"rope_type": "default", "rope_theta": base}
    if kind == "yarn":
        if any(one is not None for one in lists):
            raise UnsupportedModel("YaRN together with divisors per pair", where=meta.where)
        return block | _yarn(meta, factor, original, attention, betas, log_multiplier, mla)
    freqs, long, short = lists
    if (long is None) != (short is None):
        raise BadCheckpoint(f"only one of {LONG} and {SHORT} is there", where=meta.where, do="fetch it again")
    if long is not None and short is not None:
        if freqs is not None:
            raise UnsupportedModel(f"{FREQS} beside {LONG}", where=meta.where)
        return block | _per_pair(short * factor, long * factor, attention, original, context / original)
    if kind == "longrope":
        raise BadCheckpoint(f"{LONG} and {SHORT} are missing", where=meta.where, do="fetch it again")
    if freqs is None and attention == 1:
        return block | ({"rope_type": "linear", "factor": factor} if factor != 1 else {})
    divisors = np.ones(rotary_dim // 2) if freqs is None else freqs
    llama3 = llama3_parameters(divisors, base, context, original) if factor == 1 and attention == 1 else None
    return block | (llama3 or _per_pair(divisors * factor, divisors * factor, attention, context, 1.0))


def _divisors(files: GgufFiles, name: str, rotary_dim: int) -> np.ndarray | None:
    source = files.tensors.get(name)
    if source is None:
        return None
    if source.shape != (rotary_dim // 2,):
        raise BadCheckpoint(
            f"{name} has shape {list(source.shape)}, its sizes say {[rotary_dim // 2]}", where=str(source.path)
        )
    values = assembled(source.shape, [TensorPart(source)]).values().double().numpy()
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise BadCheckpoint(f"{name} holds numbers that are not positive", where=str(source.path), do="fetch it again")
    return values


def _per_pair(short: np.ndarray, long: np.ndarray, attention: float, original: int, factor: float) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "short_factor": [float(str(np.float32(x))) for x in short],
        "long_factor": [float(str(np.float32(x))) for x in long],
        "attention_factor": attention,
        "original_max_position_embeddings": original,
        "factor": factor,
    }


def _yarn(
    meta: Metadata,
    factor: float,
    original: int,
    attention: float,
    betas: tuple[float, float],
    log_multiplier: float,
    mla: bool,
) -> dict[str, Any]:
    if factor < 1:
        raise meta.wrong("rope.scaling.factor", factor)
    block: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "beta_fast": betas[0],
        "beta_slow": betas[1],
    }
    if mla:
        if not log_multiplier or attention != 1:
            raise UnsupportedModel(
                f"YaRN without {meta.full('rope.scaling.yarn_log_multiplier')}",
                where=meta.where,
                do="convert the model again with a recent llama.cpp",
            )
        mscale = float(str(np.float32(log_multiplier / 0.1)))  # the converter writes 0.1 * mscale_all_dim
        return block | {"mscale": mscale, "mscale_all_dim": mscale}
    if attention != 1:
        block["attention_factor"] = attention * (0.1 * math.log(factor) + 1)
    return block


def llama3_parameters(divisors: np.ndarray, base: float, context: int, original: int) -> dict[str, Any] | None:
    """The llama3 parameters that give these divisors, None where none do."""
    if (np.abs(divisors - 1) <= CLOSE).all():
        return {}
    factor = float(round(divisors.max(), 6))
    pairs = len(divisors)
    wavelength = 2 * math.pi * base ** (np.arange(pairs) / pairs)
    low, high = LLAMA3.values()
    between = (divisors > 1 + 1e-4) & (divisors < factor - 1e-4)
    smooth = (1 / divisors - 1 / factor) / (1 - 1 / factor)
    solved = [round(float(x)) for x in (wavelength * (smooth * (high - low) + low))[between]]
    for window in (*dict.fromkeys(solved), *LLAMA3_CONTEXTS, original, round(context / factor)):
        if window < 1:
            continue
        share = np.clip((window / wavelength - low) / (high - low), 0.0, 1.0)
        if np.allclose(1 / ((1 - share) / factor + share), divisors, rtol=CLOSE, atol=0):
            return {"rope_type": "llama3", "factor": factor, "original_max_position_embeddings": window} | LLAMA3
    return None
