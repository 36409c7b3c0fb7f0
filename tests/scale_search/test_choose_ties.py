"""`--tie auto`: groups where K's largest channels are, at a cost that transformers itself measures."""

import copy
from dataclasses import replace

import pytest
import torch

import qroar_core as qroar
from qroar_core.errors import BadSpec
from qroar_core.interpolations.tie import Tie, ties_text
from qroar_core.models.capture import capture
from qroar_core.progress import no_progress
from qroar_core.scale_search import choose_ties, tie_cost
from qroar_core.scale_search import run as search
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result_ties import TieCost
from qroar_core.scale_search.tie_effects import TieEffects
from qroar_core.scale_search.validation import decision_windows
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.scale_search.searching import INT4, TEXTS, asked

LOUD = (13,)  # the pair of 16 that carries the largest channels of K
FREE = 1e9  # nats


def planted(tiny, factor=24.0):
    """K is large in one pair, and what q reads of it is not."""
    loaded = tiny(head_dim=32)
    geo = loaded.geometry
    for layer in loaded.model.model.layers:
        for head in range(geo.n_kv_heads):
            for pair in LOUD:
                layer.self_attn.k_proj.weight.data[head * geo.head_dim + pair] *= factor
        for head in range(geo.n_heads):
            for pair in LOUD:
                layer.self_attn.q_proj.weight.data[head * geo.head_dim + pair] /= factor
    return loaded


def setting(**rope):
    return Setting(RopeSpec("yarn", 4.0, **rope), INT4, search=asked(angles=True))


def test_the_loud_pairs_are_tied_and_nothing_that_costs_more_is(tiny):
    choice = choose_ties.run(planted(tiny), setting(), TEXTS)
    assert any(one.first <= pair <= one.last for one in choice.groups for pair in LOUD)
    left = {one.tie: one.left for one in choice.tried}
    assert left[choice.written] < 0.95 * choice.left_untied
    for one in choice.groups:
        assert one.left_without > left[choice.written]
    assert all(one.nats <= one.allowed for one in choice.costs)


def test_a_tie_that_costs_more_than_allowed_is_dropped_and_said(tiny, monkeypatch):
    monkeypatch.setattr(tie_cost, "ALLOWED", -FREE)
    monkeypatch.setattr(tie_cost, "ALLOWED_FULL", -FREE)
    choice = choose_ties.run(planted(tiny), setting(), TEXTS)
    assert choice.tie == ()
    assert choice.dropped
    assert choice.costs == []
    assert choice.sentence == f"no tie pays here; {', '.join(choice.dropped)} cost more than is allowed"


def test_where_groups_are_too_dear_smaller_ones_take_their_place(tiny, monkeypatch):
    """Nats in proportion to the squared error; what is taken where nothing is too dear costs twice what is allowed."""
    loaded = planted(tiny)
    unbound = choose_ties.run(loaded, setting(), TEXTS)  # what it takes where nothing is too dear
    problem = SearchProblem.of(loaded, setting(), TEXTS)
    effects = TieEffects(problem, problem.captured(problem.calibration().ids, no_progress))
    most = effects.cost(unbound.tie) / 2
    measured = []

    def in_proportion(problem, ties, length, before, on_step):
        measured.append(ties)
        nats = tie_cost.ALLOWED * effects.cost(ties) / most
        return TieCost(length=length, windows=2, nats=nats, low=nats, high=nats, allowed=tie_cost.ALLOWED)

    monkeypatch.setattr(choose_ties, "cost_of", in_proportion)
    choice = choose_ties.run(loaded, setting(), TEXTS)
    assert measured[0] == unbound.tie
    assert measured[-1] == choice.tie
    assert effects.cost(choice.tie) <= most
    assert any(one.first <= pair <= one.last for one in choice.groups for pair in LOUD)
    assert choice.left < 0.95 * choice.left_untied
    assert choice.dropped == [ties_text((one,)) for one in unbound.tie if one not in choice.tie]


def test_the_largest_channels_are_counted_where_they_are(tiny):
    """By hand: the channel with the largest |k| of every token, halves of a head folded onto pairs."""
    loaded = planted(tiny)
    problem = SearchProblem(loaded, RopeSpec("yarn", 4.0), INT4, asked(), TEXTS)
    taken = capture(loaded, problem.rope, problem.windows("calibration", 64, 1), 8)
    shares = choose_ties.absmax_shares(problem, taken)
    by_hand = torch.zeros(16, dtype=torch.float64)
    for layer in taken.windows[0]:
        for token in layer.k.reshape(-1, 32):
            by_hand[int(token.abs().argmax()) % 16] += 1
    assert torch.equal(shares, by_hand / by_hand.sum())
    assert shares[list(LOUD)].sum() > 0.9


