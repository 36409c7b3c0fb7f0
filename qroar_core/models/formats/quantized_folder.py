"""Folders of safetensors as tensors that lie in their files, quantized layers dequantized while they are read.

Nothing is converted or kept on disk: a layer's weight exists while the model takes it. Every tensor of the files is a
plain one, a part of a quantized layer, or a scale for activations or the cache, which the label says is not applied.
Anything else that looks like quantization is refused by name: a scale that the config is silent about is never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.declared import fp8_cache, quantization_of
from qroar_core.models.formats.folder_tensors import Placed, headers, read_tensor
from qroar_core.models.formats.packing import Packing
from qroar_core.models.formats.read_formats import packings_of
from qroar_core.models.formats.stored import StoredTensor

SAFETENSORS_FLOATS = ("F64", "F32", "F16", "BF16")  # what a tensor that is not quantized holds
CODES = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}
SIGNS = re.compile(  # of a quantized layer, in the names that formats give their parts
    r"(_scales?|_scale_inv|_scale_2|_scale_ub|global_scale|_zero_point|_packed|_g_idx|_blocks|absmax|quant_map"
    r"|[._]SCB|\.(scales|qweight|qzeros|qscales|g_idx|scb|weight_format|codebooks|codes|qdata|scale|zero|zeros|zp|wf))$"
    r"|quant_state|\.weight\.\w|\._(data|scale|shift)$|:(qdata|scale)$"
)
APPLIED = "its K/V cache scales are those of the preset fp8-calibrated"
CACHE = (".k_scale", ".v_scale", ".kv_scale")  # of an attention's cache, under itself or its k_proj and v_proj


def stored_tensors(folder: Path, config: dict[str, Any] | None = None) -> tuple[dict[str, StoredTensor], str]:
    """Every weight of a folder by its Hugging Face name, and what the quantized ones were ("" where none are).

    Args:
        config: config.json, where it has been read before.
    Raises:
        UnsupportedModel: a format not known here, or tensors of one that no file declares.
        BadCheckpoint: files that cannot be read or contradict the config.
    """
    placed, block = headers(folder), quantization_of(folder, config)
    packings = packings_of(block, str(folder)) if block is not None else []
    if not packings:
        why = "no file of the folder says how" if block is None else "its config says that none is quantized"
        whole = {name: at for name, at in placed.items() if block is None or not name.endswith(CACHE)}
        _require_plain(whole, folder, why)
        return {name: at.stored(name) for name, at in whole.items()}, ""
    packing = _written(placed, packings)
    found = layers(placed, packing, folder)
    inside = {_full(stem, suffix, packing) for stem, parts in found.items() for suffix in parts}
    cache = {name for name in placed if name.endswith(CACHE) and name not in inside}
    rest = {name: at for name, at in placed.items() if name not in inside | cache}
    _require_plain(rest, folder, f"it is no part of a {packing.label} layer")
    _require_no_other_part(rest, found, packing, folder)
    biases = {f"{stem}.bias" for stem in found}
    tensors = {name: replace(at.stored(name), bias=name in biases) for name, at in rest.items()}
    for stem, parts in found.items():
        name = f"{stem}{packing.weight}"
        if name in tensors:
            raise BadCheckpoint(f"{name} lies beside its own quantized parts", where=str(folder), do="fetch it again")
        shape = layer_shape(folder, packing, stem, parts)
        tensors[name] = StoredTensor(shape, partial(weight, folder, packing, stem, parts))
    return tensors, _label(packing, found, bool(cache), fp8_cache(block))


def unapplied(folder: Path, config: dict[str, Any] | None = None) -> str:
    """What a folder whose weights are in full precision asks for beside them, which is not done; often empty."""
    block = quantization_of(folder, config)
    if block is None or not any(name.endswith(CACHE) for name in headers(folder)):
        return ""
    return APPLIED if fp8_cache(block) else "its K/V cache scales are not applied"


def packing_of(folder: Path) -> Packing:
    """The format of a quantized folder's layers.

    Raises:
        UnsupportedModel: a format not known here.
        BadCheckpoint: files that cannot be read.
    """
    block = quantization_of(folder)
    if block is None:
        raise UnsupportedModel("no file of it says that it is quantized", where=str(folder), do="choose --format hf")
    packings = packings_of(block, str(folder))
    if not packings:
        raise UnsupportedModel("none of its weights is quantized", where=str(folder), do="choose --format hf")
    return _written(headers(folder), packings)


def _written(placed: dict[str, Placed], packings: list[Packing]) -> Packing:
    """The one of several packings whose names the tensors have."""
    return next((p for p in packings if any(name.endswith(f"{p.joint}{p.scales}") for name in placed)), packings[0])


def _label(packing: Packing, found: dict[str, dict[str, Placed]], cache: bool, known: bool) -> str:
    scales = any(suffix in packing.unused for parts in found.values() for suffix in parts)
    left = [*(["activation"] if scales else []), *(["K/V cache"] if cache and not known else [])]
    said = [f"its {' and '.join(left)} scales are not applied"] if left else []
    said += [APPLIED] if cache and known else []
    if packing.activations and not scales:
        said.append("its kernels quantize activations as they come, here they stay exact")
    return f"{packing.label} ({'; '.join(said)})" if said else packing.label


def layers(placed: dict[str, Placed], packing: Packing, folder: Path) -> dict[str, dict[str, Placed]]:
    """Stem of every quantized layer -> its parts by suffix.

    Raises:
        BadCheckpoint: a layer that lacks a part, or a folder without any.
    """
    marks = [packing.scales, *([packing.codes] if packing.codes != "weight" else [])]
    endings = tuple(f"{packing.joint}{suffix}" for suffix in marks)
    stems = {name.removesuffix(end): None for name in placed for end in endings if name.endswith(end)}
    found: dict[str, dict[str, Placed]] = {}
    for stem in stems:
        parts = {suffix: _full(stem, suffix, packing) for suffix in packing.parts}
        found[stem] = {suffix: placed[name] for suffix, name in parts.items() if name in placed}
        for suffix in packing.required:
            if suffix not in found[stem]:
                what = f"{stem} has no {suffix}, which {packing.label} needs"
                raise BadCheckpoint(what, where=str(folder), do="fetch it again")
    if not found:
        raise BadCheckpoint(f"it holds no {packing.label} layer", where=str(folder), do="fetch it again")
    return found


def _full(stem: str, suffix: str, packing: Packing) -> str:
    return f"{stem}{packing.joint}{suffix}"


def _require_no_other_part(rest: Iterable[str], found: dict[str, Any], packing: Packing, folder: Path) -> None:
    """Refuse a tensor of a quantized layer that its format does not know; a bias is kept beside any."""
    for name in sorted(rest):
        words = name.split(".")
        inside = {".".join(words[:end]) for end in range(1, len(words))} & set(found)
        if inside and name != f"{min(inside)}.bias":
            raise UnsupportedModel(
                f"{name[:100]} belongs to a quantized layer, and {packing.label} has no such part",
                where=str(folder),
                do="give the full-precision checkpoint",
            )


def _require_plain(placed: dict[str, Placed], folder: Path, why: str) -> None:
    """Refuse a tensor that belongs to a quantized layer of some format; `why` says what is wrong with it here."""
    for name, at in sorted(placed.items()):
        code = at.dtype in CODES
        odd = not (code or at.dtype in SAFETENSORS_FLOATS) or (code and name.endswith((".weight", "_proj")))
        if odd or at.dtype == "I8" or SIGNS.search(name):
            raise UnsupportedModel(
                f"{name[:100]} ({at.dtype}) belongs to quantized weights, and {why}",
                where=str(folder),
                do="give the full-precision checkpoint, or the folder with all its config files",
            )


def layer_shape(folder: Path, packing: Packing, stem: str, parts: dict[str, Placed]) -> tuple[int, ...]:
    """A layer's shape, from headers and the small parts that tell it."""
    with _refusing(folder, packing, stem):
        return packing.shape(
            {
                suffix: read_tensor(at.path, _full(stem, suffix, packing))
                if suffix in packing.early
                else torch.empty(at.shape, dtype=SAFETENSORS_DTYPES[at.dtype], device="meta")
                for suffix, at in parts.items()
            }
        )


def weight(folder: Path, packing: Packing, stem: str, parts: dict[str, Placed]) -> Tensor:
    """A layer's weight as the model holds it.

    Raises:
        BadCheckpoint: parts whose numbers do not belong together.
    """
    used = {suffix: at for suffix, at in parts.items() if suffix not in packing.unused}
    with _refusing(folder, packing, stem):
        return packing.dequantize({s: read_tensor(at.path, _full(stem, s, packing)) for s, at in used.items()})


@contextmanager
def _refusing(folder: Path, packing: Packing, stem: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        message = " ".join(str(error).split())[:200]
        raise BadCheckpoint(
            f"{stem} is no {packing.label} layer ({message})", where=str(folder), do="fetch it again"
        ) from error
