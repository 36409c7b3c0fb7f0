"""Prompts with a common start: states as of a run of their own, and every shared token read once.

Oracles: `Stream.run` on each prompt alone; the number of different prefixes, counted as a set.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from qroar_core.models import shared_prefixes
from qroar_core.models.shared_prefixes import common_start, each_prompt, sharing
from qroar_core.models.stream import Condition, open_stream
from qroar_core.specs import QuantizerSpec, QuantSpec

BLOCKS = QuantizerSpec(4, scale="channel", group_size=4)  # rounds four tokens at once, as KIVI does
A, B, C, D = (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 9), (1, 2, 7), (1, 2, 7, 7, 7, 1)
PROMPTS = [C, (8, 8), A, B, (1, 2, 3), A, (5,), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), D, D[:-1] + (2,)]


@pytest.fixture(autouse=True)
def every_start_is_worth_it(monkeypatch):
    monkeypatch.setattr(shared_prefixes, "WORTH", 1)


@pytest.mark.parametrize(
    "quant", [QuantSpec(), QuantSpec(k=QuantizerSpec(4)), QuantSpec(k=BLOCKS, v=QuantizerSpec(4))], ids=str
)
def test_a_prompt_behind_others_has_the_states_of_one_alone(tiny, quant):
    loaded = tiny(dtype=torch.float64)
    condition = Condition(quant=quant)
    alone = []
    with open_stream(loaded, condition, 32, chunk=4) as stream:
        for prompt in PROMPTS:
            alone.append(torch.cat([piece.hidden for piece in stream.run(torch.tensor(prompt))], 1)[:, -1:])
    read = []
    with open_stream(loaded, condition, 32, chunk=4) as stream:
        seen = {}
        for i, hidden in each_prompt(loaded, stream, PROMPTS, room=14, on_read=read.append):
            assert stream.fed == len(PROMPTS[i])
            seen[i] = hidden
            stream.feed(torch.tensor([[11, 12, 13, 14]]))  # an answer, which the next prompt must not see
    assert sorted(seen) == list(range(len(PROMPTS)))
    for i, hidden in seen.items():
        torch.testing.assert_close(hidden, alone[i], rtol=0, atol=1e-12)
    prefixes = {prompt[: n + 1] for prompt in PROMPTS for n in range(len(prompt))}
    assert sum(read) == len(prefixes) == 19


def test_which_prompts_share_a_start(monkeypatch):
    assert [common_start(a, b) for a, b in itertools.combinations((A, B, C), 2)] == [4, 2, 2]
    assert common_start(A, A) == 6
    monkeypatch.setattr(shared_prefixes, "WORTH", 3)
    assert sharing(PROMPTS) == {0, 2, 3, 4, 5, 7, 8, 9}
    assert sharing([A]) == sharing([]) == set()
