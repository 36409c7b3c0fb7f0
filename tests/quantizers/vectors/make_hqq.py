"""Writes hqq.npz: keys through HQQ's own quantizer on a CPU, as transformers' cache calls it with axis 1.

pip download --no-deps hqq==0.2.8.post1 && tar xzf hqq-0.2.8.post1.tar.gz -C /tmp
PYTHONPATH=/tmp/hqq-0.2.8.post1:. python -m tests.quantizers.vectors.make_hqq
"""

import sys
from types import ModuleType

import numpy as np
import torch

from tests.quantizers.vectors.drawn import HERE, keys

sys.modules["termcolor"] = ModuleType("termcolor")  # colours of its messages
sys.modules["termcolor"].colored = lambda text, *colours: text
from hqq.core.quantize import Quantizer  # noqa: E402

kept = {"version": np.array("0.2.8.post1")}
x = keys()[None]
for bits in (2, 3, 4, 8):
    codes, meta = Quantizer.quantize(
        x, axis=1, device="cpu", compute_dtype=torch.float32, nbits=bits, group_size=64, bitpack=bits != 3
    )
    meta["compute_dtype"] = torch.float32
    kept[f"hqq{bits}"] = Quantizer.dequantize(codes, meta)[0].numpy()
np.savez_compressed(HERE / "hqq.npz", **kept)
