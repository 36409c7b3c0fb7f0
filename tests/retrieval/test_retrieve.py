"""Retrieval against transformers' own forward and generate, against fresh streams, and with a loss that is planted."""

import pytest
import torch

from qroar_core.errors import Cancelled
from qroar_core.models.cache_snapshot import forced_log_prob, mark, rewind
from qroar_core.models.condition import Condition
from qroar_core.models.decode import decode, read
from qroar_core.models.score import logits_of
from qroar_core.models.stream import open_stream
from qroar_core.models.text import Document
from qroar_core.retrieval import run as retrieve
from qroar_core.retrieval.answers import outcome_of
from qroar_core.retrieval.prompts import prompts
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RetrievalSpec, RopeSpec
from qroar_core.transforms.scales import Scales
from tests.evaluation.generated import HELDOUT, KIVI, generated, transformers_demo

pytestmark = pytest.mark.slow

YARN = RopeSpec("yarn", 4.0)
INT3 = QuantSpec(k=QuantizerSpec(3), v=QuantizerSpec(4))
TEXT = [Document("a", "".join("the quick brown fox, "[i * i % 21] for i in range(4000)))]
SMALL = RetrievalSpec(lengths=(500,), depths=(0.0, 1.0), trials=2, choices=3, slack=4)


def plain_log_prob(model, ids, answer):
    """transformers' forward over prompt and answer, no cache: log_softmax at the answer's tokens."""
    with torch.inference_mode():
        log_p = model(torch.cat([ids, answer])[None], use_cache=False).logits[0].log_softmax(-1)
    return [float(log_p[len(ids) + i - 1, token]) for i, token in enumerate(answer.tolist())]


@pytest.mark.parametrize(
    ("rope", "block", "length"),
    [
        (RopeSpec(), {"rope_type": "default"}, 250),
        (YARN, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, 600),
    ],
    ids=["plain", "yarn"],
)
def test_the_reference_is_transformers_own_forward_and_generate(demo, rope, block, length):
    spec = RetrievalSpec(lengths=(length,), depths=(0.5,), trials=2, choices=3, chunk=128)
    result = retrieve.run(demo, Setting(rope, QuantSpec()), None, spec, HELDOUT)
    model = transformers_demo(block)
    asked = list(prompts(demo.tokenizer, HELDOUT, spec, length))
    assert len(result.trials) == len(asked) == 4
    for trial, p in zip(result.trials, asked, strict=True):
        by_hand = [sum(plain_log_prob(model, p.ids, choice)) / len(choice) for choice in p.choices]
        assert trial.log_prob == pytest.approx(by_hand[0], abs=2e-4)
        assert trial.margin == pytest.approx(by_hand[0] - sum(by_hand[1:]) / 2, abs=2e-4)
        assert trial.rank == 1 + sum(other > by_hand[0] for other in by_hand[1:])
        tokens = generated(model, p.ids, p.budget)
        assert trial.said == demo.tokenizer.decode(tokens)
        assert trial.outcome == outcome_of(trial.said, p.answer, tokens[-1] == 0)
        assert (trial.prompt_tokens, trial.answer_at, trial.answer) == (len(p.ids), p.answer_at, p.answer)


@pytest.mark.parametrize(
    "quant", [INT3, KIVI, QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(5))], ids=["token", "kivi", "active"]
)
def test_scores_and_answers_from_one_cache_equal_streams_of_their_own(tiny, ids, quant):
    """KIVI rounds blocks of 8 and 16: answers of 20 tokens cross their ends, and a rewind must bring raw K back."""
    loaded = tiny("qwen2")
    prompt, answers = ids(69), [ids(20, seed=s) for s in (1, 2)]
    condition = Condition(RopeSpec("linear", 2.0), quant)
    with open_stream(loaded, condition, 100, chunk=24) as stream:
        hidden = read(loaded, stream, prompt)
        at = mark(stream)
        shared = [forced_log_prob(loaded, stream, hidden, answer) for answer in (*answers, answers[0])]
        again = torch.stack([half.store[:, :, :69] for pair in stream.halves for half in pair])
        stream.feed(answers[1][None])
        rewind(stream, at)
        assert stream.fed == 69
        assert torch.equal(again, torch.stack([half.store[:, :, :69] for pair in stream.halves for half in pair]))
        from qroar_core.models.decode import decode_from

        chosen = decode_from(loaded, stream, hidden, 20)
    assert torch.equal(shared[0], shared[2])
    for answer, log_p in zip(answers, shared, strict=False):
        for i in (0, 1, 11, 12, 19):
            with open_stream(loaded, condition, 100) as stream:
                last = torch.cat([p.hidden for p in stream.run(torch.cat([prompt, answer[:i]]))], 1)[0, -1:]
                alone = logits_of(loaded, last).log_softmax(-1)[0, answer[i]]
            assert float(log_p[i]) == pytest.approx(float(alone), abs=1e-4)
    fresh = decode(loaded, condition, prompt, 20, length=100)
    assert chosen.tokens == fresh.tokens
    assert chosen.log_prob == pytest.approx(fresh.log_prob, abs=1e-4)


