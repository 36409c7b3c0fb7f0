"""Numbers and sentences of a comparison: intervals by scipy, and every way a remedy can stand to band scales."""

import numpy as np
import pytest
from scipy import stats

from qroar_core.remedies.findings import MeasuredRemedy, bands_help, remedy_rows, sentences
from qroar_core.remedies.result import Comparison
from tests.helpers import planted_comparison

HARD = np.array([2.0, 2.4, 1.8, 2.1, 2.2, 1.9])
NOISE = {  # small differences that do not line up between remedies
    "plain": [0.0, 0.02, -0.02, 0.01, -0.01, 0.0],
    "plain+": [0.01, -0.02, 0.0, 0.02, 0.0, -0.01],
    "smooth_attention": [-0.01, 0.0, 0.02, -0.02, 0.01, 0.0],
    "rotation": [0.0, -0.01, 0.01, 0.0, -0.02, 0.02],
    "rotation+": [0.02, 0.01, 0.0, -0.01, 0.0, -0.02],
    "plain++": [0.02, 0.0, 0.01, -0.01, -0.02, 0.0],
    "rotation++": [-0.01, -0.02, 0.0, 0.0, 0.02, 0.01],
    "gptq": [-0.02, 0.0, -0.01, 0.01, 0.02, 0.0],
    "gptq+": [0.01, 0.02, -0.02, 0.0, -0.01, 0.0],
}


def rows(**cost):
    """Rows of remedies from nats above the reference."""
    measured = [
        MeasuredRemedy(
            key.rstrip("+"), (HARD + nats + np.array(NOISE[key])).tolist(), key.endswith("+"), "", key.endswith("++")
        )
        for key, nats in {k.replace("_turned", "++").replace("_on", "+"): v for k, v in cost.items()}.items()
    ]
    return remedy_rows(HARD.tolist(), measured, 0.95)


def said(**cost):
    return sentences(HARD.tolist(), rows(**cost), 1024, 0.95)


def test_gains_are_paired_intervals_and_shares_of_the_gap():
    plain, bands, turned, both = rows(plain=0.5, plain_on=0.3, rotation=0.2, rotation_on=0.1)
    assert plain.gain is None
    assert plain.key == "plain"
    for row, other, mean, low, high in (
        (bands, plain, bands.gain, bands.gain_low, bands.gain_high),
        (turned, plain, turned.gain, turned.gain_low, turned.gain_high),
        (both, plain, both.gain, both.gain_low, both.gain_high),
        (both, turned, both.added, both.added_low, both.added_high),
    ):
        apart = np.array(other.window_nll) - np.array(row.window_nll)
        expected = stats.t.interval(0.95, 5, apart.mean(), stats.sem(apart))
        assert (mean, low, high) == pytest.approx((apart.mean(), *expected))
    assert (turned.added, bands.added) == (None, bands.gain)
    gap = np.mean(plain.window_nll) - HARD.mean()
    assert both.gap_recovered == pytest.approx(both.gain / gap)
    assert (bands.name, turned.name, both.name) == (
        "band scales",
        "Hadamard rotation of q and k",
        "Hadamard rotation of q and k + band scales",
    )


def test_the_free_choice():
    one = said(plain=0.5, plain_on=0.2, smooth_attention=0.4)
    assert one[0].endswith("the largest gain is that of band scales: +0.3000 nats [+0.2770, +0.3230], 60% of it")
    assert "more than SmoothAttention: they are the free choice" in one[1]
    two = said(plain=0.5, plain_on=0.4, smooth_attention=0.2)
    assert "SmoothAttention, free as well, gains +0.2000 nats" in two[1]
    three = said(plain=0.5, plain_on=0.4, smooth_attention=0.401)
    assert "SmoothAttention, free as well, is not significantly different" in three[1]
    four = said(plain=0.5, plain_on=0.4, rotation=0.2)  # a rotation is not free
    assert four[1].endswith("they are the free choice")
    five = said(plain=0.5, plain_on=0.499)
    assert five[1].startswith("Band scales alone gain nothing significant (+0.0010 nats")


@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (0.1, "gains +0.2000 nats"),
        (0.45, "gains +0.1500 nats"),
        (0.301, "not significantly different from band scales"),
    ],
)
def test_against_a_rotation(turned, words):
    one = said(plain=0.5, plain_on=0.3, rotation=turned)[2]
    assert one.startswith("A rotation, which the runtime must do for every token,")
    assert words in one
    assert ("less than band scales" in one) == (turned == 0.45)


