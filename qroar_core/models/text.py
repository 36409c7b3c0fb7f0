"""Texts as token windows: which documents, which positions, always the same for the same seed.

A window never crosses a document. The embedded texts are split by document: scales are searched on calibration, kept
or not by what they do on development, and reported on heldout. No split has another's documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from qroar_core.bundled import ASSETS
from qroar_core.errors import BadText
from qroar_core.models.bos import opening
from qroar_core.models.document_tokens import encode, excerpt, tokens_held
from qroar_core.models.text_files import ENDS, AnyDocument, Document, LargeDocument, open_text, read_text, thirds
from qroar_core.models.unread_text import Span, Stretch, stretches
from qroar_core.specs import Bos
from qroar_core.specs.labels import TEXT_WORDS

TEXTS = ASSETS / "text"
SPLITS = ("calibration", "development", "heldout")
COLLECTIONS = {name: "." if name == "messages" else name for name in TEXT_WORDS}  # embedded texts, their folders
Documents = Sequence[AnyDocument]  # of one split
Texts = Mapping[str, Documents]  # split -> its documents
PIECES = "places chosen by bytes of a large text, each read from a line or word start"

__all__ = [
    "COLLECTIONS",
    "SPLITS",
    "TEXTS",
    "AnyDocument",
    "Document",
    "Documents",
    "LargeDocument",
    "Texts",
    "Windows",
    "bos_of",
    "encode",
    "longest_held",
    "longest_in_all",
    "open_text",
    "read_text",
    "split",
    "thirds",
    "windows",
    "windows_held",
]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Equal-length token windows, ids (count, length) int64, with the document and offset of each.

    The first `opening` tokens of every window are what stands before a text (BOS), the others are the text's. Offsets
    are tokens of the document, or bytes of a large one (`unit`), and so is where each window ends. `asked` is how many
    windows were wanted.
    """

    ids: Tensor
    origin: tuple[tuple[str, int], ...]
    opening: int = 0
    asked: int = 0
    notes: tuple[str, ...] = ()
    unit: str = "token"
    ends: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def documents(self) -> list[str]:
        """The document of each window."""
        return [name for name, _ in self.origin]

    @property
    def spans(self) -> list[Span]:
        """What was read of the documents."""
        return [(name, at, end) for (name, at), end in zip(self.origin, self.ends, strict=True)]

    @property
    def digest(self) -> str:
        """8 hex digits naming exactly these tokens."""
        return hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()[:8]

    @property
    def counted(self) -> str:
        """`8 windows`, and where the text holds fewer than usual, that it does."""
        return self.counted_as()

    def counted_as(self, kind: str = "") -> str:
        """`counted`, with a word before `windows`."""
        words = " ".join(filter(None, (str(len(self)), kind, f"window{'s' * (len(self) != 1)}")))
        return f"{words} (all that the text holds, {self.asked} by default)" if len(self) < self.asked else words

    @property
    def noted(self) -> str:
        """What a result says behind digest and seed, each part after a comma; mostly nothing."""
        return "".join(f", {note}" for note in self.notes)


def split(name: str, collection: str = "messages", bos: Bos = "auto") -> list[Document]:
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
    found = [read_text(path) for path in sorted((TEXTS / COLLECTIONS[collection] / name).glob("*.txt"))]
    return [replace(document, bos=bos) for document in found]


def windows_held(tokenizer: Any, documents: Documents, length: int, apart_from: Windows | None = None) -> int:
    """How many windows of `length` tokens the documents hold; none that overlaps one of `apart_from`."""
    own = length - len(opening(tokenizer, bos_of(documents)))
    return sum(stretch.rows(tokenizer, own) for stretch in chain(*_free(tokenizer, documents, apart_from)))


def longest_held(tokenizer: Any, documents: Documents, most: int, count: int, apart_from: Windows | None = None) -> int:
    """The most tokens, up to `most`, that `count` windows of the documents may each have; 0 where there are none."""
    fits, none = len(opening(tokenizer, bos_of(documents))), most + 1
    least = fits
    while none - fits > 1:
        tried = most if none > most else (fits + none) // 2  # `most` itself is what is mostly there
        enough = windows_held(tokenizer, documents, tried, apart_from) >= count
        fits, none = (tried, none) if enough else (fits, tried)
    return fits if fits > least else 0


def longest_in_all(tokenizer: Any, splits: Sequence[Sequence[Document]]) -> int:
    """Tokens of the longest window that each of the splits holds, what stands before the text included.

    That is the longest document of the split whose longest is the shortest. Tokenizing takes seconds, so a split is
    left where one of its documents reaches what another split ends at: it is not the one. The largest documents come
    first, and the split without large ones.
    """
    found: int | None = None
    ordered = [sorted(documents, key=_characters, reverse=True) for documents in splits]
    for documents in sorted(ordered, key=lambda one: _characters(one[0]) if one else 0):
        before, held = len(opening(tokenizer, bos_of(documents))), 0
        for document in documents:
            held = max(held, tokens_held(tokenizer, document))
            if found is not None and before + held >= found:
                break
        found = before + held if found is None else min(found, before + held)
    return found or 0


