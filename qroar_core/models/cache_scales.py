"""Scales of an fp8 K/V cache that a checkpoint brings: a k_scale and a v_scale a layer, as vLLM reads them.

`kv_cache_scheme` of compressed-tensors asks for them: 8-bit floats, symmetric, one scale a tensor. They lie under the
attention layer, `model.layers.0.self_attn.k_scale`, as float32 of shape (1,). What is rounded is x / scale.
Source: vllm-project/vllm 0.32.0 model_executor/layers/quantization/compressed_tensors/compressed_tensors.py
CompressedTensorsKVCacheMethod, quantization/base_config.py get_cache_scale_mapper.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.condition import StaticRange
from qroar_core.models.formats.declared import fp8_cache, quantization_of
from qroar_core.models.formats.folder_tensors import headers, read_tensor
from qroar_core.models.loaded import LoadedModel

LARGEST = 448.0  # of e4m3


def names_of(loaded: LoadedModel) -> list[tuple[str, str]]:
    """Names of K's and V's scale in the files, of every attention layer.

    Raises:
        UnsupportedModel: a cache that holds a latent, not K and V of its heads.
    """
    if loaded.geometry.latent_dim:
        raise UnsupportedModel(
            f"{loaded.geometry.family} caches a latent, not K and V of its heads",
            where="scales of the K/V cache",
            do="leave them out",
        )
    stems = [key.weight.rsplit(".", 2)[0] for _, key in loaded.slots()]
    return [(f"{stem}.k_scale", f"{stem}.v_scale") for stem in stems]


def read(folder: Path, config: Mapping[str, Any], loaded: LoadedModel) -> StaticRange | None:
    """The ranges that a folder's scales stand for, in float64 so that a scale comes back to its last bit.

    None where it asks for no such cache, or holds no scale.

    Raises:
        BadCheckpoint: scales of some layers alone, or one that is no positive number.
    """
    if not fp8_cache(quantization_of(folder, dict(config))):
        return None
    if loaded.geometry.latent_dim:
        return None
    placed = headers(folder)
    names = [name for both in names_of(loaded) for name in both]
    missing = [name for name in names if name not in placed]
    if len(missing) == len(names):
        return None
    if missing:
        raise BadCheckpoint(f"it has no {missing[0]}", where=str(folder), do="fetch it again")
    found = []
    for name in names:
        tensor = read_tensor(placed[name].path, name).double()
        value = float(tensor.item()) if tensor.numel() == 1 else math.nan
        if not 0 < value < math.inf:
            what = f"{name} is {value:g}" if tensor.numel() == 1 else f"{name} has {tensor.numel()} numbers"
            raise BadCheckpoint(f"{what}, where one positive number belongs", where=str(folder), do="fetch it again")
        found.append(value * LARGEST)
    ranges = torch.tensor(found, dtype=torch.float64).view(-1, 2)
    return StaticRange(k=ranges[:, 0].clone(), v=ranges[:, 1].clone())


def checksum_with(checksum: str, ranges: StaticRange) -> str:
    """16 hex digits: what is measured depends on the scales, too."""
    digest = hashlib.sha256(checksum.encode())
    for table in (ranges.k, ranges.v):
        if table is not None:
            digest.update(table.numpy().tobytes())
    return digest.hexdigest()[:16]