@pytest.mark.parametrize(
    ("on", "words"),
    [
        (0.1, "Band scales add on top of Hadamard"),
        (0.2, "Band scales add nothing significant on top of Hadamard"),
        (0.3, "Band scales cost on top of Hadamard"),
    ],
)
def test_on_top_of_a_rotation(on, words):
    assert said(plain=0.5, plain_on=0.3, rotation=0.2, rotation_on=on)[3].startswith(words)


@pytest.mark.parametrize(
    ("turned", "best", "words"),
    [
        (0.1, "band scales and angles", "gains +0.2000 nats LOW more than the scales alone"),
        (0.301, "band scales", "is not significantly different from the scales alone (-0.0010 nats LOW)"),
        (0.4, "band scales", "costs +0.1000 nats LOW: keep to the scales alone"),
    ],
)
def test_turning_pairs_is_told_beside_the_scales_alone(turned, best, words):
    _, free, turning, rotated, *_ = said(plain=0.5, plain_on=0.3, plain_turned=turned, rotation=0.2, rotation_on=0.1)
    assert free.startswith(f"Where the runtime does not rotate, {best} are free")
    apart = turned - 0.3 + np.array(NOISE["plain++"]) - np.array(NOISE["plain+"])
    low, high = stats.t.interval(0.95, 5, apart.mean(), stats.sem(apart))
    low, high = (low, high) if turned == 0.4 else (-high, -low)
    assert turning == f"Turning the pairs too {words.replace('LOW', f'[{low:+.4f}, {high:+.4f}]')}"
    assert rotated.endswith(f"than {best}")
    assert ("less" in rotated) == (turned == 0.1)


def test_angles_on_top_of_a_remedy_have_a_sentence_of_their_own():
    made = rows(plain=0.5, plain_on=0.3, rotation=0.2, rotation_on=0.2, rotation_turned=0.1)
    *_, scales, both = sentences(HARD.tolist(), made, 1024, 0.95)
    assert scales.startswith("Band scales add nothing significant on top of Hadamard")
    assert both.startswith("Band scales and angles add on top of Hadamard rotation of q and k (+0.1000 nats")
    turned = made[-1]
    assert (turned.key, turned.name) == ("rotation++", "Hadamard rotation of q and k + band scales and angles")
    assert turned.added == pytest.approx(np.mean(np.array(made[2].window_nll) - np.array(turned.window_nll)))


def test_remedies_of_one_kind_share_a_sentence():
    *_, last = said(plain=0.5, plain_on=0.3, rotation=0.2, rotation_on=0.1, gptq=0.3, gptq_on=0.1)
    assert last.startswith("Band scales add on top of Hadamard rotation of q and k (+0.1000 nats")
    assert " and GPTQ (+0.2000 nats" in last


def test_where_scales_cannot_act():
    still = [
        MeasuredRemedy("plain", (HARD + 0.5).tolist(), no_op="Symmetric scales are an exact no-op here: rows."),
        MeasuredRemedy("gptq", (HARD + 0.2 + 0.01 * HARD).tolist(), no_op="the same"),
    ]
    found = sentences(HARD.tolist(), remedy_rows(HARD.tolist(), still, 0.95), 512, 0.95)
    assert "the largest gain is that of GPTQ" in found[0]
    assert found[1] == "Band scales alone cannot act here. Symmetric scales are an exact no-op here: rows"
    assert found[2].startswith("Band scales are an exact no-op under GPTQ")


def test_a_quantizer_that_costs_nothing():
    assert said(plain=0.001, plain_on=0.0) == [
        "At 1024 tokens this quantizer costs nothing significant (+0.0010 nats [-0.0138, +0.0158]): nothing to repair"
    ]
    (_, bands) = rows(plain=0.001, plain_on=0.0)
    assert bands.gap_recovered is None


def test_a_comparison_is_a_file(tmp_path):
    from tests.helpers import planted_comparison

    made = planted_comparison.comparison()
    (tmp_path / "comparison.json").write_text(made.to_json())
    again = Comparison.from_file(tmp_path / "comparison.json")
    assert [row.key for row in again.rows] == [row.key for row in made.rows]
    assert again.rows[1].gain == pytest.approx(made.rows[1].gain, rel=1e-5)


