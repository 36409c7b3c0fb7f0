"""Which keys and values a cache still holds exactly when a query reads: the one definition of what is quantized.

A token's K and V enter the cache, and then its query reads. A cache of single tokens (llama.cpp, vLLM, MLX) rounds
them as they enter, so that the query at position t reads all its t + 1 keys rounded, its own too. A cache of blocks
of n tokens (KIVI; quanto's residual) lets them enter exactly and rounds a block once the query of its last token has
read: the query at t reads the whole blocks before its own rounded and the keys from t // n * n on, its own too,
exactly.

A query inside a prompt reads what it would read if tokens came one at a time, however many are fed at once. KIVI and
transformers read a prompt exactly and round it behind its last query; from there on their caches hold what this one
holds, where the prompt is a whole number of blocks.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from qroar_core.specs import QuantSpec

Position = TypeVar("Position", int, Tensor)


def first_exact_key(block: int, position: Position) -> Position:
    """The first key that the query at `position` reads exactly; position + 1 where it reads every key rounded.

    Args:
        block: tokens rounded together, >= 1, as `QuantizerSpec.block_tokens`.
        position: of the query, or an integer tensor of them.
    """
    return position + 1 if block == 1 else position // block * block


def next_rounding(block: int, position: int) -> int:
    """The first query after `position` before which a cache of blocks rounds; block >= 2."""
    return (position // block + 1) * block


def still_exact(quant: QuantSpec, length: int) -> int:
    """How many of the newest keys the last query of `length` tokens reads as they are; 0 where no cache rounds K.

    Rounding for the product reaches keys that the cache holds exactly, so that none is left as it is.
    """
    if quant.k is None or quant.qk is not None:
        return 0
    return length - first_exact_key(quant.k.block_tokens, length - 1)


def first_rounded_row(quant: QuantSpec) -> int:
    """The first query that reads any key rounded; earlier ones read theirs as they are, whatever the scales."""
    if quant.k is None or quant.qk is not None or quant.k.block_tokens == 1:
        return 0
    return quant.k.block_tokens


def what_a_query_reads(quant: QuantSpec) -> str:
    """A clause for the end of a sentence, "; " before it; empty where the cache rounds tokens as they enter."""
    blocks = {
        name: spec.block_tokens
        for name, spec in (("keys", quant.k), ("values", quant.v))
        if spec is not None and spec.keeps_recent
    }
    if not blocks:
        return ""
    if len(set(blocks.values())) == 1:
        blocks = {" and ".join(blocks): next(iter(blocks.values()))}
    newest = ", ".join(f"{names} of the newest 1 to {block} tokens" for names, block in blocks.items())
    return (
        f"; the cache holds {newest} exactly and older ones rounded, while a prompt is read too (KIVI and transformers "
        "read the whole prompt exactly and round it then)"
    )
