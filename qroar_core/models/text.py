"""Texts as token windows: which documents, which positions, always the same for the same seed.

A window never crosses a document. The embedded texts are split by document into calibration
(search), development (guard) and heldout (proof): no split has seen another's documents.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from qroar_core.errors import BadText
from qroar_core.models.token_ids import token_ids

TEXTS = Path(__file__).parents[2] / "assets" / "text"
SPLITS = ("calibration", "development", "heldout")
COLLECTIONS = {"messages": ".", "technical": "technical", "novels": "novels"}  # embedded texts and their folders
BINARY_SHARE = 0.05  # replacement and control characters past which a file is called binary


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its name and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Equal-length token windows, ids (count, length) int64, with the document and offset of each."""

    ids: Tensor
    origin: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def documents(self) -> list[str]:
        """The document of each window."""
        return [name for name, _ in self.origin]

    @property
    def digest(self) -> str:
        """8 hex digits naming exactly these tokens."""
        return hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()[:8]


def read_text(path: Path | str) -> Document:
    """A text file of the user's.

    Raises:
        BadText: missing, empty, or binary.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise BadText(f"cannot be read ({reason})", where=str(path), do="check the path") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadText("not UTF-8 text", where=str(path), do="give a plain text file") from error
    odd = sum(1 for c in text if (ord(c) < 32 and c not in "\n\r\t\f") or c == "�")
    if odd > BINARY_SHARE * len(text):
        raise BadText("looks binary", where=str(path), do="give a plain text file")
    if not text.strip():
        raise BadText("the text is empty", where=str(path), do="give a text with words in it")
    return Document(path.name, text)


def split(name: str, collection: str = "messages") -> list[Document]:
    """The embedded documents of one split, by file name.

    Collections: `messages` of presidents of the United States (public domain), `technical` the Python language
    reference (PSF licence), `novels` the beginnings of Jane Austen's (public domain); see assets/text/PROVENANCE.md.

    Raises:
        BadText: unknown split or collection.
    """
    if collection not in COLLECTIONS:
        raise BadText(f"unknown collection {collection!r}", do=f"choose one of {', '.join(COLLECTIONS)}")
    if name not in SPLITS:
        raise BadText(f"unknown split {name!r}", do=f"choose one of {', '.join(SPLITS)}")
    return [read_text(path) for path in sorted((TEXTS / COLLECTIONS[collection] / name).glob("*.txt"))]


def thirds(document: Document) -> dict[str, list[Document]]:
    """A user's single text cut into calibration, development and heldout parts, in reading order.

    Half the text proves the gain, the other half is for search and guard.
    """
    n = len(document.text)
    cuts = {"calibration": (0, 3 * n // 8), "development": (3 * n // 8, n // 2), "heldout": (n // 2, n)}
    return {name: [Document(f"{document.name}[{a}:{b}]", document.text[a:b])] for name, (a, b) in cuts.items()}


_CODED: WeakKeyDictionary[Any, dict[Document, Tensor]] = WeakKeyDictionary()  # tokenizing takes seconds


def encode(tokenizer: Any, document: Document) -> Tensor:
    """Token ids of one document, int64 (tokens,), no special tokens; remembered while the tokenizer lives."""
    known = _CODED.setdefault(tokenizer, {})
    if document not in known:
        ids = token_ids(tokenizer, document.text, where=document.name)
        known[document] = torch.tensor(ids, dtype=torch.int64)
    return known[document]


def windows_held(tokenizer: Any, documents: list[Document], length: int) -> int:
    """How many windows of `length` tokens the documents hold."""
    return sum(len(encode(tokenizer, document)) // length for document in documents)


def windows(tokenizer: Any, documents: list[Document], length: int, count: int, seed: int = 0) -> Windows:
    """`count` windows of `length` tokens, spread over documents first and then within them.

    Windows of one document do not overlap. The seed moves their offsets.

    Raises:
        BadText: the documents hold fewer windows than asked, or none.
    """
    coded = [(d.name, encode(tokenizer, d)) for d in documents]
    room = [len(ids) // length for _, ids in coded]
    longest = max((len(ids) for _, ids in coded), default=0)
    where = ", ".join(d.name for d in documents[:3]) + (", ..." if len(documents) > 3 else "")
    if sum(room) == 0:
        raise BadText(
            f"the longest document has {longest} tokens, one window needs {length}",
            where=where,
            do=f"give a longer text or a length of at most {longest}",
        )
    if sum(room) < count:
        raise BadText(
            f"the text holds {sum(room)} windows of {length} tokens, {count} are asked",
            where=where,
            do="give a longer text, fewer windows or a shorter length",
        )
    shares = [0] * len(coded)  # round robin over the documents that still have room
    while sum(shares) < count:
        for i in sorted(range(len(coded)), key=lambda i: shares[i]):
            if shares[i] < room[i] and sum(shares) < count:
                shares[i] += 1
    generator = torch.Generator().manual_seed(seed)
    pieces, origin = [], []
    for (name, ids), share in zip(coded, shares, strict=True):
        if not share:
            continue
        slack = len(ids) - share * length
        gaps = torch.rand(share + 1, generator=generator)
        offsets = (gaps.cumsum(0)[:-1] / gaps.sum() * slack).long()
        for j in range(share):
            at = j * length + int(offsets[j])
            pieces.append(ids[at : at + length])
            origin.append((name, at))
    return Windows(torch.stack(pieces), tuple(origin))