def test_scales_that_repair_bring_the_reference_back_on_the_same_trials(planted):
    case = planted(factor=64.0)
    g = torch.ones(2, 2, len(case.bands), dtype=torch.float64)
    g[case.layer, case.kv_head, case.band] = case.factor
    tuned = Scales("symmetric", "kv_head", case.bands, g)
    result = retrieve.run(case.loaded, Setting(RopeSpec(), QuantSpec(k=QuantizerSpec(6))), tuned, SMALL, TEXT)
    by = {
        who: [t for t in result.trials if (t.model, t.scales) == who]
        for who in (("reference", "identity"), ("quantized", "identity"), ("quantized", "tuned"))
    }
    reference, quantized, repaired = by.values()
    assert len(reference) == len(quantized) == len(repaired) == 8
    same = [[(t.task, t.length, t.depth, t.trial, t.answer, t.answer_at) for t in trials] for trials in by.values()]
    assert same[0] == same[1] == same[2]

    def distance(trials):
        return sum(abs(a.log_prob - b.log_prob) for a, b in zip(reference, trials, strict=True))

    assert distance(repaired) < 0.25 * distance(quantized)
    assert {(c.model, c.scales) for c in result.cells} == set(by)
    assert {d.what for d in result.differences} == {"quantized - reference", "tuned - quantized"}
    cell = next(c for c in result.cells if (c.task, c.depth, c.scales) == ("needles", 1.0, "tuned"))
    mine = [t.log_prob for t in repaired if (t.task, t.depth) == ("needles", 1.0)]
    assert cell.log_prob == pytest.approx(sum(mine) / 2)


def test_prompts_that_do_not_fit_are_counted_and_never_run(tiny):
    spec = RetrievalSpec(tasks=("needles",), lengths=(200, 520), depths=(0.5,), trials=2, choices=3, slack=4)
    result = retrieve.run(tiny(), Setting(RopeSpec(), QuantSpec()), None, spec, TEXT)
    short, long, total = result.cells
    assert (short.length, short.trials, short.unfit, short.hit_low, short.log_prob) == (200, 0, 2, None, None)
    assert (long.length, long.trials, long.unfit) == (520, 2, 0)
    assert (total.length, total.trials, total.unfit) == (None, 2, 2)
    assert {t.length for t in result.trials} == {520}
    assert "2 more prompts did not fit" in result.findings[0].sentence
    nothing = retrieve.run(tiny(), Setting(RopeSpec(), INT3), None, RetrievalSpec(lengths=(200,), trials=1), TEXT)
    assert nothing.trials == []
    assert [f.sentence for f in nothing.findings] == [
        "Passkey: no prompt fits into these lengths (5 tried): choose longer ones",
        "Needles: no prompt fits into these lengths (5 tried): choose longer ones",
    ]


def test_a_quantizer_with_a_static_range_is_calibrated(tiny):
    quant = QuantSpec(k=QuantizerSpec(8, scale="tensor"))
    result = retrieve.run(tiny(), Setting(RopeSpec(), quant), None, SMALL, TEXT)
    assert [t.model for t in result.trials].count("quantized") == 8


def test_a_result_is_itself_again_from_its_file(tiny, tmp_path):
    from qroar_core.retrieval.result import Retrieval

    result = retrieve.run(tiny(), Setting(RopeSpec(), INT3), None, SMALL, TEXT)
    (tmp_path / "retrieval.json").write_text(result.to_json())
    again = Retrieval.from_file(tmp_path / "retrieval.json")
    assert again.to_json() == result.to_json()
    assert again.tasks == ["passkey", "needles"]
    assert again.chance == pytest.approx(1 / 3)


def test_cancel_stops_inside_a_prompt_and_leaves_the_model_as_it_was(tiny):
    loaded = tiny()
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    seen = []

    def stop(step):
        seen.append(step)
        if len(seen) == 40:
            raise Cancelled("retrieve")

    spec = RetrievalSpec(lengths=(500,), depths=(0.5,), trials=1, choices=2, chunk=64)
    with pytest.raises(Cancelled):
        retrieve.run(loaded, Setting(RopeSpec("linear", 2.0), QuantSpec(k=INT3.k)), None, spec, TEXT, on_step=stop)
    done = [step.fraction for step in seen]
    assert done == sorted(done)
    assert "passkey 50% deep" in seen[0].what
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())
    assert loaded.model.config._attn_implementation_internal == "sdpa"
    seen = [None] * 1000
    retrieve.run(loaded, Setting(RopeSpec(), INT3), None, spec, TEXT, on_step=seen.append)
    assert 0.95 < seen[-1].fraction <= 1
