"""What one format of quantized linear layers is made of, and the arithmetic that all formats share.

A layer's weight is codes less a zero point, times a scale, where a rectangle of (outputs, inputs) shares the scale:
a row and group of inputs, a whole row, a block, or the whole tensor. Where scales belong to single rows, a row
times g is that row's scales times g, codes untouched; a format whose scales are not says so in `fixed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import UnsupportedModel

INT32_BITS = 32
REAL = (torch.float32, torch.float16, torch.bfloat16)
KNOWN = "give the full-precision checkpoint, a .gguf file, or compressed-tensors, GPTQ, AWQ, bitsandbytes or FP8"

Parts = Mapping[str, Tensor]  # of one layer, by suffix


@dataclass(frozen=True, slots=True)
class Packing:
    """One format, as one folder's config has it.

    Args:
        codes: suffix of the codes.
        scales: suffix that marks a quantized layer.
        out_axis: the outputs' axis of `scales`.
        shape: the weight's shape from its parts, which it holds against each other and against the config. They lie
            on the meta device, but for those in `early`. Raises ValueError where they do not belong together.
        dequantize: the weight as the model holds it, from parts that `shape` has accepted.
        required: suffixes that every layer has, codes and scales among them.
        optional: suffixes that a layer may have.
        unused: suffixes that do not belong to the weight: scales of activations, which nothing here applies.
        early: small parts that `shape` reads.
        flat: values of a block, where the scales lie flat, row by row; 0: they have an axis of outputs.
        fixed: why its rows cannot be scaled, where they cannot.
        joint: what stands between a layer's name and a suffix.
        weight: what the weight is called, after the layer's name.
        activations: the format's kernels quantize activations too.
    """

    label: str
    codes: str
    scales: str
    out_axis: int
    shape: Callable[[Parts], tuple[int, ...]]
    dequantize: Callable[[Parts], Tensor]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    flat: int = 0
    fixed: str = ""
    joint: str = "."
    weight: str = ".weight"
    activations: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Every suffix that belongs to a layer."""
        return self.required + self.optional + self.unused


def unknown(what: str, where: str) -> UnsupportedModel:
    """The refusal of a format, or of settings of it, that is not read here."""
    return UnsupportedModel(f"{what} is not known here"[:200], where=where, do=KNOWN)


def require_known(block: Mapping[str, Any], known: Iterable[str], where: str, label: str) -> None:
    """Refuse a key of a quantization config that nothing here understands, unless it is empty or off."""
    for key in sorted(set(block) - set(known), key=str):
        if block[key] not in (None, False, "", [], {}):
            raise unknown(f"{label} with {str(key)[:40]} = {str(block[key])[:60]}", where)


def whole(block: Mapping[str, Any], key: str, where: str, label: str) -> int:
    """A whole number of a config; refuses any other kind of value, and a missing one."""
    value = block.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnsupportedModel(
            f"its {label} settings say {key} = {str(value)[:40]}, not a whole number", where=where, do="fetch it again"
        )
    return value


def yes_or_no(block: Mapping[str, Any], key: str, where: str, label: str) -> bool | None:
    """True or False of a config, None where it says nothing."""
    value = block.get(key)
    if value is not None and not isinstance(value, bool):
        raise UnsupportedModel(
            f"its {label} settings say {key} = {str(value)[:40]}, not true or false", where=where, do="fetch it again"
        )
    return value