def of_documents(documents):
    """Band scales that gain 0.1, 0.5 and 0.9 nats, two windows each."""
    won = np.repeat([0.1, 0.5, 0.9], 2)
    plain = MeasuredRemedy("plain", (HARD + 1.0 + won).tolist())
    made = remedy_rows(HARD.tolist(), [plain, MeasuredRemedy("plain", (HARD + 1.0).tolist(), True)], 0.95)
    told = sentences(HARD.tolist(), made, 1024, 0.95, documents)
    whole = planted_comparison.comparison()
    return whole.model_copy(update={"rows": made, "sentences": told, "documents": documents})


@pytest.mark.parametrize(
    ("documents", "good", "words"),
    [
        (
            ["a", "a", "b", "b", "c", "c"],
            False,
            "But counted over 3 documents instead of 6 windows, the gain is not sig",
        ),
        (
            ["a", "b", "c", "d", "e", "f"],
            True,
            "Counted over 6 documents instead of 6 windows, the gain remains significant: +0.5",
        ),
        ([], True, "band scales are free"),
    ],
)
def test_band_scales_help_where_documents_bear_it_out(documents, good, words):
    """Over six windows t is 3.8, over three documents 2.2, which needs 4.3."""
    found = of_documents(documents)
    assert bands_help(found) is good
    assert any(words in sentence for sentence in found.sentences)


def test_a_comparison_says_which_targets_it_scores_and_what_its_intervals_are_over():
    assert planted_comparison.comparison().measured_on.endswith(
        "seed 0. On held-out text all 1,023 targets of each window scored; intervals over windows"
    )


OWN = {  # nats above the reference, and differences that do not line up
    ("plain", False): (0.5, NOISE["plain"]),
    ("pair_scales", False): (0.2, NOISE["plain+"]),
    ("pair_scales", True): (0.1, NOISE["rotation+"]),
    ("tied_maps", False): (0.25, NOISE["gptq"]),
    ("tied_maps", True): (0.3, NOISE["gptq+"]),
    ("rotation", False): (0.3, NOISE["rotation"]),
}


def own_scales(**better):
    """Remedies with scales of their own; the tie costs 0.01 nats unquantized."""
    made = []
    for (method, turned), (nats, noise) in OWN.items():
        nll = (HARD + better.get(method, nats) + np.array(noise)).tolist()
        tied = (HARD + 0.01 + np.array(NOISE["plain++"])).tolist() if method == "tied_maps" else None
        made.append(
            MeasuredRemedy(method, nll, turned=turned, note="pairs 8-9 are tied" * bool(tied), tied_reference=tied)
        )
    return remedy_rows(HARD.tolist(), made, 0.95)


def interval(apart):
    low, high = stats.t.interval(0.95, 5, np.mean(apart), stats.sem(apart))
    return f"{np.mean(apart):+.4f} nats [{low:+.4f}, {high:+.4f}]"


def test_the_best_with_scales_of_its_own_stands_beside_a_rotation_and_under_one():
    made = own_scales()
    nll = {row.key: np.array(row.window_nll) for row in made}
    found = sentences(HARD.tolist(), made, 1024, 0.95)
    cost = interval(0.01 + np.array(NOISE["plain++"]))
    less, more = interval(nll["rotation"] - nll["pair_scales"]), nll["pair_scales"] - nll["pair_scales/rotation"]
    assert found[1:] == [
        f"Tied maps: pairs 8-9 are tied; in full precision the tie costs {cost}, which counts against them",
        f"A rotation, which the runtime must do for every token, gains {less} less than pair scales and angles",
        f"On top of pair scales and angles, the best with scales of its own, a rotation adds {interval(more)}",
    ]
    other = sentences(HARD.tolist(), own_scales(pair_scales=0.4), 1024, 0.95)
    assert other[3].startswith("On top of tied maps, the best with scales of its own, a rotation costs +0.0500 nats")
    whole = planted_comparison.comparison().model_copy(update={"reference_window_nll": HARD.tolist(), "rows": made})
    assert bands_help(whole)
    assert not bands_help(whole.model_copy(update={"rows": [made[0], made[2], made[5]]}))  # the runtime's rotations


def test_what_a_tie_costs_is_said_where_nothing_is_to_be_repaired():
    found = sentences(HARD.tolist(), own_scales(plain=0.001), 1024, 0.95)
    assert "nothing to repair" in found[0]
    assert [one.split(":")[0] for one in found[1:]] == ["Tied maps"]
