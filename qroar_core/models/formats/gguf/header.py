"""The header of a GGUF file, read strictly.

Own code and not gguf's reader, because a header may be hostile and large: that reader builds an object
per vocabulary entry (seconds, hundreds of MiB), trusts every count it meets and raises whatever numpy
raises. Here every length is checked against the file before it is believed, and metadata that nobody
asked for is kept as the bytes it came in.
Source: ggml-org/ggml docs/gguf.md; limits as llama.cpp's own loader has them (ggml/src/gguf.cpp).
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from qroar_core.errors import BadCheckpoint
from qroar_core.models.formats.gguf.header_entries import (
    DEFAULT_ALIGNMENT,
    KEPT_ITEMS,
    MAGIC,
    SCALARS,
    Entry,
    Header,
    TensorInfo,
    padded,
)

VERSIONS = (2, 3)  # 1 had 32-bit counts and was gone within weeks
MAX_ALIGNMENT = 1 << 16
MAX_ENTRIES, MAX_TENSORS = 1 << 16, 1 << 20
MAX_KEY = (1 << 16) - 1  # bytes, of the specification
MAX_TENSOR_NAME = 63  # GGML_MAX_NAME less its end mark
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


class _Broken(Exception):
    """Why a header is refused; becomes a BadCheckpoint with the file's name."""


class _Cursor:
    """Reads forward and never past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.end = data, 0, len(data)

    def skip(self, count: int, what: str) -> None:
        if count > self.end - self.at:
            raise _Broken(f"it ends inside {what}")
        self.at += count

    def take(self, form: str, what: str) -> Any:
        start = self.at
        self.skip(struct.calcsize("<" + form), what)
        return struct.unpack_from("<" + form, self.data, start)[0]

    def text(self, what: str, most: int | None = None) -> str:
        length = self.take("Q", what)
        if most is not None and not 0 < length <= most:
            raise _Broken(f"{what} has {length} bytes, 1 to {most} are allowed")
        start = self.at
        self.skip(length, what)
        try:
            return self.data[start : self.at].decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Broken(f"{what} is not UTF-8") from error


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file; touches none of its tensors.

    Raises:
        BadCheckpoint: not a GGUF file, cut short, or a header that contradicts itself or the file's size.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Cursor(data))
    except _Broken as error:
        raise BadCheckpoint(f"not a readable GGUF file ({error})", where=str(path), do="fetch it again") from error
    except ValueError as error:  # mmap of an empty file
        raise BadCheckpoint("not a GGUF file (it is empty)", where=str(path), do="fetch it again") from error
    except OSError as error:
        raise BadCheckpoint(
            f"cannot be read ({error.strerror or error})", where=str(path), do="check the path"
        ) from error


def _header(cursor: _Cursor) -> Header:
    if cursor.data[:4] != MAGIC:
        raise _Broken("it does not begin with GGUF")
    cursor.skip(4, "the magic")
    version = cursor.take("I", "the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        raise _Broken("it is big-endian" if swapped else f"version {version} is not known")
    tensors, entries = cursor.take("Q", "the tensor count"), cursor.take("Q", "the key count")
    if tensors > MAX_TENSORS or entries > MAX_ENTRIES:
        raise _Broken(f"it claims {tensors} tensors and {entries} keys")
    known = _entries(cursor, entries)
    alignment = known["general.alignment"].value if "general.alignment" in known else DEFAULT_ALIGNMENT
    if type(alignment) is not int or not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise _Broken(f"alignment {alignment!r} is no power of two from 8 to {MAX_ALIGNMENT}")
    infos = _tensors(cursor, tensors, alignment)
    header = Header(version, known, infos, alignment, padded(cursor.at, alignment))
    missing = header.data_start + header.data_bytes - cursor.end
    if missing > 0:
        raise _Broken(f"it ends {missing} bytes before its last tensor does")
    return header


def _entries(cursor: _Cursor, count: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for _ in range(count):
        start = cursor.at
        key = cursor.text("a key", MAX_KEY)
        if key in found:
            raise _Broken(f"key {key[:80]} comes twice")
        value = _value(cursor, cursor.take("I", key[:80]), key[:80])
        found[key] = Entry(key, cursor.data[start : cursor.at], value)
    return found


def _value(cursor: _Cursor, kind: int, what: str) -> Any:
    if kind == GGUFValueType.STRING:
        return cursor.text(what)
    if kind == GGUFValueType.ARRAY:
        return _array(cursor, what)
    if kind == GGUFValueType.BOOL:
        byte = cursor.take("B", what)
        if byte > 1:
            raise _Broken(f"{what} is neither true nor false")
        return bool(byte)
    try:
        return cursor.take(SCALARS[GGUFValueType(kind)], what)
    except ValueError as error:
        raise _Broken(f"{what} has unknown type {kind}") from error


def _array(cursor: _Cursor, what: str) -> list[Any] | None:
    kind, count = cursor.take("I", what), cursor.take("Q", what)
    if kind == GGUFValueType.STRING:
        if count > (cursor.end - cursor.at) // 8:  # each string has at least its length
            raise _Broken(f"{what} claims {count} strings")
        if count <= KEPT_ITEMS:
            return [cursor.text(what) for _ in range(count)]
        for _ in range(count):
            cursor.skip(cursor.take("Q", what), what)
        return None
    if kind not in list(SCALARS):
        raise _Broken(f"{what} is a list of unknown type {kind}")
    form = SCALARS[GGUFValueType(kind)]
    start = cursor.at
    cursor.skip(count * struct.calcsize("<" + form), what)
    return list(struct.unpack_from(f"<{count}{form}", cursor.data, start)) if count <= KEPT_ITEMS else None


def _tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    found: dict[str, TensorInfo] = {}
    expected = 0
    for _ in range(count):
        name = cursor.text("a tensor's name", MAX_TENSOR_NAME)
        if not TENSOR_NAME.fullmatch(name) or ".." in name:
            raise _Broken(f"{name!r} is no name for a tensor")
        if name in found:
            raise _Broken(f"tensor {name} comes twice")
        dimensions = cursor.take("I", name)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise _Broken(f"{name} has {dimensions} dimensions")
        shape = tuple(cursor.take("Q", name) for _ in range(dimensions))
        info = TensorInfo(name, shape, _kind(cursor.take("I", name), name), cursor.take("Q", name))
        block = GGML_QUANT_SIZES[info.kind][0]
        if 0 in shape or shape[0] % block:
            raise _Broken(f"{name} has shape {list(shape)}, {info.kind.name} comes in blocks of {block}")
        if info.offset != expected:  # as llama.cpp's loader wants it: in order, no gap, no overlap
            raise _Broken(f"{name} begins at byte {info.offset} of the data, {expected} is its place")
        expected = padded(info.offset + info.nbytes, alignment)
        found[name] = info
    return found


def _kind(number: int, name: str) -> GGMLQuantizationType:
    try:
        return GGMLQuantizationType(number)
    except ValueError as error:
        raise _Broken(f"{name} has unknown type {number}") from error
