"""Scales and position interpolation put into a copy of a finished GGUF file, its codes untouched.

A scale on an output row multiplies that row's block scales, so nothing is quantized again: the copy has
the same codes, and every tensor but attn_q and attn_k byte for byte. Without an interpolation it has the
same size and header too. The copy streams; memory does not grow with the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
from gguf import GGMLQuantizationType

from qroar_core.disk_name import disk_name
from qroar_core.errors import BadScales
from qroar_core.exporters.folder import LONGEST_NAME, new_folder, note_of, write_about
from qroar_core.exporters.written_rope import (
    as_divisors,
    divisors,
    own_attention_factor,
    require_one_list,
    written_gains,
)
from qroar_core.interpolations.frequencies import Rope, rope_parameters
from qroar_core.models.formats.digest import sha256
from qroar_core.models.formats.gguf.blocks import require_scalable, scale_rows
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.header_entries import Entry, TensorInfo, header_bytes, padded
from qroar_core.models.formats.gguf.model import ROPE_FREQS, ROPE_TENSORS, GgufModel, understood
from qroar_core.models.formats.gguf.source import label_of
from qroar_core.models.formats.gguf.write_rope import GgufRope, gguf_rope, per_pair_rope
from qroar_core.models.geometry import Geometry
from qroar_core.models.own_rope import NONE, exported_context, words_of
from qroar_core.models.snapshots import snapshot_of
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec
from qroar_core.transforms.file import from_file, identity_of, rope_from
from qroar_core.transforms.result import ScalesFile
from qroar_core.transforms.scales import Scales, require_scales_alone

CHUNK = 1 << 20  # bytes of rows in memory at a time
COPY = 1 << 20  # bytes the kernel is asked to copy at a time


@dataclass(frozen=True, slots=True)
class _Described:
    """models.geometry.Described of a file."""

    name: str
    fingerprint: str
    geometry: Geometry


def run(
    source: Path | str,
    scales_file: Path | str | None,
    rope: RopeSpec | None,
    folder: Path | str,
    *,
    command: str = "",
    on_step: OnStep = no_progress,
) -> Path:
    """Write `folder` with the scaled copy, its card and qroar.json; returns the folder.

    Args:
        source: the GGUF file; never modified.
        scales_file: scales.json found on this very file; None writes the interpolation alone.
        rope: the interpolation; None takes the one the scales were found under.
        command: the line that repeats it, kept in qroar.json and the card.
    Raises:
        BadCheckpoint, UnsupportedModel: the file cannot be read, or its layout is not known.
        BadScales: scales of another model, or a row that float16 scales cannot follow.
        BadSpec: an interpolation llama.cpp does not have.
        BadOutput: the folder exists, or cannot be written.
    """
    source, folder = Path(source).expanduser(), Path(folder).expanduser()
    on_step(Step("export", 0, 4, "read the header"))
    model = understood(source, read_header(source))
    scales, rope, identity = _scales(model, scales_file, rope)
    turned, factor = _interpolation(model, rope)
    edited = _edited(model, scales, factor)
    with new_folder(folder, source.stat().st_size + COPY) as scratch:
        target = scratch / file_name(source)
        with source.open("rb") as old, target.open("xb") as new:
            on_step(Step("export", 1, 4, "copy"))
            begins = _copy(model, turned, old, new)
            on_step(Step("export", 2, 4, "scale attn_q and attn_k"))
            for info, gains in edited:
                _scale(model, info, gains, old, new, begins[info.name])
            new.flush()
            os.fsync(new.fileno())
        on_step(Step("export", 3, 4, "hash"))
        origin: dict[str, Any] = {"from": identity | {"file": str(model.path.resolve()), "sha256": sha256(model.path)}}
        own = words_of(model.own_rope, _context(model))
        origin |= {"own_rope": own, "replaces": own if rope.method != "default" and own != NONE else ""}
        changed = [info.name for info, _ in edited]
        note = note_of(origin, rope, scales, format="gguf", command=command, changed=changed, factor=factor)
        write_about(scratch, note, None)  # a README beside the source may be about anything
    on_step(Step("export", 4, 4, "done"))
    return folder


def file_name(source: Path) -> str:
    """What the copy is called: as the source, with `.gguf` where that has none (Ollama's) or a large one.

    One of the hub is called by its repository too: others hold files of the same name.
    """
    if snapshot := snapshot_of(source):
        return f"{disk_name(snapshot.label, LONGEST_NAME)}.gguf"
    bare = source.name[: -len(".gguf")] if source.suffix.lower() == ".gguf" else source.name
    return f"{bare}.gguf"


def _scales(
    model: GgufModel, path: Path | str | None, rope: RopeSpec | None
) -> tuple[Scales | None, RopeSpec, dict[str, Any]]:
    """The scales for this file, the interpolation, and who the file is."""
    possible = sorted(model.fingerprints())
    found = [_Described(label_of(model.path), fingerprint, model.geometry) for fingerprint in possible]
    if path is None:
        return None, rope or RopeSpec(), identity_of(found[0]).model_dump()
    wanted = _fingerprint_in(path)
    described = next((one for one in found if one.fingerprint == wanted), found[0])  # loaded as float32 or bfloat16
    scales, content = from_file(path, described)
    return scales, rope or rope_from(content.rope), identity_of(described).model_dump()


def _fingerprint_in(path: Path | str) -> str:
    return ScalesFile.from_file(Path(path), BadScales).model.fingerprint


def row_gains(model: GgufModel, scales: Scales | None, factor: float = 1.0) -> dict[str, np.ndarray]:
    """Gain of every row of every attn_q and attn_k tensor, in the file's row order; float64, (rows,).

    Empty where neither scales nor the attention factor change anything.
    """
    geo, order = model.geometry, model.row_order()
    gains = written_gains(geo, scales, factor)
    named: dict[str, np.ndarray] = {}
    if gains is None:
        return named
    for layer in range(geo.n_layers):
        if layer in geo.without_rope:
            continue
        for infos, gain in zip(model.q_and_k(layer), gains, strict=True):
            for info in infos:
                named[info.name] = gain[layer].numpy()[:, order].reshape(-1)  # (heads, head_dim) -> (rows,)
    return named


def _edited(model: GgufModel, scales: Scales | None, factor: float) -> list[tuple[TensorInfo, np.ndarray]]:
    """Tensors to change and their rows' gains; refuses a type before anything is written."""
    if scales is not None:
        require_scales_alone(scales)
    edited = [(model.header.tensors[name], gains) for name, gains in row_gains(model, scales, factor).items()]
    for info, gains in edited:
        require_scalable(info.name, info.kind, gains)
    return edited


def _interpolation(model: GgufModel, rope: RopeSpec) -> tuple[GgufRope | None, float]:
    """Keys and divisors to set, None where the file's own stay, and what q and k are multiplied by."""
    if rope.method == "default" and not rope.tie:
        return None, 1.0
    geo, architecture = model.geometry, model.layout.architecture
    context = exported_context(_context(model), geo, rope)
    if as_divisors(rope):
        return _per_pair(model, rope, context)
    named, fixed = own_attention_factor(rope, lambda spec: _turning(model, spec, context))
    config = SimpleNamespace(rope_parameters={"rope_type": "default", "rope_theta": geo.theta})
    return gguf_rope(rope_parameters(config, geo, named), architecture, geo.head_dim, context), fixed


def _turning(model: GgufModel, rope: RopeSpec, context: int) -> Rope:
    """Frequencies are transformers' own, which is imported for them alone."""
    from qroar_core.interpolations.rope_without_model import plain_rope

    geo = model.geometry
    return plain_rope(geo.theta, geo.head_dim, geo.original_context, rope, context, model.own_rope)


def _per_pair(model: GgufModel, rope: RopeSpec, context: int) -> tuple[GgufRope, float]:
    from qroar_core.interpolations.rope_without_model import plain_config

    geo = model.geometry
    config = plain_config(geo.theta, geo.head_dim, geo.original_context, model.own_rope)
    require_one_list(rope_parameters(config, geo, rope))
    found = _turning(model, rope, context)
    divided = divisors(found, geo.theta).numpy()
    return per_pair_rope(divided, geo.theta, model.layout.architecture, context), found.attention_factor


def _context(model: GgufModel) -> int:
    return int(model.header.get(f"{model.layout.architecture}.context_length", model.geometry.original_context))


def described(model: GgufModel, rope: RopeSpec) -> tuple[dict[str, Entry], np.ndarray | None]:
    """Metadata of a copy under `rope`, and its divisors per pair, float32, where it is given any."""
    turned, _ = _interpolation(model, rope)
    return _entries(model, turned), None if turned is None else turned.divisors


def _entries(model: GgufModel, rope: GgufRope | None) -> dict[str, Entry]:
    if rope is None:
        return dict(model.header.entries)
    arch = model.layout.architecture
    own = (f"{arch}.rope.scaling.", f"{arch}.rope.scale_linear")
    kept = {key: entry for key, entry in model.header.entries.items() if not key.startswith(own)}
    return kept | {entry.key: entry for entry in rope.entries}


def _copy(model: GgufModel, rope: GgufRope | None, old: BinaryIO, new: BinaryIO) -> dict[str, int]:
    """Header and data of `old` into `new`; returns where each tensor begins.

    Without `rope` the file's own interpolation stays as it is; with it, its keys and tensors are replaced.
    """
    header = model.header
    if rope is None:
        _send(old, new, 0, os.fstat(old.fileno()).st_size)
        return {name: header.data_start + info.offset for name, info in header.tensors.items()}
    entries = _entries(model, rope)
    infos, at = [], 0
    for info in header.tensors.values():
        if info.name not in ROPE_TENSORS:
            infos.append(replace(info, offset=at))
            at += padded(info.nbytes, header.alignment)
    extra = b"" if rope.divisors is None else rope.divisors.astype("<f4").tobytes()
    if rope.divisors is not None:
        infos.append(TensorInfo(ROPE_FREQS, rope.divisors.shape, GGMLQuantizationType.F32, at))
    head = header_bytes(entries.values(), infos, header.alignment, header.version)
    new.write(head)
    for info in infos:
        new.seek(len(head) + info.offset)
        if info.name == ROPE_FREQS:
            new.write(extra + bytes(padded(len(extra), header.alignment) - len(extra)))
            continue
        new.flush()
        _send(old, new, header.data_start + header.tensors[info.name].offset, info.nbytes)
        new.write(bytes(padded(info.nbytes, header.alignment) - info.nbytes))
    new.flush()
    return {info.name: len(head) + info.offset for info in infos}


def _send(old: BinaryIO, new: BinaryIO, start: int, count: int) -> None:
    """Copy `count` bytes from `start` of old to the end of new."""
    old.seek(start)
    new.seek(0, os.SEEK_END)
    while count:
        piece = old.read(min(COPY, count))
        if not piece:
            raise OSError(0, "the source became shorter while it was read")
        new.write(piece)
        count -= len(piece)


def _scale(model: GgufModel, info: TensorInfo, gains: np.ndarray, old: BinaryIO, new: BinaryIO, start: int) -> None:
    """One tensor's rows into `new`, where they begin at byte `start`. A bias is one row a value."""
    rows, row_bytes = (info.rows, info.row_bytes)
    if len(info.shape) == 1:
        rows, row_bytes = info.shape[0], info.nbytes // info.shape[0]
    old.seek(model.header.data_start + info.offset)
    new.seek(start)
    step = max(1, CHUNK // row_bytes)
    for first in range(0, rows, step):
        last = min(rows, first + step)
        raw = np.frombuffer(old.read((last - first) * row_bytes), np.uint8).reshape(last - first, row_bytes)
        new.write(scale_rows(raw, info.kind, gains[first:last], info.name, first).tobytes())
