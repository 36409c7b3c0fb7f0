"""From documents to token ids: a small one whole, a large one only where a window lies.

Tokens of an excerpt are those of the whole text: it begins at a line or word start where there is one near, and the
tokens next to both cuts, which the cut could have changed, are left out.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from qroar_core.errors import BadText
from qroar_core.models.text_files import AnyDocument, Document, LargeDocument
from qroar_core.models.token_ids import adds_first_space, token_ids

EDGE = 32  # tokens left out at both cuts of an excerpt
BREAK_SEARCH_BYTES = 1024  # bytes in which a line or word start is looked for
SAMPLES, SAMPLE = 8, 2**14  # stretches of a large document, and bytes of each, that tell how many bytes a token takes
CAREFUL = 0.8  # of the tokens that a large document is estimated to hold, what is counted on

_CODED: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()  # tokenizing takes seconds


def encode(tokenizer: Any, document: Document, *, inside: bool = False) -> Tensor:
    """Token ids of one document, int64 (tokens,), no special tokens; remembered while the tokenizer lives.

    Args:
        inside: as it stands in the middle of another text, see `token_ids`.
    Raises:
        BadText: it holds a token that the model's embedding has no row for.
    """
    known = _CODED.setdefault(tokenizer, {})
    inside = inside and adds_first_space(tokenizer)
    if (document, inside) not in known:
        known[document, inside] = _ids(tokenizer, document.text, document.name, inside)
    return known[document, inside]


def tokens_held(tokenizer: Any, document: AnyDocument, *, inside: bool = False) -> int:
    """Tokens of a document; of a large one what can be counted on."""
    if isinstance(document, Document):
        return len(encode(tokenizer, document, inside=inside))
    return int(CAREFUL * len(document) / bytes_a_token(tokenizer, document))


def rows_held(tokenizer: Any, document: AnyDocument, tokens: int) -> int:
    """How many rows of so many tokens a document holds; a large one leaves room for the cuts."""
    if isinstance(document, Document):
        return len(encode(tokenizer, document)) // tokens
    lost = 2 * EDGE + BREAK_SEARCH_BYTES / bytes_a_token(tokenizer, document)
    return int(tokens_held(tokenizer, document) / (tokens + lost))


def bytes_a_token(tokenizer: Any, document: LargeDocument) -> float:
    """Bytes of a large document that a token takes on average, from stretches spread over it."""
    known = _CODED.setdefault(tokenizer, {})
    if document not in known:
        starts = [document.first + (len(document) - SAMPLE) * i // (SAMPLES - 1) for i in range(SAMPLES)]
        texts = [document.read(at, at + SAMPLE)[0] for at in starts]
        tokens = sum(len(_ids(tokenizer, text, document.name)) for text in texts)
        known[document] = sum(len(text.encode()) for text in texts) / tokens
    return known[document]


def excerpt(
    tokenizer: Any, document: LargeDocument, first: int, last: int, share: float, tokens: int
) -> tuple[Tensor, int, int, bool]:
    """`tokens` tokens in a row from between two bytes of a large document.

    Args:
        share: where, 0 at the first byte and 1 at the last place that has room.
    Returns:
        ids (tokens,), the bytes the excerpt was read from and up to, and whether its line ends were changed.
    Raises:
        BadText: fewer tokens between the two bytes.
    """
    need = int((tokens + 2 * EDGE) * bytes_a_token(tokenizer, document) * 1.25) + BREAK_SEARCH_BYTES
    while True:
        at = first + int(share * max(0, last - first - need))
        stop = min(last, at + need)
        text, changed = document.read(at, stop)
        if at > document.first:
            text = _from_a_start(text)
        ids = _ids(tokenizer, text, document.name)[EDGE:-EDGE]
        if len(ids) >= tokens:
            return ids[:tokens], at, stop, changed
        if stop - at >= last - first:
            raise BadText(
                f"bytes {first} to {last} hold {len(ids)} tokens, one window needs {tokens}",
                where=document.name,
                do="ask for fewer windows or a shorter length",
            )
        need *= 2


def _from_a_start(text: str) -> str:
    """`text` from its first line start, else its first word start, else as it is."""
    near = text[:BREAK_SEARCH_BYTES]
    line = near.find("\n") + 1
    return text[line:] if line else text[max(0, near.find(" ")) :]


def _ids(tokenizer: Any, text: str, where: str, inside: bool = False) -> Tensor:
    return torch.tensor(token_ids(tokenizer, text, inside=inside, where=where), dtype=torch.int64)
