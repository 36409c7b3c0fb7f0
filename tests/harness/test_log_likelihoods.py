"""ln p of continuations and greedy answers, several at a time and behind shared starts.

Oracle: transformers' own forward and generate on each request alone.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.harness.generation import Prompt, generate
from qroar_core.harness.log_likelihoods import Request, log_likelihoods
from qroar_core.models import shared_prefixes
from qroar_core.models.condition import Condition
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

CONDITIONS = [
    Condition(RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))),
    Condition(RopeSpec("dynamic", 2.0), QuantSpec(k=QuantizerSpec(4, scale="channel", group_size=8))),
]


def drawn(ids):
    """Contexts of many lengths, three of them with the same start, and continuations of one token and more."""
    start = tuple(ids(20, seed=9).tolist())
    contexts = [tuple(ids(n, seed=n).tolist()) for n in (1, 3, 17, 40)] + [start, start + (7, 8), start + (7, 8)]
    return [Request(one, tuple(ids(n, seed=50 + n).tolist())) for one in contexts for n in (1, 2, 5)]


def by_transformers(loaded, request):
    whole = torch.tensor([request.context + request.continuation])
    with torch.no_grad():
        log_p = loaded.model(whole).logits[0].double().log_softmax(-1)[len(request.context) - 1 : -1]
    wanted = torch.tensor(request.continuation)
    return float(log_p.gather(1, wanted[:, None]).sum()), bool((log_p.argmax(1) == wanted).all())


@pytest.mark.parametrize("worth", [4, 10_000])
def test_ln_p_is_what_transformers_gives_each_alone(tiny, ids, monkeypatch, worth):
    monkeypatch.setattr(shared_prefixes, "WORTH", worth)
    loaded = tiny(dtype=torch.float64)
    asked = drawn(ids)
    greedy = loaded.model(torch.tensor([asked[0].context])).logits[0, -1].argmax()
    asked[1] = Request(asked[0].context, (int(greedy),))
    read = []
    found = log_likelihoods(loaded, Condition(), asked, 64, chunk=16, on_read=read.append)
    right = [by_transformers(loaded, one) for one in asked]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in right], abs=1e-9)
    assert [top for _, top in found] == [top for _, top in right]
    assert found[1][1]
    whole = sum(len(one.read) for one in asked)
    assert sum(read) >= whole if worth > 64 else sum(read) < whole


@pytest.mark.parametrize("condition", CONDITIONS, ids=["token", "blocks"])
def test_padding_and_shared_starts_change_nothing_under_a_quantizer(tiny, ids, monkeypatch, condition):
    loaded = tiny(dtype=torch.float64)
    asked = drawn(ids)
    alone = [log_likelihoods(loaded, condition, [one], 64)[0][0] for one in asked]
    plain = log_likelihoods(loaded, replace(condition, quant=QuantSpec()), asked, 64)
    for worth, batch in ((10_000, None), (10_000, 4), (4, None)):
        monkeypatch.setattr(shared_prefixes, "WORTH", worth)
        found = log_likelihoods(loaded, condition, asked, 64, batch=batch, chunk=16)
        assert [value for value, _ in found] == pytest.approx(alone, abs=1e-10)
    assert max(abs(a - b) for a, (b, _) in zip(alone, plain)) > 1e-3  # the quantizer is on


def test_frequencies_are_those_of_the_length_that_is_served(tiny, ids):
    """Dynamic NTK at 64 tokens past a window of 32, though no request is longer than its window."""
    loaded = tiny(dtype=torch.float64, max_position_embeddings=32)
    (one,) = [Request(tuple(ids(20, seed=1).tolist()), (3, 4))]
    dynamic = Condition(RopeSpec("dynamic", 4.0))
    short, long = (log_likelihoods(loaded, dynamic, [one], length)[0][0] for length in (22, 100))
    assert short == pytest.approx(by_transformers(loaded, one)[0], abs=1e-9)
    assert abs(long - short) > 1e-4


@pytest.mark.parametrize("worth", [4, 10_000])
def test_greedy_answers_are_those_of_transformers_generate(tiny, ids, monkeypatch, worth):
    monkeypatch.setattr(shared_prefixes, "WORTH", worth)
    loaded = tiny(dtype=torch.float64)
    start = tuple(ids(12, seed=3).tolist())
    prompts = [Prompt(start + tuple(ids(n, seed=n).tolist()), 9) for n in (1, 4, 4, 4)] + [Prompt((5, 6), 9)]
    found = generate(loaded, Condition(), prompts, 64, chunk=8)
    for one, answer in zip(prompts, found):
        right = loaded.model.generate(torch.tensor([one.ids]), max_new_tokens=9, do_sample=False)
        assert answer == right[0, len(one.ids) :].tolist()
    text = loaded.tokenizer.decode(found[1])
    stop = text[3]
    (cut,) = generate(loaded, Condition(), [replace(prompts[1], until=(stop,))], 64)
    assert found[1][: len(cut)] == cut
    assert len(cut) < 9
    assert stop in loaded.tokenizer.decode(cut)
    assert stop not in loaded.tokenizer.decode(cut[:-1])
