"""Writes compressed_tensors.npz: keys through its MXFP4, on a CPU.

python -m tests.quantizers.vectors.make_compressed_tensors

Its rounding is written for Triton; it reads as PyTorch once `tl` is.
"""

from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from compressed_tensors.quantization.utils import fp4_utils
from compressed_tensors.quantization.utils.mxfp_utils import generate_mx_scales

from tests.quantizers.vectors.drawn import HERE, keys


def where(condition: torch.Tensor, yes: object, no: object) -> torch.Tensor:
    return torch.where(condition, torch.as_tensor(yes), torch.as_tensor(no))


fp4_utils.tl = SimpleNamespace(where=where, abs=torch.abs)
blocks = keys().reshape(-1, 32)
step = 2.0 ** (generate_mx_scales(blocks.abs().amax(-1, keepdim=True)).float() - 127)
rounded = fp4_utils._round_to_fp4(torch.nan_to_num(blocks / step).clamp(-6, 6)) * step
np.savez_compressed(
    HERE / "compressed_tensors.npz",
    version=np.array(version("compressed_tensors")),
    mxfp4=rounded.reshape(keys().shape).numpy(),
)