def _characters(document: Document) -> int:
    return len(document.text)


def bos_of(documents: Documents) -> Bos:
    """How windows of these documents start; the documents of one text agree."""
    return documents[0].bos if documents else "auto"


def windows(
    tokenizer: Any,
    documents: Documents,
    length: int,
    count: int,
    seed: int = 0,
    *,
    fewer: bool = False,
    least: int = 1,
    apart_from: Windows | None = None,
) -> Windows:
    """`count` windows of `length` tokens, spread over documents first and then within them.

    Windows of one document do not overlap. The seed moves their offsets.

    Args:
        fewer: nobody asked for just `count`: where the documents hold fewer, take those, but at least `least`.
        apart_from: windows of these documents that none of the new ones may overlap.
    Raises:
        BadText: the documents hold fewer windows than asked, or none.
    """
    start = opening(tokenizer, bos_of(documents))
    own = length - len(start)  # tokens of the text in a window
    free = _free(tokenizer, documents, apart_from)
    room = [sum(stretch.rows(tokenizer, own) for stretch in of) for of in free]
    longest = max((stretch.tokens(tokenizer) for stretch in chain(*free)), default=0) + len(start)
    _require_room(documents, longest, sum(room), length, least if fewer else count, fewer)
    wanted = min(count, sum(room)) if fewer else count
    shares = [0] * len(documents)  # round robin over the documents that still have room
    while sum(shares) < wanted:
        for i in sorted(range(len(documents)), key=lambda i: shares[i]):
            if shares[i] < room[i] and sum(shares) < wanted:
                shares[i] += 1
    generator = torch.Generator().manual_seed(seed)
    pieces: list[Tensor] = []
    origin: list[tuple[str, int]] = []
    ends: list[int] = []
    notes = [start.said()]
    for stretch, share in chain(*(_dealt(tokenizer, of, own, share) for of, share in zip(free, shares, strict=True))):
        document = stretch.document
        gaps = torch.rand(share + 1, generator=generator) if share else torch.empty(0)
        if isinstance(document, LargeDocument):
            for j in range(share):  # one in each of as many parts
                first, last = (stretch.first + (stretch.last - stretch.first) * k // share for k in (j, j + 1))
                ids, at, end, changed = excerpt(tokenizer, document, first, last, float(gaps[j]), own)
                pieces.append(ids)
                origin.append((document.name, at))
                ends.append(end)
                notes += [PIECES, ENDS * changed]
        elif share:
            coded = encode(tokenizer, document)[stretch.first : stretch.last]
            offsets = (gaps.cumsum(0)[:-1] / gaps.sum() * (len(coded) - share * own)).long()
            for j in range(share):
                at = j * own + int(offsets[j])
                pieces.append(coded[at : at + own])
                origin.append((document.name, stretch.first + at))
                ends.append(stretch.first + at + own)
            notes.append(document.note)
    said = tuple(dict.fromkeys(note for note in notes if note))
    unit = "byte" if PIECES in said else "token"
    return Windows(start.before(torch.stack(pieces)), tuple(origin), len(start), count, said, unit, tuple(ends))


def _free(tokenizer: Any, documents: Documents, apart_from: Windows | None) -> list[list[Stretch]]:
    """What is not read yet of each document."""
    read = apart_from.spans if apart_from is not None else ()
    return [stretches(tokenizer, document, read) for document in documents]


def _dealt(tokenizer: Any, free: list[Stretch], own: int, share: int) -> list[tuple[Stretch, int]]:
    """`share` windows of one document over its stretches: each takes what it holds, the first ones first."""
    dealt = []
    for stretch in free:
        dealt.append((stretch, min(share, stretch.rows(tokenizer, own))))
        share -= dealt[-1][1]
    return dealt


def _require_room(documents: Documents, longest: int, held: int, length: int, count: int, fewer: bool) -> None:
    """Raises BadText where documents that hold `held` windows are asked for `count`, or with `fewer` need as many."""
    about = "about " if any(isinstance(document, LargeDocument) for document in documents) else ""
    where = ", ".join(d.name for d in documents[:3]) + (", ..." if len(documents) > 3 else "")
    if held == 0:
        raise BadText(
            f"the longest document has {about}{longest} tokens, one window needs {length}",
            where=where,
            do=f"give a longer text or a length of at most {longest}",
        )
    if held < count:
        wanted = f"at least {count} are needed" if fewer else f"{count} are asked"
        raise BadText(
            f"the text holds {about}{held} window{'s' * (held != 1)} of {length} tokens, {wanted}",
            where=where,
            do="give a longer text" + (" or" if fewer else ", fewer windows (--windows) or") + " a shorter length",
        )
