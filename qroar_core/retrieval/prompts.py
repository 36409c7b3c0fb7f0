"""Prompts with a number hidden at a known token: preface, held-out text with its needles, question.

Prompts are put together from token ids, so that their length and the needle's place are exact. The joints are
line breaks and word starts, where tokenizers split anyway; a piece in the middle gets no first space of its own.
Every trial draws its own text, numbers and names from its own seed: a trial is the same under every condition, and
independent of every other but for text that two may share.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qroar_core.errors import BadText
from qroar_core.models.bos import opening
from qroar_core.models.document_tokens import encode, excerpt, tokens_held
from qroar_core.models.text import Documents, LargeDocument, bos_of
from qroar_core.models.token_ids import token_ids
from qroar_core.retrieval.wording import KEYS, LARGEST, SMALLEST, WORDINGS, Wording
from qroar_core.specs import Bos, RetrievalSpec, RetrievalTask

WORD_STARTS = "Ġ▁Ċ \n"  # how byte-level and SentencePiece tokens write the white space before a word
FILLER = "QROAR-FILLER"  # stands for the text while a chat template is applied
WITHOUT_TEMPLATE = 'ask without it (--no-chat, or "Ask through the chat template" off)'
BEFORE = 64  # tokens of a large text before the filler, in which a word start is looked for
LOOKED_AT = 5  # draws that say how long a prompt is at least
DRAWS = 10_000  # numbers tried until enough of them have equally many tokens


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One trial. `choices` are the candidate answers' tokens, the true one first; `ids` is None where it did not fit.

    `answer_at` is the position of the answer's first token inside `ids`.
    """

    task: RetrievalTask
    length: int  # tokens of prompt and generated answer together, at most
    depth: float
    trial: int
    answer: str
    choices: list[Tensor]  # int64 (m,) each, all of one m
    budget: int  # tokens a generated answer may take
    ids: Tensor | None  # int64 (length - budget,)
    answer_at: int
    origin: str  # "document, tokens a to b"


def prompts(tokenizer: Any, documents: Documents, spec: RetrievalSpec, length: int) -> Iterator[Prompt]:
    """Every trial of one length, by task and depth.

    Raises:
        BadText: no document is as long as `length` asks, or a chat template that cannot be applied.
    """
    for task in spec.tasks:
        for depth in spec.depths:
            for trial in range(spec.trials):
                yield prompt(tokenizer, documents, spec, task, length, depth, trial)


def prompt(
    tokenizer: Any,
    documents: Documents,
    spec: RetrievalSpec,
    task: RetrievalTask,
    length: int,
    depth: float,
    trial: int,
) -> Prompt:
    """One trial; see `prompts`."""
    draw = random.Random(f"{spec.seed} {task} {length} {depth} {trial}")
    words = WORDINGS[task]
    parts = _parts(tokenizer, bos_of(documents), spec, task, draw)
    keys, numbers, choices, before, after, needles, budget = parts
    room = length - _taken(parts)
    if room < 0:
        return Prompt(task, length, depth, trial, numbers[0], choices, budget, None, -1, "")
    filler, origin = _filler(tokenizer, documents, draw, room, numbers)
    starts = _word_starts(tokenizer, filler)
    shares = [depth, *(draw.random() for _ in needles[1:])]
    places = [_nearest(starts, share * room) for share in shares]
    pieces, done, answer_at = [before], 0, -1
    for i in sorted(range(len(needles)), key=lambda i: (places[i], i)):
        pieces += [filler[done : places[i]], needles[i]]
        done = places[i]
        if i == 0:
            answer_at = sum(map(len, pieces[:-1])) + _lead_tokens(tokenizer, words, keys[0])
    ids = torch.cat([*pieces, filler[done:], after])
    return Prompt(task, length, depth, trial, numbers[0], choices, budget, ids, answer_at, origin)


def shortest(tokenizer: Any, bos: Bos, spec: RetrievalSpec, task: RetrievalTask) -> int:
    """Tokens that prompts of this task and their answers take with no text around: in fewer, hardly one fits."""
    draws = (random.Random(f"{spec.seed} {task} {draw}") for draw in range(LOOKED_AT))
    return max(_taken(_parts(tokenizer, bos, spec, task, draw)) for draw in draws)


class _Parts(NamedTuple):
    """A prompt but for the text: names and numbers hidden, and their tokens; what stands before and after."""

    keys: list[str]
    numbers: list[str]
    choices: list[Tensor]
    before: Tensor
    after: Tensor
    needles: list[Tensor]
    budget: int


def _parts(tokenizer: Any, bos: Bos, spec: RetrievalSpec, task: RetrievalTask, draw: random.Random) -> _Parts:
    words = WORDINGS[task]
    keys = draw.sample(KEYS, spec.choices if task == "needles" else 1)
    numbers, choices = _numbers(tokenizer, draw, spec.choices)
    before, after = _frame(tokenizer, words, keys[0], spec.chat)
    start = opening(tokenizer, bos)
    if not (spec.chat and chat_template(tokenizer) and before[: len(start)].tolist() == list(start.ids)):
        before = start.before(before)  # a chat template may have written it
    needles = [_needle(tokenizer, words, key, number) for key, number in zip(keys, choices)]
    return _Parts(keys, numbers, choices, before, after, needles, len(choices[0]) + spec.slack)


