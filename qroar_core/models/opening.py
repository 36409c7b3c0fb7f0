"""What stands in front of every window of text: the beginning-of-sequence token (BOS), or nothing.

A model that was trained with BOS reads far worse without it, so a window starts as its tokenizer starts a text. Whether
the tokenizer does so is asked of the tokenizer itself, not of a config. A window of L tokens is then BOS and L - 1
tokens of text. BOS is given, never predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.models.token_ids import embedding_rows
from qroar_core.specs import Bos

PROBE = "a"  # a text of one letter, coded with and without what the tokenizer puts around a text


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
    put = _put_before(tokenizer)
    return len(put) == 1 and put[0] == tokenizer.bos_token_id


def opening(tokenizer: Any, bos: Bos) -> Opening:
    """What windows start with under this choice.

    Raises:
        BadSpec: `on` with a tokenizer that has no BOS token, or one that the model's embedding has no row for.
    """
    token = getattr(tokenizer, "bos_token_id", None)
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
    if not hasattr(tokenizer, "all_special_ids"):  # no tokenizer of transformers: a test's own
        return []
    bare, dressed = (list(tokenizer(PROBE, add_special_tokens=add)["input_ids"]) for add in (False, True))
    special = set(tokenizer.all_special_ids)
    at = next((i for i in range(len(dressed)) if dressed[i : i + len(bare)] == bare), None)
    if at is None:  # the text itself is coded another way behind a special token
        at = next((i for i, token in enumerate(dressed) if token not in special), len(dressed))
    return dressed[:at]


def _words(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(str(token) for token in tokenizer.convert_ids_to_tokens(ids)) if ids else ""
