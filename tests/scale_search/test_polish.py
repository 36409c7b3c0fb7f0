"""The polish of tied pairs: captured q and k are the folded model's, a tie's cost falls, and a search reads both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadSpec, Cancelled
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.interpolations.tie import Tie, parse_ties
from qroar_core.maths.attention_error import attention_error
from qroar_core.models.capture import capture
from qroar_core.models.patch import apply_scales, scaled_parameters, substituted_weights, undo_scales
from qroar_core.models.text import split, windows
from qroar_core.progress import no_progress
from qroar_core.scale_search import choose_ties
from qroar_core.scale_search import run as search
from qroar_core.scale_search.contradictions import contradictions_of
from qroar_core.scale_search.figure import summary
from qroar_core.scale_search.polish import TiedChannels, find_polish
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.registry import kinds
from tests.scale_search.cancelled import last_step, whole_and_resumed
from tests.scale_search.searching import INT4, TEXTS, asked
from tests.transforms.test_kinds import drawn_polish

UNTIED = RopeSpec("yarn", 4.0)
TIED = replace(UNTIED, tie=parse_ties("4-6,12-15:0"))
LENGTH = 64


def problem_of(loaded, rope=TIED, **fields):
    fields = {"length": LENGTH, "query_rows": 8} | fields
    return SearchProblem(loaded, rope, INT4, SearchSpec(polish=True, **fields), TEXTS)


def text(count=2, length=LENGTH):
    return torch.randint(0, 100, (count, length), generator=torch.Generator().manual_seed(0))


def change(layer, q, k, taken, i):
    """Of the attention output behind W_O, squared, by softmax itself."""
    group = len(q) // len(k)
    k, v = k.repeat_interleave(group, 0), layer.v.repeat_interleave(group, 0)
    seen = layer.rows[:, None] >= torch.arange(k.shape[1])
    logits = (taken.scaling * q @ k.mT).masked_fill(~seen, -torch.inf)
    moved = logits.softmax(-1) @ v - layer.out
    return float(torch.einsum("hrc,hcd,hrd->", moved, taken.metric[i], moved))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_matrices_in_the_weights_are_matrices_on_captured_q_and_k(tiny, family):
    loaded = tiny(family, head_dim=32)
    problem, polish = problem_of(loaded, k_offset=True), drawn_polish(loaded, TIED)
    found = find_polish(problem, text(), no_progress, polish).taken
    plain = capture(loaded, UNTIED, text(), 8)
    with substituted_weights(loaded, scaled_parameters(loaded, replace(problem.none, polish=polish))):
        own = capture(loaded, TIED, text(), 8, offset=True)
    for name in ("q", "k", "constant"):  # layer 0: what it reads is the same
        mine, other = (getattr(one.windows[1][0], name) for one in (found, own))
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    assert float((own.windows[1][0].k - plain.windows[1][0].k).abs().max()) > 0.01
    for name in ("k_absmax", "k_second_moment"):
        torch.testing.assert_close(getattr(found, name)[0], getattr(own, name)[0], rtol=1e-4, atol=1e-4)
    assert torch.equal(found.cos, own.cos)
    assert torch.equal(found.sin, own.sin)
    for mine, other in zip(found.windows[0], plain.windows[0], strict=True):  # and the model it is held against
        assert torch.equal(mine.out, other.out)
        assert torch.equal(mine.exact[0], other.q)
        assert torch.equal(mine.exact[1], other.k)


def test_polishing_brings_attention_back_towards_the_model_without_a_tie(tiny):
    """Fast pairs held still move attention; the output's squared change is computed here from softmax itself."""
    loaded, rope = tiny(head_dim=32), replace(UNTIED, tie=parse_ties("2-5:0"))
    problem, ids = problem_of(loaded, rope), text()
    size = TiedChannels.of(loaded, rope, LENGTH).channels.numel()
    one = torch.eye(size, dtype=torch.float64).expand(loaded.geometry.n_layers, 1, -1, -1)
    found = find_polish(problem, ids, no_progress)
    polish = replace(found.polish, **{s: (one.expand_as(getattr(found.polish, s)[0]),) for s in "qk"})
    none = find_polish(problem, ids, no_progress, polish)
    left = []
    for i in range(loaded.geometry.n_layers):
        after, before = (
            sum(change(w[i], w[i].q, w[i].k, one.taken, i) for w in one.taken.windows) for one in (found, none)
        )
        assert 0 < after < 0.8 * before
        left.append(after / before)
    assert found.error_left == pytest.approx(sum(left) / len(left), rel=1e-3)
    assert none.error_left == pytest.approx(1.0, abs=1e-5)
    again = find_polish(problem, ids, no_progress, found.polish)
    assert again.error_left == pytest.approx(found.error_left, rel=1e-5)
    for mine, other in zip(again.taken.windows[0], found.taken.windows[0], strict=True):
        torch.testing.assert_close(mine.k, other.k, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["rows", "logits", "output", "projected"])