def _taken(parts: _Parts) -> int:
    return parts.budget + len(parts.before) + len(parts.after) + sum(map(len, parts.needles))


def _coded(tokenizer: Any, text: str, *, inside: bool = True, where: str = "retrieval prompt", do: str = "") -> Tensor:
    """Token ids of a piece of prompt, `inside` it unless it is the first.

    Special tokens stand only where a chat template wrote them. No other text changes what a prompt asks in: `do` says
    what does.
    """
    return torch.tensor(token_ids(tokenizer, text, inside=inside, where=where, do=do), dtype=torch.int64)


def _numbers(tokenizer: Any, draw: random.Random, count: int) -> tuple[list[str], list[Tensor]]:
    """`count` different numbers of equally many tokens, so that no candidate is the shorter text."""
    by_tokens: dict[int, dict[str, Tensor]] = {}
    for _ in range(DRAWS):
        number = str(draw.randint(SMALLEST, LARGEST))
        ids = _coded(tokenizer, f" {number}")
        alike = by_tokens.setdefault(len(ids), {})
        alike[number] = ids
        if len(alike) == count:
            return list(alike), list(alike.values())
    raise BadText(f"its tokenizer has no {count} numbers of equally many tokens", where="retrieval")


def _needle(tokenizer: Any, words: Wording, key: str, number: Tensor) -> Tensor:
    """A needle as a paragraph of its own."""
    head = _coded(tokenizer, "\n\n" + words.needle.format(key=key))
    return torch.cat([head, number, _coded(tokenizer, words.after + "\n\n")])


def _lead_tokens(tokenizer: Any, words: Wording, key: str) -> int:
    """Tokens of a needle before its number."""
    return len(_coded(tokenizer, "\n\n" + words.needle.format(key=key)))


def _frame(tokenizer: Any, words: Wording, key: str, chat: bool) -> tuple[Tensor, Tensor]:
    """What stands before the text and behind it, the answer's beginning included."""
    asked = f"{words.preface}\n\n{FILLER}\n\n{words.question.format(key=key)}"
    lead = words.lead.format(key=key)
    first, last = asked.split(FILLER)
    plain = _coded(tokenizer, first, inside=False), _coded(tokenizer, f"{last} {lead}")
    if not (chat and chat_template(tokenizer)):
        return plain
    try:
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
        )
        before, after = whole.split(FILLER)
    except Exception as error:  # templates are programs of other people
        why = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise BadText(f"its chat template cannot be applied ({why})", where="retrieval", do=WITHOUT_TEMPLATE) from error
    # without it the same words have just been coded
    named = partial(_coded, tokenizer, where="chat template", do=WITHOUT_TEMPLATE)
    return named(before, inside=False), named(after + lead)


def chat_template(tokenizer: Any) -> bool:
    """Does this tokenizer know how its model is talked to?"""
    return getattr(tokenizer, "chat_template", None) is not None


def _filler(
    tokenizer: Any, documents: Documents, draw: random.Random, room: int, numbers: list[str]
) -> tuple[Tensor, str]:
    """`room` tokens in a row of one document, in which none of the numbers stands, and where they are from."""
    held = [tokens_held(tokenizer, document, inside=True) for document in documents]
    fitting = [document for document, tokens in zip(documents, held, strict=True) if tokens >= room]
    if not fitting:
        longest = max(held, default=0)
        raise BadText(
            f"the longest document has {longest} tokens, the prompt needs {room} of text",
            where="retrieval",
            do="give a longer text or a shorter length",
        )
    for _ in range(DRAWS):
        document = draw.choice(fitting)
        if isinstance(document, LargeDocument):
            ids, at, _, _ = excerpt(tokenizer, document, document.first, document.last, draw.random(), room + BEFORE)
            start, where = BEFORE, f"from byte {at}"
        else:
            ids = encode(tokenizer, document, inside=True)
            start, where = draw.randint(0, len(ids) - room), ""
        while start and not _begins_word(tokenizer, int(ids[start])):
            start -= 1
        filler = ids[start : start + room]
        text = tokenizer.decode(filler.tolist())
        if not any(number in text for number in numbers):
            return filler, f"{document.name}, {where or f'tokens {start} to {start + room - 1}'}"
    raise BadText("the numbers to hide occur everywhere in the text", where="retrieval", do="give another text")


def _word_starts(tokenizer: Any, filler: Tensor) -> list[int]:
    """Places in the text where a needle may stand: its start, its end, and before every token that begins a word."""
    tokens = tokenizer.convert_ids_to_tokens(filler.tolist())
    return [0, *(i for i, token in enumerate(tokens) if i and token[:1] in WORD_STARTS), len(tokens)]


def _begins_word(tokenizer: Any, token: int) -> bool:
    return tokenizer.convert_ids_to_tokens(token)[:1] in WORD_STARTS


def _nearest(places: list[int], at: float) -> int:
    return min(places, key=lambda place: abs(place - at))
