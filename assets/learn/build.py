"""Rebuild demo_head.safetensors: q and k of one attention head of the demo model, for two steps of Learn.

    python assets/learn/build.py

The first window of 1,024 tokens of the calibration text under YaRN x4, the dashboard's default for the demo model. K of
one KV head at every position, and q of both query heads that read it at every 32nd; both before RoPE, as float16. The
head is the one whose largest channel lies in one pair most often: pair 18 in three of four tokens.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # run from a checkout

from qroar_core.maths.rope import unrotate  # noqa: E402
from qroar_core.models import load  # noqa: E402
from qroar_core.models.capture import capture  # noqa: E402
from qroar_core.models.loaded import LoadedModel  # noqa: E402
from qroar_core.models.text import split, windows  # noqa: E402
from qroar_core.setting import DEMO_ROPE  # noqa: E402

LAYER, KV_HEAD = 1, 0
TOKENS, EVERY = 1024, 32


def head_of(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """q (query heads, rows, head_dim) and k (tokens, head_dim) before RoPE, float16; rows, the positions of q."""
    ids = windows(loaded.tokenizer, split("calibration"), TOKENS, 1).ids
    found = capture(loaded, DEMO_ROPE, ids, TOKENS)
    layer = found.windows[0][LAYER]
    rows = torch.arange(2 * EVERY - 1, TOKENS, EVERY)  # the first position a capture keeps is 32
    at = torch.searchsorted(layer.rows, rows)
    readers = loaded.geometry.n_heads // loaded.geometry.n_kv_heads
    q = layer.q[KV_HEAD * readers : (KV_HEAD + 1) * readers, at]
    pairing = loaded.geometry.pairing
    return {
        "q": unrotate(q, found.cos[rows], found.sin[rows], pairing).half().contiguous(),
        "k": unrotate(layer.k[KV_HEAD], found.cos, found.sin, pairing).half().contiguous(),
        "rows": rows,
    }


if __name__ == "__main__":
    save_file(head_of(load.run("demo", device="cpu")), HERE / "demo_head.safetensors")