TIES = (Tie(6, 8, 0.5), Tie(13, 15, 0.0))


def own_losses(loaded, ids):
    """transformers' loss of each window under YaRN, and with the frequencies of `TIES` in its rotary module."""
    model = copy.deepcopy(loaded.model)
    config = model.config
    config.rope_parameters = {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": config.rope_parameters["rope_theta"],
        "original_max_position_embeddings": loaded.geometry.original_context,
    }
    rotary = model.model.rotary_emb = type(model.model.rotary_emb)(config)
    untied = rotary.inv_freq.clone()
    tied = untied.clone()
    tied[6:9] = 0.5 * untied[6:9].log().mean().exp()
    tied[13:16] = 0.0

    def losses(inv_freq):
        rotary.inv_freq = inv_freq
        with torch.no_grad():
            return [float(model(input_ids=row[None], labels=row[None]).loss) for row in ids]

    return losses(untied), losses(tied)


def test_the_cost_is_what_transformers_own_loss_says(tiny):
    loaded = tiny(head_dim=32)
    problem = SearchProblem(loaded, RopeSpec("yarn", 4.0), QuantSpec(), asked(), TEXTS)
    ids = problem.windows("development", 64, 4, fewer=True)
    found = choose_ties.cost_of(problem, TIES, 64, {}, no_progress)
    untied, tied = own_losses(loaded, ids)
    by_hand = sum(b - a for a, b in zip(untied, tied, strict=True)) / len(ids)
    assert found.nats == pytest.approx(by_hand, abs=2e-6)
    assert abs(by_hand) > 1e-4
    assert (found.length, found.windows) == (64, len(ids))


def test_a_gain_beside_the_model_without_a_tie_counts_what_the_tie_costs(tiny):
    """Nothing quantized and no scales: what is left of the gain is the tie's cost."""
    loaded = tiny(head_dim=32)
    under = Setting(RopeSpec("yarn", 4.0, tie=TIES), QuantSpec(), search=asked())
    problem = SearchProblem.of(loaded, under, TEXTS)
    found = search.measure_gain(loaded, under, problem.none, TEXTS, from_untied=True)
    untied, tied = own_losses(loaded, decision_windows(problem).ids)
    by_hand = sum(a - b for a, b in zip(untied, tied, strict=True)) / len(untied)
    assert found.gain == pytest.approx(by_hand, abs=2e-6)
    assert search.measure_gain(loaded, under, problem.none, TEXTS).gain == 0.0


@pytest.mark.parametrize(
    "quant", [QuantSpec(), QuantSpec(v=QuantizerSpec(4))], ids=["nothing is quantized", "V alone is"]
)
def test_what_a_tie_cannot_help_is_refused(tiny, quant):
    with pytest.raises(BadSpec, match="no query reads K rounded"):
        choose_ties.run(tiny(head_dim=32), replace(setting(), quant=quant), TEXTS)


def test_a_tie_of_the_setting_is_left_out_of_account(tiny):
    loaded = planted(tiny)
    plain, tied = (choose_ties.run(loaded, setting(tie=tie), TEXTS) for tie in ((), (Tie(2, 5),)))
    assert [one.tie for one in plain.tried] == [one.tie for one in tied.tried]
    assert plain.left_untied == tied.left_untied


def test_the_library_gives_a_choice_that_draws_and_saves_itself(tiny, tmp_path):
    loaded = planted(tiny)
    setup = qroar.Setup(rope=RopeSpec("yarn", 4.0), quantization=INT4, length=64)
    choice = qroar.choose_ties(loaded, setup)
    assert any(one.first <= pair <= one.last for one in choice.groups for pair in LOUD)
    assert qroar.TieChoice.load(choice.save(tmp_path / "ties.json")) == choice
    assert choice.figures() == ["tied_groups", "tried_ties"]
    table = choice.pictures("tied_groups")[0].table
    assert table["recovered"].tolist() == pytest.approx([one.left_without - choice.left for one in choice.groups])
    assert RopeSpec("yarn", 4.0, tie=choice.tie).tie == choice.tie
