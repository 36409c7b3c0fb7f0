"""Scales put into a copy of a folder that is quantized already: its scale tensors edited, its codes untouched.

GPTQ, AWQ, compressed-tensors and bitsandbytes without double quantization keep a scale per output row, or per
row and group of inputs; a row times g is those scales times g. With a QK-norm the scale goes into the norm's gain,
and where attention itself is not quantized (gpt-oss: MXFP4 experts alone) into its rows, as in any checkpoint. Each
number is rounded once to the type it is stored in, and refused where that moves it by more than half a step. The
files keep their sizes; config.json takes the interpolation, and the model card says so.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadCheckpoint, BadScales, BadSpec, UnsupportedModel
from qroar_core.exporters.folder import NOTE, new_folder, note_of, origin_of, write_about
from qroar_core.exporters.forward_pass import require_finite_pass
from qroar_core.exporters.older_readers import older_tokenizer_config, with_older_names, without_rope_beside
from qroar_core.exporters.written_rope import WrittenRope, written_gains, written_rope
from qroar_core.models.checkpoint_files import check_files, has
from qroar_core.models.config_rope import WINDOW, restated
from qroar_core.models.families import QKSlot
from qroar_core.models.formats.declared import quantization_of
from qroar_core.models.formats.folder_tensors import OF_WEIGHTS, headers, read_tensor, weight_files
from qroar_core.models.formats.packing import Packing
from qroar_core.models.formats.quantized_folder import layer_shape, layers, packing_of
from qroar_core.models.generation import FILE as GENERATION
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import check_scales
from qroar_core.models.tokenizer import CONFIG as TOKENIZER_CONFIG
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales, require_scales_alone

ELSEWHERE = "scale the full-precision checkpoint and quantize it again"
HALF_STEP = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}


def run(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    folder: Path | str,
    *,
    format: str = "quantized",
    command: str = "",
    on_step: OnStep = no_progress,
) -> Path:
    """Write `folder`, a copy of the quantized folder `loaded` was read from, with `scales` inside.

    Raises:
        BadSpec: the model was not read from a quantized folder, or an interpolation the config cannot say.
        UnsupportedModel: a layout whose rows are not one projection's own, or a format not known here.
        BadScales: scales that do not fit, or that the stored type cannot follow.
        BadOutput: the folder exists, or cannot be written.
        NonFinite: the model's own numbers overflow.
    """
    source, folder = loaded.template, Path(folder).expanduser()  # of a hub id: the snapshot that was read
    if source is None or not quantization_of(source):
        raise BadSpec(
            f"{loaded.source} is no folder with quantized weights", where="format quantized", do="choose hf or gguf-f16"
        )
    said = written_rope(loaded, rope)
    on_step(Step("export", 0, 3, "scale"))
    new = _edits(loaded, source, packing_of(source), scales, said.factor)
    check_files(source)
    weights = weight_files(source)  # another copy of them, as consolidated.safetensors, would stay unscaled
    files = [path for path in sorted(source.iterdir()) if path.is_file() and path.name != NOTE]
    files = [path for path in files if path in weights or not any(path.match(like) for like in OF_WEIGHTS)]
    with new_folder(folder, sum(path.stat().st_size for path in files)) as scratch:
        require_finite_pass(loaded, rope, scales)
        for path in files:
            on_step(Step("export", 1, 3, path.name))
            shutil.copyfile(path, scratch / path.name)
        if (older := older_tokenizer_config(scratch)) is not None:
            (scratch / TOKENIZER_CONFIG).write_text(older, encoding="utf-8")
        for path in weight_files(scratch):
            _write(path, {name: value for name, value in new.items() if name in _header(path)[0]})
        _write_config(loaded, said, scratch / "config.json")
        on_step(Step("export", 2, 3, "hash"))
        origin = origin_of(loaded, rope) | {"source": str(source.resolve())}
        note = note_of(origin, rope, scales, format=format, command=command, changed=sorted(new), factor=said.factor)
        write_about(scratch, note, source)
    on_step(Step("export", 3, 3, "done"))
    return folder


def write_config(
    loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, note: Mapping[str, Any], folder: Path
) -> None:
    """The settings of the copy that `run` wrote, for `verify`; `loaded` is of the folder that was copied."""
    if loaded.template is None:
        raise BadCheckpoint("it was not read from a folder", where=loaded.name)
    for name in ("config.json", GENERATION):
        if has(loaded.template, name):
            shutil.copyfile(loaded.template / name, folder / name)
    _write_config(loaded, written_rope(loaded, rope), folder / "config.json")


def _edits(
    loaded: LoadedModel, source: Path, packing: Packing, scales: Scales | None, factor: float
) -> dict[str, Tensor]:
    """Name -> new value of every tensor to change."""
    geo = loaded.geometry
    if scales is not None:
        check_scales(loaded, scales)
        require_scales_alone(scales)
    gains = written_gains(geo, scales, factor)
    if gains is None:
        return {}
    placed = headers(source)
    found, places = layers(placed, packing, source), {name: at.path for name, at in placed.items()}
    new: dict[str, Tensor] = {}
    for layer, slots in enumerate(loaded.slots()):
        if layer in geo.without_rope:
            continue
        for slot, gain in zip(slots, gains, strict=True):
            if slot.norm_gain is not None:
                _scale_gain(new, places, slot, gain[layer])
                continue
            stem = slot.weight.removesuffix(".weight")
            if stem in found:
                if packing.fixed:
                    raise UnsupportedModel(f"{packing.label}: {packing.fixed}", where=str(source), do=ELSEWHERE)
                shape = layer_shape(source, packing, stem, found[stem])
                name, axis, flat = f"{stem}.{packing.scales}", packing.out_axis, _blocks_a_row(packing, shape, stem)
            else:
                name, axis, flat = slot.weight, 0, 0
            _scale(new, places, name, axis, slot.rows, slot.gain_of_rows(gain[layer]), flat)
            if slot.bias is not None:
                _scale(new, places, slot.bias, 0, slot.rows, slot.gain_of_rows(gain[layer]))
    return new


def _blocks_a_row(packing: Packing, shape: tuple[int, ...], stem: str) -> int:
    """Scales of one row of a weight (out, in) where they lie flat, else 0; refuses blocks that run across rows."""
    if packing.flat and shape[1] % packing.flat:
        raise UnsupportedModel(
            f"blocks of {packing.flat} values run across rows of {shape[1]}", where=stem, do=ELSEWHERE
        )
    return shape[1] // packing.flat if packing.flat else 0


def _scale(
    new: dict[str, Tensor], places: dict[str, Path], name: str, axis: int, rows: Tensor, gain: Tensor, flat: int = 0
) -> None:
    """Multiply one tensor's rows along `axis`, in float64, rounded once. `flat`: numbers of a row, laid out flat."""
    value = _stored(new, places, name)
    shape = value.shape
    if flat:
        value = value.view(-1, flat)  # (out, blocks of a row), as `layer_shape` has found them
    if value.dtype not in HALF_STEP or value.ndim <= axis or value.shape[axis] <= int(rows.max()):
        raise BadCheckpoint(f"{name} is {value.dtype} {tuple(value.shape)}, no scale a row", where=str(places[name]))
    wide = value.double().transpose(0, axis).clone()  # outputs first
    wide[rows] *= gain.view(-1, *[1] * (wide.ndim - 1))
    factors = torch.ones(len(wide), dtype=torch.float64)
    factors[rows] = gain
    stored = _rounded(name, wide, value.dtype, factors)
    new[name] = stored.transpose(0, axis).contiguous().view(shape)


