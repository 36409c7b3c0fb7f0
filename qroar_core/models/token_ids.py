"""Texts as token ids for a model: no special tokens around them, none that the model has no row for.

An id past the embedding is an IndexError on a CPU and a device assert on a GPU, which ends the process; so each text
is checked here, where it becomes ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from qroar_core.errors import BadCheckpoint, BadText

_ROWS: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # rows of the embedding behind a tokenizer
_INSIDE: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # see `_without_first_space`
EXTENDED = "give a checkpoint whose embedding was extended"
PROBES = ("a", "A", "0")  # texts that most tokenizers give a token for


def know_rows(tokenizer: Any, rows: int) -> None:
    """From now on `token_ids` refuses a text with an id past `rows`, the rows of the model's embedding."""
    _ROWS[tokenizer] = rows


def embedding_rows(tokenizer: Any) -> int | None:
    """Rows of the embedding behind a tokenizer; None where nobody said."""
    try:
        return _ROWS.get(tokenizer)
    except TypeError:  # a test's own, which takes no weak reference
        return None


def token_ids(
    tokenizer: Any, text: str, *, inside: bool = False, where: str = "", do: str = "give a text without it"
) -> list[int]:
    """Token ids of a text without special tokens around it.

    Args:
        inside: the text stands in the middle of another, so it gets no first space of the tokenizer's own
            (SentencePiece writes one before every text).
        where, do: for the message: whose text it is, and what helps but another checkpoint.
    Raises:
        BadText: it holds a token that the model's embedding has no row for.
    """
    bare = _without_first_space(tokenizer) if inside else None
    if bare is not None:
        ids = bare.encode(text, add_special_tokens=False).ids
    else:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    rows = _ROWS.get(tokenizer)
    if rows is not None and ids and max(ids) >= rows:
        past = next(i for i in ids if i >= rows)
        raise BadText(
            f"it holds the token {tokenizer.convert_ids_to_tokens(past)!r} with id {past}, the model's embedding has "
            f"{rows} rows",
            where=where or "text",
            do=", or ".join(filter(None, (do, EXTENDED))),
        )
    return list(ids)


def put_around(backend: Any, where: str = "") -> tuple[list[int], list[int]]:
    """Ids that a tokenizers object puts before a text, and behind it.

    It is asked with a text that it has a token for: a vocabulary of amino acids has none for "a", a normalizer may
    drop any letter, and what it makes of no token at all does not show on which side of the text it stands.

    Raises:
        BadCheckpoint: it gives no token for any of its own words.
    """
    for text in _probes(backend):
        coded = backend.encode(text)
        own = [i for i, put in enumerate(coded.special_tokens_mask) if not put]
        if own:
            return list(coded.ids[: own[0]]), list(coded.ids[own[-1] + 1 :])
    raise BadCheckpoint(
        "its tokenizer gives no token for any word of its vocabulary",
        where=where,
        do="look at the normalizer, pre_tokenizer and post_processor of tokenizer.json",
    )


def _probes(backend: Any) -> Iterator[str]:
    """Texts to ask a tokenizer with: usual ones, its vocabulary, and the words added to it."""
    yield from PROBES
    for word, number in sorted(backend.get_vocab(with_added_tokens=False).items(), key=lambda each: each[1]):
        yield word
        yield backend.decode([number], skip_special_tokens=False)  # without the marks of a byte alphabet
    for token in backend.get_added_tokens_decoder().values():
        yield token.content


def adds_first_space(tokenizer: Any) -> bool:
    """Does this tokenizer write a space of its own before a text?"""
    return _without_first_space(tokenizer) is not None


def _without_first_space(tokenizer: Any) -> Any:
    """A copy of the tokenizers object that writes no space before a text, or None where it writes none anyway."""
    if tokenizer not in _INSIDE:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        _INSIDE[tokenizer] = None if backend is None else _bared(backend)
    return _INSIDE[tokenizer]


def _bared(backend: Any) -> Any:
    from tokenizers import Tokenizer

    parts = {}
    for part, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        step = getattr(backend, part)
        before = None if step is None else json.loads(step.__getstate__())
        after = _bare(before, inner)
        if after != before:
            parts[part] = after
    if not parts:
        return None
    return Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | parts))


def _bare(step: dict[str, Any] | None, inner: str) -> dict[str, Any] | None:
    if step is None or step["type"] == "Prepend":
        return None
    if step["type"] == "Sequence":
        return step | {inner: [bare for each in step[inner] if (bare := _bare(each, inner)) is not None]}
    if step["type"] == "Metaspace":
        return step | {"prepend_scheme": "never"}
    return step | {"add_prefix_space": False} if step.get("add_prefix_space") else step
