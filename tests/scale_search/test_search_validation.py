"""What decides whether scales are kept: which windows of development text, where it holds few, and never held-out."""

import pytest
import torch

from qroar_core.errors import BadText
from qroar_core.models.text import Document, windows
from qroar_core.scale_search import run as search
from qroar_core.scale_search import validation
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec
from qroar_core.statistics.intervals import paired_interval

INT4 = QuantSpec(k=QuantizerSpec(4))
LONG = "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(2000))


class NoHeldout(dict):
    """Texts that fail the test where a search asks for held-out documents."""

    def __getitem__(self, split):
        assert split != "heldout"
        return super().__getitem__(split)


def texts(*development):
    """Byte tokens: a development document of each of these lengths."""
    backwards = [Document(f"d{i}", LONG[::-1][i : i + n]) for i, n in enumerate(development)]
    return NoHeldout(calibration=[Document("c", LONG)], development=backwards, heldout=[Document("h", LONG)])


def spec(**more):
    return SearchSpec(**({"length": 200, "windows": 2, "steps": 4, "bands": BandSpec(4), "guard_tau": 100.0} | more))


def gained(loaded, scales, ids):
    scorer = WindowScorer(loaded, RopeSpec(), INT4, lambda step: None)
    return paired_interval(scorer.nll(ids, None, ""), scorer.nll(ids, scales, ""))


@pytest.mark.parametrize(("tokens", "held"), [(650, 3), (900, 4), (1900, 8)])
def test_the_gain_is_measured_on_as_many_windows_as_there_are(planted, tokens, held):
    case = planted(factor=32.0)
    outcome = search.run(case.loaded, Setting(RopeSpec(), INT4, search=spec()), texts(tokens))
    fewer = " (all that the text holds, 8 by default)" if held < 8 else ""
    assert f"on {held} development windows{fewer} of 200 tokens, every" in outcome.report.reason
    read = windows(case.loaded.tokenizer, texts(tokens)["development"], 200, held)
    gain = gained(case.loaded, outcome.found, read.ids)
    assert f"{gain.mean:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}]" in outcome.report.reason
    again = search.measure_gain(case.loaded, Setting(RopeSpec(), INT4, search=spec()), outcome.found, texts(tokens))
    assert (again.gain, again.low, again.high, again.windows) == (gain.mean, gain.low, gain.high, held)
    assert not torch.equal(outcome.found.g, torch.ones_like(outcome.found.g))


@pytest.mark.parametrize(("documents", "length"), [((390,), 195), ((150, 230, 160), 160), ((110, 199, 104), 110)])
def test_shorter_windows_decide_where_the_text_holds_no_two_of_the_searched_length(planted, documents, length):
    """The longest of which it holds two: half of one document, or the whole of the second longest."""
    case, texts_ = planted(factor=32.0), texts(*documents)
    outcome = search.run(case.loaded, Setting(RopeSpec(), INT4, search=spec()), texts_)
    said, held = outcome.report.decision, windows(case.loaded.tokenizer, texts_["development"], length, 2).ids
    assert (said.windows, said.length, said.targets) == (2, length, length - 1)
    assert (
        f"on 2 development windows of {length} tokens (the longest of which the text holds two; searched at 200 "
        "tokens), every token but the first scored" in outcome.report.reason
    )
    gain = gained(case.loaded, outcome.found, held)
    assert (said.gain, said.low, said.high) == (gain.mean, gain.low, gain.high)
    assert outcome.report.chosen == ("found" if gain.low > 0 else "identity")


def test_where_not_even_a_quarter_of_the_length_is_there_twice_identity_is_kept_and_it_is_said(planted):
    case, short = planted(factor=32.0), texts(99)
    outcome = search.run(case.loaded, Setting(RopeSpec(), INT4, search=spec()), short)
    assert outcome.report.reason == (
        "not decided: keep identity, development text holds no two windows of at least 50 tokens, so no gain can be "
        "measured"
    )
    assert (outcome.report.chosen, outcome.report.decision) == ("identity", None)
    assert outcome.kept.is_identity
    assert not outcome.found.is_identity
    with pytest.raises(BadText, match="holds no two windows of at least 50 tokens") as caught:
        search.measure_gain(case.loaded, Setting(RopeSpec(), INT4, search=spec()), outcome.found, short)
    assert "\n" not in str(caught.value)
    assert search.run(case.loaded, Setting(RopeSpec(), INT4, search=spec()), texts(100)).report.decision.length == 50


def full(**more):
    return spec(objective="full", trials=2, grid_points=3, **more)


def places(read):
    return {(name, i) for name, first, last in read.spans for i in range(first, last)}


@pytest.mark.parametrize("seed", range(4))
def test_what_the_full_objective_has_read_does_not_decide(planted, seed):
    case, texts_ = planted(factor=32.0), texts(900, 500)
    problem = SearchProblem(case.loaded, RopeSpec(), INT4, full(seed=seed), texts_)
    read, deciding = problem.development(), validation.decision_windows(problem)
    assert len(places(read)) == 2 * 200
    assert len(places(deciding)) == len(deciding) * 200
    assert len(deciding) >= 2
    assert not places(read) & places(deciding)
    plain = validation.decision_windows(SearchProblem(case.loaded, RopeSpec(), INT4, spec(seed=seed), texts_))
    assert places(read) & places(plain)  # an objective that reads none of it leaves all of it
    outcome = search.run(case.loaded, Setting(RopeSpec(), INT4, search=full(seed=seed)), texts_)
    gain = gained(case.loaded, outcome.found, deciding.ids)
    said = outcome.report.decision
    if said is not None:
        assert (said.gain, said.low, said.high) == (gain.mean, gain.low, gain.high)
        assert ", apart from those that the search has read, every token" in outcome.report.reason
    assert outcome.found.is_identity == (said is None)


def test_where_the_full_objective_leaves_too_little_identity_is_kept_and_it_is_said(planted):
    case = planted(factor=32.0)
    outcome = search.run(
        case.loaded, Setting(RopeSpec(), INT4, search=full()), texts(210, 220)
    )  # 10 and 20 tokens are left
    assert not outcome.found.is_identity
    assert outcome.kept.is_identity
    assert outcome.report.reason == (
        "not decided: keep identity, development text holds no two windows of at least 50 tokens beside what the full "
        "objective has read (2 windows), so no gain can be measured"
    )


@pytest.mark.parametrize("objective", ["cached", "full", "kl"])
def test_no_search_reads_held_out_documents(planted, objective):
    asked = spec(objective=objective, trials=2, grid_points=3, polish_steps=1)
    outcome = search.run(
        planted(factor=32.0).loaded, Setting(RopeSpec(), INT4, search=asked), texts(1900)
    )  # NoHeldout would complain
    assert outcome.found.is_identity or outcome.report.decision.windows >= 6
