"""What stands in front of every window of text: the beginning-of-sequence token (BOS), or nothing.

A model that was trained with BOS reads far worse without it, so a window starts as its tokenizer starts a text. Whether
the tokenizer does so is asked of the tokenizer itself, not of a config. The one token that it puts there is BOS, also
where the config names another. A window of L tokens is then BOS and L - 1 tokens of text. BOS is given, never
predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.models.token_ids import embedding_rows, put_around
from qroar_core.specs import Bos


@dataclass(frozen=True, slots=True)
class Opening:
    """Token ids before the text of every window, as words too; `left_out`: what the tokenizer would have put there."""

    ids: tuple[int, ...] = ()
    token: str = ""
    left_out: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def said(self, what: str = "window") -> str:
        """What a result says of it; "" where there is nothing to say."""
        if self.ids:
            return f"each {what} starts with {self.token}"
        return f"no {what} starts with {self.left_out}, which the tokenizer puts before a text" if self.left_out else ""

    def before(self, ids: Tensor) -> Tensor:
        """`ids` (..., n) with the opening in front, (..., n + len)."""
        if not self.ids:
            return ids
        front = torch.tensor(self.ids, dtype=ids.dtype, device=ids.device)
        return torch.cat((front.expand(*ids.shape[:-1], -1), ids), dim=-1)


def adds_bos(tokenizer: Any) -> bool:
    """Does the tokenizer put BOS, and nothing else, before a text?"""
    return len(_put_before(tokenizer)) == 1


def bos_id(tokenizer: Any) -> int | None:
    """The one token that the tokenizer puts before a text, else the one that is named as BOS."""
    put = _put_before(tokenizer)
    return put[0] if len(put) == 1 else getattr(tokenizer, "bos_token_id", None)


def bos_word(tokenizer: Any) -> str | None:
    """`bos_id` as a word; None where there is none."""
    token = bos_id(tokenizer)
    return None if token is None else _words(tokenizer, [token])


def opening(tokenizer: Any, bos: Bos) -> Opening:
    """What windows start with under this choice.

    Raises:
        BadSpec: `on` with a tokenizer that has no BOS token, or one that the model's embedding has no row for.
        BadCheckpoint: a tokenizer that gives no token for any text.
    """
    token = bos_id(tokenizer)
    if bos == "on" and token is None:
        raise BadSpec("the tokenizer has no BOS token", where="--bos on", do="drop it, or choose --bos off")
    if token is not None and (bos == "on" or (bos == "auto" and adds_bos(tokenizer))):
        rows = embedding_rows(tokenizer)
        if rows is not None and token >= rows:
            raise BadSpec(
                f"the BOS token {_words(tokenizer, [token])!r} has id {token}, the model's embedding has {rows} rows",
                where=f"--bos {bos}",
                do="choose --bos off, or give a checkpoint whose embedding was extended",
            )
        return Opening((int(token),), _words(tokenizer, [token]))
    return Opening(left_out=_words(tokenizer, _put_before(tokenizer)))


def starts(ids: Tensor, length: int, opening: int) -> Tensor:
    """Windows (n, L) that start with `opening` tokens, shortened to `length`: their start and their last tokens."""
    return torch.cat((ids[..., :opening], ids[..., ids.shape[-1] - length + opening :]), dim=-1)


def _put_before(tokenizer: Any) -> list[int]:
    """Special tokens that the tokenizer puts before a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return [] if backend is None else put_around(backend)[0]  # None: a test's own


def _words(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(str(token) for token in tokenizer.convert_ids_to_tokens(ids)) if ids else ""