def test_the_error_that_scales_are_searched_by_is_held_against_the_model_without_the_tie(tiny, metric):
    """Nothing rounded, no scales: what is left is the tie's and the polish's, 0 for a tie of nothing but itself."""
    loaded = tiny(head_dim=32)
    problem = problem_of(loaded, error_metric=metric)
    found = find_polish(problem, text(), no_progress).taken
    setup = problem.objective(found).setup
    for layer, w_o in zip(found.windows[0], found.metric, strict=True):
        zero, pick = torch.zeros(len(layer.k), len(problem.bands)), torch.tensor([1, 3])
        error = attention_error(layer, zero, w_o, setup, reference=True)
        assert float(error.min()) > 1e-7
        back = replace(layer, q=layer.exact[0], k=layer.exact[1])
        assert float(attention_error(back, zero, w_o, setup, reference=True).max()) < 1e-8
        some = attention_error(layer, zero, w_o, setup, pick=pick, reference=True)
        torch.testing.assert_close(some, error[:, pick], rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_transformers_own_loss_of_the_demo_under_a_tie_falls_with_the_polish(demo):
    rope = replace(UNTIED, tie=(Tie(8, 11), Tie(12, 15, 0.0)))
    texts = {part: split(part) for part in ("calibration", "heldout")}
    search_spec = SearchSpec(polish=True, length=384, windows=3, query_rows=64)
    problem = SearchProblem(demo, rope, INT4, search_spec, texts)
    found = find_polish(problem, problem.calibration().ids, no_progress)
    unseen = windows(demo.tokenizer, texts["heldout"], 384, 4, 0).ids
    rotary = demo.model.model.rotary_emb

    def loss(spec):
        turned = rope_of(demo, spec, 384)
        before = rotary.inv_freq, rotary.attention_scaling
        rotary.inv_freq, rotary.attention_scaling = turned.inv_freq, turned.attention_factor
        try:
            with torch.inference_mode():
                return float(demo.model(unseen, labels=unseen, use_cache=False).loss)
        finally:
            rotary.inv_freq, rotary.attention_scaling = before

    untied, tied = loss(UNTIED), loss(rope)
    apply_scales(demo, replace(problem.none, polish=found.polish))
    try:
        polished = loss(rope)
    finally:
        undo_scales(demo)
    assert tied - untied > 0.02
    assert polished - untied < 0.9 * (tied - untied), (untied, tied, polished)


FEW = {"angles": True, "maps": True, "polish": True, "steps": 12}


def test_a_search_finds_scales_on_top_of_it_and_says_what_it_leaves_of_the_cost(tiny):
    loaded = tiny()
    rope = RopeSpec("linear", 2.0, tie=(Tie(4, 5), Tie(6, 7, 0.0)))
    said = []
    out = search.run(
        loaded, Setting(rope, INT4, search=asked(**FEW)), TEXTS, on_step=lambda step: said.append(step.what)
    )
    assert "polish tied pairs" in said
    assert out.found.polish.heads == (2, loaded.geometry.n_heads, loaded.geometry.n_kv_heads)
    assert [group.first for group in out.found.polish.groups] == [4, 6]
    assert out.found.maps
    assert out.smooth.polish is None
    report = out.report.polish
    assert 0 < report.error_left < 1
    assert [one.length for one in report.costs] == [one.length for one in report.polished] == [64, 16]
    assert report.costs[0].nats != report.polished[0].nats
    assert "at 64 tokens the tie costs " in report.words
    assert report.words in summary(out.report)["value"].tolist()  # what pages and the run's report show
    assert list(contradictions_of(out.report)) == []
    wrong = report.model_copy(update={"polished": report.polished[:1], "error_left": 1.5})
    problems = list(contradictions_of(out.report.model_copy(update={"polish": wrong})))
    assert [one.partition(":")[0] for one in problems] == ["polish", "polish.error_left"]


def test_a_cancelled_search_goes_on_with_its_polish(tiny):
    rope = RopeSpec("linear", 2.0, tie=(Tie(4, 5), Tie(6, 7, 0.0)))
    whole, left, again = whole_and_resumed(tiny, asked(**(FEW | {"steps": 24})), rope)
    assert left.report.polish.costs == []
    assert again.found.polish is left.found.polish
    assert last_step(again) == pytest.approx(last_step(whole), rel=1e-4)


def test_it_can_be_cancelled_while_it_is_found(tiny):
    def stop(step):
        if step.what == "polish tied pairs" and step.done == 1:
            raise Cancelled("search")

    with pytest.raises(Cancelled):
        search.run(tiny(), Setting(TIED_TINY, INT4, search=asked(**FEW)), TEXTS, on_step=stop)


TIED_TINY = RopeSpec("linear", 2.0, tie=(Tie(6, 7, 0.0),))


def test_it_is_asked_for_with_a_tie_and_the_cached_objective(tiny):
    with pytest.raises(BadSpec, match="no pairs are tied"):
        search.run(tiny(), Setting(UNTIED, INT4, search=asked(polish=True)), TEXTS)
    with pytest.raises(BadSpec, match="the kl objective searches no polish of tied pairs"):
        SearchSpec(polish=True, objective="kl")
    assert kinds()["polish"].switch.on_remedies is False


def test_ties_are_chosen_without_it(tiny):
    """`--tie auto --polish`: no tie is there yet, and what a choice costs is what it costs before a polish."""
    setting = Setting(UNTIED, INT4, search=asked(**FEW))
    assert choose_ties.why_not(tiny(), setting) == ""
    assert choose_ties.why_not(tiny(), replace(setting, quant=QuantSpec()))
