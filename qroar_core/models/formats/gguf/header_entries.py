"""What a GGUF header is made of: keys, tensors, and how both are written.

Metadata that nobody asked for stays the bytes it came in, so what is not changed is written back exactly.
Source: ggml-org/ggml docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
KEPT_ITEMS = 4096  # longer arrays (vocabularies) stay bytes
SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the metadata: its bytes in the file, and its value unless it is a long array (None)."""

    key: str
    raw: bytes
    value: Any


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. `shape` in ggml's order, inputs first; `offset` in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (all inputs of one output)."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return self.shape[0] // block * size

    @property
    def rows(self) -> int:
        """Outputs, all higher dimensions together."""
        count = 1
        for n in self.shape[1:]:
            count *= n
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.row_bytes * self.rows


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says before its data begins at byte `data_start`."""

    version: int
    entries: dict[str, Entry]
    tensors: dict[str, TensorInfo]
    alignment: int
    data_start: int

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a key, or `default`."""
        entry = self.entries.get(key)
        return default if entry is None else entry.value

    @property
    def data_bytes(self) -> int:
        """Bytes from `data_start` to the end of the last tensor."""
        return max((t.offset + t.nbytes for t in self.tensors.values()), default=0)


def array_items(array: Entry) -> list[Any]:
    """Every item of an array, however long: strings as bytes, which need not be UTF-8."""
    at = 8 + len(array.key.encode())
    _, kind, count = struct.unpack_from("<IIQ", array.raw, at)
    at += 16
    if kind != GGUFValueType.STRING:
        return list(struct.unpack_from(f"<{count}{SCALARS[GGUFValueType(kind)]}", array.raw, at))
    items = []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", array.raw, at)
        items.append(array.raw[at + 8 : at + 8 + length])
        at += 8 + length
    return items


def array_length(array: Entry) -> int | None:
    """How many items an array has; None where the key holds no array."""
    at = 8 + len(array.key.encode())
    if array_kind(array) is None:
        return None
    return int(struct.unpack_from("<Q", array.raw, at + 8)[0])


def array_kind(array: Entry) -> GGUFValueType | None:
    """Type of an array's items; None where the key holds no array."""
    at = 8 + len(array.key.encode())
    outer, kind = struct.unpack_from("<II", array.raw, at) if len(array.raw) >= at + 8 else (None, 0)
    return GGUFValueType(kind) if outer == GGUFValueType.ARRAY else None


def padded(position: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-position // alignment) * alignment


def entry(key: str, kind: GGUFValueType, value: Any) -> Entry:
    """A new key. A list is written as an array of `kind`; strings may be str or bytes."""
    head = _encoded(GGUFValueType.STRING, key)
    if not isinstance(value, list):
        return Entry(key, head + struct.pack("<I", kind) + _encoded(kind, value), value)
    items = b"".join(_encoded(kind, item) for item in value)
    head += struct.pack("<IIQ", GGUFValueType.ARRAY, kind, len(value))
    return Entry(key, head + items, value if len(value) <= KEPT_ITEMS else None)


def _encoded(kind: GGUFValueType, value: Any) -> bytes:
    if kind == GGUFValueType.STRING:
        text = value if isinstance(value, bytes) else value.encode()
        return struct.pack("<Q", len(text)) + text
    return struct.pack("<" + SCALARS[kind], value)


def header_bytes(entries: Iterable[Entry], tensors: Iterable[TensorInfo], alignment: int, version: int = 3) -> bytes:
    """A whole header, padded to where the data begins."""
    keys, infos = list(entries), list(tensors)
    parts = [MAGIC, struct.pack("<IQQ", version, len(infos), len(keys)), *(k.raw for k in keys)]
    for t in infos:
        parts.append(_encoded(GGUFValueType.STRING, t.name))
        parts.append(struct.pack(f"<I{len(t.shape)}QIQ", len(t.shape), *t.shape, t.kind, t.offset))
    head = b"".join(parts)
    return head + bytes(padded(len(head), alignment) - len(head))
