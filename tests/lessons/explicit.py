"""The captured head by numpy alone: rotation matrices written out, rounding and errors by their formulas, float64."""

import numpy as np
from safetensors.numpy import load_file
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from qroar_core.bundled import ASSETS

HEAD_DIM, PAIRS, TOKENS = 64, 32, 1024


def own_omega():
    """Frequencies and attention factor of YaRN x4 on the demo model's RoPE, by transformers' own module."""
    block = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 256}
    config = LlamaConfig(hidden_size=64, num_attention_heads=1, max_position_embeddings=256, rope_parameters=block)
    rotary = LlamaRotaryEmbedding(config)
    return rotary.inv_freq.double().numpy(), rotary.attention_scaling


OMEGA, FACTOR = own_omega()


def tied(first, last, turn):
    """Frequencies with these pairs at one: turn times the geometric mean."""
    omega = OMEGA.copy()
    omega[first : last + 1] = turn * np.prod(OMEGA[first : last + 1]) ** (1 / (last - first + 1))
    return omega


def head():
    """q (rows, 64) of both query heads, their positions, k (tokens, 64); before RoPE."""
    found = load_file(ASSETS / "learn" / "demo_head.safetensors")
    q = found["q"].astype(np.float64)
    return q.reshape(-1, HEAD_DIM), np.tile(found["rows"], len(q)), found["k"].astype(np.float64)


def rotation(position, omega):
    """R of one position (64, 64), or of several (n, 64, 64): i and i + 32 are a pair; attention factor included."""
    r = np.zeros((*np.shape(position), HEAD_DIM, HEAD_DIM))
    for i, w in enumerate(omega):
        c, s, j = np.cos(w * position), np.sin(w * position), i + PAIRS
        r[..., i, i], r[..., i, j], r[..., j, i], r[..., j, j] = c, -s, s, c
    return FACTOR * r


def rotated(x, positions, omega):
    """Each row of x turned by its own matrix."""
    return np.matmul(rotation(np.asarray(positions), omega), x[:, :, None])[..., 0]


def int4(k):
    """Codes -7..7, a step for each token."""
    step = np.abs(k).max(1, keepdims=True) / 7
    return step * np.round(k / step)


def logits(q, rows, k):
    """Row by row over the keys it sees, its mean taken off; all rows one after the other."""
    out = []
    for row, position in zip(q, rows, strict=True):
        scores = k[: position + 1] @ row / np.sqrt(HEAD_DIM)
        out.append(scores - scores.mean())
    return np.concatenate(out)


def share(moved, exact):
    return np.sqrt(((moved - exact) ** 2).mean() / (exact**2).mean())
