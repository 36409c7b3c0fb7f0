"""What a document still holds beside the windows that were read of it before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qroar_core.models.document_tokens import SAMPLE, encode, rows_held, tokens_held
from qroar_core.models.text_files import AnyDocument, LargeDocument

Span = tuple[str, int, int]  # name of a document, first and one past the last: tokens, or bytes of a large one


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens `first` .. `last` of a document, or bytes of a large one."""

    document: AnyDocument
    first: int
    last: int

    def rows(self, tokenizer: Any, tokens: int) -> int:
        """How many rows of so many tokens it holds."""
        if isinstance(self.document, LargeDocument):
            return rows_held(tokenizer, replace(self.document, first=self.first, last=self.last), tokens)
        return (self.last - self.first) // tokens

    def tokens(self, tokenizer: Any) -> int:
        """Tokens it holds; of a large document what can be counted on."""
        if isinstance(self.document, LargeDocument):
            return tokens_held(tokenizer, replace(self.document, first=self.first, last=self.last))
        return self.last - self.first


def stretches(tokenizer: Any, document: AnyDocument, read: Sequence[Span] = ()) -> list[Stretch]:
    """The parts of a document that no span of `read` covers, in order; all of it where nothing was read."""
    if isinstance(document, LargeDocument):
        first, last, least = document.first, document.last, SAMPLE  # of less its tokens cannot be estimated
    else:
        first, last, least = 0, len(encode(tokenizer, document)), 1
    mine = sorted((a, b) for name, a, b in read if name == document.name)
    if not mine:
        return [Stretch(document, first, last)]
    found, at = [], first
    for a, b in [*mine, (last, last)]:
        if a - at >= least:
            found.append(Stretch(document, at, a))
        at = max(at, b)
    return found