def require_part(parts: Parts, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    """Raises ValueError where a part has another shape or type than the layer and its config ask for."""
    found = parts[name]
    if tuple(found.shape) != shape or found.dtype not in dtypes:
        wanted = "/".join(str(d).removeprefix("torch.") for d in dtypes)
        kind = str(found.dtype).removeprefix("torch.")
        raise ValueError(f"{name} is {kind} {list(found.shape)}, where {wanted} {list(shape)} belongs")


def require_matrix(parts: Parts, name: str, dtypes: tuple[torch.dtype, ...]) -> tuple[int, int]:
    """The shape of a part that has two axes, neither empty. Raises ValueError for anything else."""
    found = parts[name]
    if found.ndim != 2 or min(found.shape) < 1 or found.dtype not in dtypes:
        wanted = "/".join(str(d).removeprefix("torch.") for d in dtypes)
        kind = str(found.dtype).removeprefix("torch.")
        raise ValueError(f"{name} is {kind} {list(found.shape)}, where a matrix of {wanted} belongs")
    return int(found.shape[0]), int(found.shape[1])


def groups_of(inputs: int, group_size: int) -> int:
    """Groups of inputs that one row has; the last may be short. A group size of -1 is the whole row."""
    return 1 if group_size == -1 else -(-inputs // group_size)


def unpacked(words: Tensor, bits: int) -> Tensor:
    """Codes of int32 words, lowest bits first, without a gap: (..., n) -> uint8 (..., n * 32 // bits).

    Where `bits` does not divide 32, codes run across words.
    """
    if words.dtype != torch.int32:
        raise ValueError(f"words of {words.dtype}, int32 is packed")
    if INT32_BITS % bits:
        places = torch.arange(INT32_BITS, dtype=torch.int32)
        stream = (words[..., None] >> places).bitwise_and_(1).to(torch.uint8).flatten(-2)  # (..., n * 32) single bits
        stream = stream[..., : stream.shape[-1] // bits * bits].unflatten(-1, (-1, bits))
        return (stream << torch.arange(bits, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
    shifts = torch.arange(0, INT32_BITS, bits, dtype=torch.int32)
    codes = (words[..., None] >> shifts).bitwise_and_((1 << bits) - 1)  # (..., n, codes of a word)
    return codes.to(torch.uint8).flatten(-2)


def dequantized(codes: Tensor, scale: Tensor, zero: Tensor | None, block: tuple[int, int]) -> Tensor:
    """float32 (out, in): (codes - zero) * scale, where a rectangle of `block` (outputs, inputs) shares both.

    Args:
        codes: (out, in).
        scale, zero: (ceil(out / block[0]), ceil(in / block[1])).
    """
    (out, inputs), (rows, columns) = codes.shape, block
    wide = codes.float()
    if out % rows or inputs % columns:  # the last block is short

        def over(grid: Tensor) -> Tensor:
            return grid.float().repeat_interleave(rows, 0)[:out].repeat_interleave(columns, 1)[:, :inputs]
    else:
        wide = wide.view(out // rows, rows, inputs // columns, columns)

        def over(grid: Tensor) -> Tensor:
            return grid.float()[:, None, :, None]

    if zero is not None:
        wide = wide.sub_(over(zero))
    return wide.mul_(over(scale)).view(out, inputs)


def require_scales(
    name: str, scale: Tensor, under: Callable[[Tensor], Tensor] | None = None, *, signed: bool = False
) -> None:
    """Raises ValueError for scales that no writer of a format makes: its other readers would compute with them.

    Args:
        name: what the file calls them.
        scale: as they are multiplied.
        under: the layer's codes less their zero points times what stands in the place of `scale`. A scale of 0 is
            refused where it wipes out codes; None: a writer may leave any codes under it.
        signed: a writer of this format (AutoRound, symmetric integers) also makes negative ones.
    """
    bad = ~scale.isfinite() if signed else ~(scale.isfinite() & (scale >= 0))
    if bool(bad.any()):
        count = f"{int(bad.sum())} of {bad.numel()} scales, first " if bad.numel() > 1 else ""
        raise ValueError(f"{name} holds {count}{float(scale[bad][0]):g}, where a positive, finite number belongs")
    still = scale == 0
    if under is not None and bool(still.any()) and bool(under(still.float()).ne(0).any()):
        raise ValueError(f"{name} is 0 over codes that are not: where a positive, finite number belongs")


def by_index(codes: Tensor, scale: Tensor, zero: Tensor, group: Tensor) -> Tensor:
    """The same, where `group` (in,) names the group of every input: inputs in another order than the groups."""
    at = group.long()
    return codes.float().sub_(zero.float()[:, at]).mul_(scale.float()[:, at])


def require_groups_in_order(group: Tensor, group_size: int, ordered: bool) -> None:
    """Raises ValueError where the groups that inputs are assigned to are not of the size that the config says.

    Args:
        ordered: the config says that groups are runs of neighbouring inputs.
    """
    inputs = len(group)
    size = inputs if group_size == -1 else group_size
    plain = torch.arange(inputs) // size
    if ordered and not torch.equal(group.long(), plain):
        raise ValueError("g_idx puts inputs in another order than the config, which says desc_act false")
    counts = torch.bincount(plain)
    if int(group.min()) < 0 or int(group.max()) >= len(counts):
        raise ValueError(f"g_idx names groups {int(group.min())} to {int(group.max())}, there are {len(counts)}")
    found = torch.bincount(group.long(), minlength=len(counts))
    if not torch.equal(found.sort().values, counts.sort().values):
        raise ValueError(f"g_idx makes groups of {int(found.min())} to {int(found.max())} inputs, not of {size}")