def _scale_gain(new: dict[str, Tensor], places: dict[str, Path], slot: QKSlot, per_head: Tensor) -> None:
    """Multiply the gain of a QK-norm, which no format quantizes, by the gains of its channels (heads, head_dim)."""
    name = str(slot.norm_gain)
    value = _stored(new, places, name)
    factors = per_head[0] if value.numel() == per_head.shape[1] else per_head.flatten()  # one for all heads, or each
    if value.dtype not in HALF_STEP or value.numel() != factors.numel():
        raise BadCheckpoint(
            f"{name} is {value.dtype} {tuple(value.shape)}, no gain of {per_head.shape[1]} channels a head",
            where=str(places[name]),
        )
    wide = (value.double().flatten() + slot.gain_offset) * factors - slot.gain_offset
    new[name] = _rounded(name, wide, value.dtype, factors, slot.gain_offset).view(value.shape)


def _stored(new: dict[str, Tensor], places: dict[str, Path], name: str) -> Tensor:
    """A tensor as it is now: edited before, or the file's."""
    if name not in places:
        raise BadCheckpoint(f"{name} is missing", where=str(next(iter(places.values())).parent), do="fetch it again")
    return new.get(name, read_tensor(places[name], name))


def _rounded(name: str, wide: Tensor, dtype: torch.dtype, factors: Tensor, offset: float = 0.0) -> Tensor:
    """`wide` (outputs first, float64) in its stored type, at most half a step off.

    Args:
        factors: what each output was multiplied by.
        offset: what the model adds to the stored number; a step is that of the larger of the two.
    """
    stored = wide.to(dtype)
    lost, size = (stored.double() - wide).abs(), torch.maximum(wide.abs(), (wide + offset).abs())
    lost, size = (x.flatten(1).amax(1) if x.ndim > 1 else x for x in (lost, size))
    bad = ~(lost <= HALF_STEP[dtype] * size * (1 + 1e-9))
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise BadScales(
            f"row {row} times {float(factors[row]):.6g} cannot be held in {str(dtype).removeprefix('torch.')}",
            where=name,
            do="search within narrower bounds, or scale the full-precision model",
        )
    return stored


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Entries of a safetensors file that safetensors itself has accepted, and where its data begins."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length


def _write(path: Path, new: dict[str, Tensor]) -> None:
    """Put tensors of the same shape and type in place."""
    if not new:
        return
    entries, start = _header(path)
    with path.open("r+b") as file:
        for name, value in new.items():
            begin, end = entries[name]["data_offsets"]
            content = value.flatten().view(torch.uint8).numpy().tobytes()
            if len(content) != end - begin:
                raise BadCheckpoint(f"{name} would change its size", where=str(path))
            file.seek(start + begin)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_config(loaded: LoadedModel, rope: WrittenRope, path: Path) -> None:
    """The interpolation into config.json; one that is kept is written anew where transformers does not read it as said.

    Gemma 3's `type` would be no interpolation to transformers, and Phi-3's `su` an unknown one.
    """
    raw = json.loads(path.read_text())
    if not rope.changed and restated(raw) is raw:
        return
    config = loaded.model.config
    new = without_rope_beside(raw, config) | {"rope_parameters": rope.parameters}
    if rope.changed:
        new["max_position_embeddings"] = rope.context
    if hasattr(type(config), WINDOW):  # Phi-3's, which believes it
        new[WINDOW] = rope.native if rope.changed else getattr(config, WINDOW)
    if getattr(type(config), "head_dim", 0) is None:  # null is its default, and YaRN cannot do without it
        new["head_dim"] = loaded.geometry.head_dim
    path.write_text(json.dumps(with_older_names(new, raw, config.attribute_map), indent=2) + "\n")
