"""The Learn pictures: figure, table and lesson say the same; few bytes; no missing words."""

import math

import plotly.io
import pytest

from qroar_core.figures.lessons import aliasing as aliasing_figures
from qroar_core.figures.lessons import clocks as clocks_figures
from qroar_core.figures.lessons import commuting as commuting_figures
from qroar_core.figures.lessons import interpolations as bends_figures
from qroar_core.figures.lessons import shared_step as shared_step_figures
from qroar_core.figures.lessons import tied_clocks as tied_figures
from qroar_core.figures.lessons import turning as turning_figures
from qroar_core.figures.lessons import window as window_figures
from qroar_core.interpolations.tie import parse_ties
from qroar_core.lessons.aliasing import aliasing
from qroar_core.lessons.clocks import clocks
from qroar_core.lessons.commuting import MOVES, commuting, every_move
from qroar_core.lessons.heads import HEADS, STRETCHING
from qroar_core.lessons.interpolations import bends
from qroar_core.lessons.result import Bend, Bends
from qroar_core.lessons.shared_step import shared_step
from qroar_core.lessons.tied_clocks import tied_clocks
from qroar_core.lessons.turning import turning
from qroar_core.lessons.window import window

HEAD = HEADS[0]
PAYLOAD = 250_000  # bytes; every move of a slider sends the figure anew

CLOCKS, WINDOW, BENDS = clocks(HEAD, 300, 8, 1), window(HEAD, 16384), bends(HEAD, 4.0)
ALIASING, TURNING, SHARED = aliasing(HEAD, "yarn", 4.0, 8, 1024), turning(4, 1.0, 2.0, 30.0), shared_step(4, 8.0, 0.0)
APART, TIED = commuting("apart", 45.0, 18, 200), tied_clocks(18, 1.0, 1024)
PICTURES = {
    "clocks": clocks_figures.clocks(CLOCKS),
    "window": window_figures.window(WINDOW),
    "bends": bends_figures.bends(BENDS),
    "kernel": aliasing_figures.kernel(ALIASING, 3),
    "peaks": aliasing_figures.peaks(ALIASING),
    "turning": turning_figures.turning(TURNING),
    "turning, int8": turning_figures.turning(turning(8, 1.0, 0.0, 30.0)),
    "scale": shared_step_figures.shared_step(SHARED),
    "commuting": commuting_figures.commuting(APART),
    "tied": tied_figures.tied_clocks(TIED),
}


def trace(name, called, panel="x"):
    (found,) = [t for t in PICTURES[name].figure.data if t.name == called and (t.xaxis or "x") == panel]
    return found


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_words_units_numbers_and_little_payload(name):
    picture = PICTURES[name]
    assert picture.title
    assert picture.how_to_read.endswith(".")
    assert len(picture.table) > 0
    assert not picture.table.isna().all().any()
    assert any(axis.title.text for axis in picture.figure.select_xaxes())
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD


def test_hands_of_every_frame_end_at_the_lessons_angles():
    figure = PICTURES["clocks"].figure
    assert len(figure.frames) == len(CLOCKS.positions) == 60
    for f in (0, 1, 59):
        key, query, words = figure.frames[f].data[1:4]
        for c in range(6):
            centre = clocks_figures.SPACING * c
            for hand, angle in ((key, CLOCKS.key[f][c]), (query, CLOCKS.query[f][c])):
                tip = (hand.x[3 * c + 1] - centre, hand.y[3 * c + 1])
                assert tip == pytest.approx((math.cos(angle), math.sin(angle)), abs=2e-3)
                assert hand.x[3 * c + 2] is None
        assert words.text[0] == f"key at position {300 + f}, query at position {308 + f}"
    assert list(figure.data[1].x) == list(figure.frames[0].data[1].x)
    table = PICTURES["clocks"].table
    assert list(table["between_degrees"]) == pytest.approx([math.degrees(a) for a in CLOCKS.between])
    assert list(table["key_degrees"]) == pytest.approx([math.degrees(a) for a in CLOCKS.key[0]])
    buttons = figure.layout.updatemenus[0].buttons
    assert [b.method for b in buttons] == ["animate", "animate"]
    assert [b.args[0] for b in buttons] == [None, (None,)]  # all frames; none: stop


def test_window_splits_the_pairs_at_one_turn_and_stacks_seen_and_new():
    slow = [i for i in range(64) if 2 * math.pi * 10_000 ** (i / 64) > 4096]
    assert list(trace("window", "never does").x) == slow
    assert list(trace("window", "completes a turn in training").x) == [i for i in range(64) if i not in slow]
    assert list(trace("window", "angles new at L", "x2").y) == WINDOW.new
    said = f"{len(slow)} of 64 pairs never complete a turn in 4,096 tokens; at 16,384 all {len(slow)} meet new angles"
    assert PICTURES["window"].title == said
    assert list(PICTURES["window"].table["distances_with_new_phase"]) == WINDOW.unseen
    assert window_figures.window(window(HEAD, 4096)).title.endswith("at 4,096 none of them meet new angles")


def test_bends_draw_each_method_in_both_panels_and_count_the_pairs_left_alone():
    for bend in BENDS.methods:
        lines = [t for t in PICTURES["bends"].figure.data if t.legendgroup == bend.method]
        assert [list(t.y) for t in lines] == [bend.inv_freq, bend.compression]
        rows = PICTURES["bends"].table.query("method == @name", local_dict={"name": lines[0].name.split(", a")[0]})
        assert list(rows["omega"]) == bend.inv_freq
        assert set(rows["attention_factor"]) == {bend.attention_factor}
    summary = bends_figures.summary(BENDS).set_index("method")
    assert summary.loc["YaRN", "attention factor a(s)"] == pytest.approx(0.1 * math.log(4) + 1)
    assert summary.loc["linear", "pairs left alone"] == 0
    assert summary.loc["dynamic NTK", "slowest pair, ω(s)/ω"] == pytest.approx(1 / 13, rel=1e-6)
    dashes = {(t.line.color, t.line.dash) for t in PICTURES["bends"].figure.data if t.legendgroup}
    assert len(dashes) == 6


def test_kernel_and_peaks_are_the_lessons():
    assert list(trace("kernel", "YaRN ×4").y) == ALIASING.scaled.high[3]
    assert list(trace("kernel", "no interpolation").y) == ALIASING.native.high[3]
    diamonds = [t for t in PICTURES["kernel"].figure.data if t.mode == "markers"]
    assert [(d.x[0], d.y[0]) for d in diamonds] == [
        (k.peak_at[3], k.peak[3]) for k in (ALIASING.native, ALIASING.scaled)
    ]
    assert PICTURES["kernel"].title == (
        f"Band 3 (pairs 24–31) takes distance {ALIASING.scaled.peak_at[3]:,} for near: side peak "
        f"{ALIASING.scaled.peak[3]:.2f}"
    )
    assert list(trace("peaks", "YaRN ×4").y) == ALIASING.scaled.peak
    row = PICTURES["peaks"].table.iloc[3]
    assert (row["first_pair"], row["last_pair"]) == (24, 31)
    assert row["interpolated_at"] == ALIASING.scaled.peak_at[3]
    none = aliasing_figures.kernel(ALIASING, 7)
    assert none.title == "Band 7 (pairs 56–63) has no side peak up to 1,024 tokens"


def test_turning_marks_the_angle_chosen_in_both_panels():
    at = TURNING.at
    chosen = trace("turning", "at 30.0°")
    assert (chosen.x[1], chosen.y[1]) == pytest.approx((math.cos(math.pi / 6), 0.5))
    assert (chosen.x[2], chosen.y[2]) == (TURNING.rounded_x[at], TURNING.rounded_y[at])
    cross = PICTURES["turning"].figure.data[-1]
    assert (cross.x[0], cross.y[0]) == pytest.approx((30.0, TURNING.error[at]))
    grid = trace("turning", "levels of the grid")
    step = 2.0 / 7
    shown = [k * step for k in range(-7, 8) if abs(k * step) <= 1.25]
    assert sorted(set(grid.x)) == pytest.approx(shown)
    assert len(grid.x) == len(shown) ** 2
    assert trace("turning, int8", "levels of the grid").mode == "lines"
    assert turning_figures.turning(turning(4, 1.0, 16.0, 0.0)).title.startswith("int4 rounds the whole pair to zero")


def test_shared_step_marks_the_minimum_and_the_g_chosen():
    star, cross = trace("scale", "least error", "x2"), trace("scale", "the g chosen", "x2")
    assert (star.x[0], star.y[0]) == (SHARED.best_log2_g, min(SHARED.error))
    assert (cross.x[0], cross.y[0]) == (0.0, SHARED.error[SHARED.grid.index(0.0)])
    assert list(PICTURES["scale"].table["logit_error"]) == SHARED.error == list(trace("scale", "logit error", "x2").y)
    quiet = trace("scale", "band of small values")
    assert list(zip(quiet.x, quiet.y)) == SHARED.quiet
    assert PICTURES["scale"].title == (
        f"At g = 1 the band of small values uses {SHARED.quiet_levels} of 15 levels; the logit error is least at "
        f"g = {2**SHARED.best_log2_g:.3g}"
    )


def test_commuting_draws_arrows_as_shares_of_their_own_length_and_marks_the_amount():
    long = math.hypot(*(x for a in APART.arrows for x in a.key))
    keys = [t for t in PICTURES["commuting"].figure.data if t.name == "key"]
    assert [t.xaxis for t in keys] == ["x", "x", "x2", "x2"]
    drawn = [(t.x[1], t.y[1]) for t in keys]
    tips = [*(a.key for a in APART.arrows), *(a.moved_key for a in APART.arrows)]
    assert drawn == [pytest.approx((x / long, y / long)) for x, y in tips]
    assert math.hypot(*(x for tip in drawn[:2] for x in tip)) == pytest.approx(1)
    assert list(trace("commuting", "without", "x3").y) == APART.logit
    assert list(trace("commuting", "with the transform", "x3").y) == APART.moved_logit
    swept = APART.sweep
    assert list(trace("commuting", "int4 K, transformed", "x4").y) == swept.error
    assert list(trace("commuting", "transformed, not rounded", "x4").y) == swept.change
    assert set(trace("commuting", "int4 K, without", "x4").y) == {swept.plain_error}
    cross = trace("commuting", "the amount chosen", "x4")
    assert (cross.x[0], cross.y[0]) == (45.0, swept.error[swept.amounts.index(45.0)])
    assert list(PICTURES["commuting"].table["transformed_logit"]) == APART.moved_logit


def test_commuting_titles_say_whether_logits_stay_and_the_table_what_int4_gains():
    largest = max(map(abs, APART.logit))
    assert PICTURES["commuting"].title == (
        f"Mix two pairs of two frequencies: a logit moves by up to {APART.deviation:.2g}, "
        f"{APART.deviation / largest:.0%} of its largest"
    )
    titles = {kind: commuting_figures.finding(commuting(kind, move.start, 18, 0)) for kind, move in MOVES.items()}
    assert titles["scale"] == "Scale the pair: no logit changes at any distance"
    assert titles["offset_still"] == "Take a constant off K, still pair: all logits of a query move alike"
    table = commuting_figures.summary(every_move(18)).set_index("transform")
    stay = [MOVES[kind].label for kind in ("scale", "angle", "alike", "offset_still")]
    assert list(table.index[table["logits"] == "stay"]) == stay
    row, swept = table.loc["Scale the pair"], commuting("scale", 1.0, 18, 0).sweep
    assert row["at the best amount"] == min(swept.error)
    assert row["best amount"] == swept.amounts[swept.error.index(min(swept.error))]
    assert row["int4 logit error without"] == swept.plain_error


def test_tied_clocks_draw_cost_and_gain_and_the_title_says_which_way_the_error_goes():
    assert list(trace("tied", "tied").y) == TIED.tied_logit
    assert list(trace("tied", "change of a logit", "x2").y) == TIED.change
    assert list(trace("tied", "K mixed", "x3").y) == TIED.range_after
    errors = PICTURES["tied"].figure.data[-1]
    assert list(errors.y) == [TIED.untied_int4, TIED.tied, TIED.tied_int4, TIED.mixed_int4]
    assert PICTURES["tied"].title == (
        f"Pairs 18 and 19 tied, then mixed: the int4 error of the logits falls from {TIED.untied_int4:.1%} to "
        f"{TIED.mixed_int4:.1%}"
    )
    still = tied_figures.finding(tied_clocks(18, 0.0, 1024))
    assert still.startswith("Pairs 18 and 19 held still, then mixed: the int4 error of the logits rises from")
    off = PICTURES["tied"].table["angle_off_first_pair"]
    assert off[1000] == pytest.approx(1000 * (math.sqrt(TIED.own[0] * TIED.own[1]) - TIED.own[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("factor", "tied", "title"),
    [
        (4.0, "", "YaRN and llama3 leave the fastest pairs alone; linear slows them like all others"),
        (4.0, "26-31:0", "YaRN and llama3 leave the fastest pairs alone; linear slows them too"),
        (4.0, "0-40", "With pairs tied 0–40, no method leaves the fastest pairs alone"),
        (4.0, "0-63:0", "With pairs still 0–63, no method leaves the fastest pairs alone"),
        (4.0, "0-15", "With pairs tied 0–15, no method leaves the fastest pairs alone"),
        (1.0, "", "At factor 1 no method changes anything"),
        # every pair but those whose group has one frequency: 20, 21 and 26 to 31
        (1.0, "20-21,26-31:0", "At factor 1 no method changes anything, but the ties change 8 of 64 pairs"),
    ],
)
def test_the_bends_title_names_pairs_that_are_left_alone_and_no_others(factor, tied, title):
    head = next(h for h in HEADS if h.name == "Llama 3 8B")
    shown = bends(head, factor, parse_ties(tied))
    assert bends_figures.bends(shown).title == title
    native = [head.theta ** (-i / 64) for i in range(2)]
    alone = {b.method for b in shown.methods if b.inv_freq[:2] == pytest.approx(native, rel=1e-6)}
    assert alone == ({"yarn", "llama3"} if "alone; " in title else set() if "alone" in title else set(STRETCHING))


def test_one_method_that_leaves_the_fastest_pairs_alone_leaves_them():
    fast = Bend("yarn", [1.0, 0.1, 0.005], [1.0, 1.0, 0.5], 1.0)
    slowed = Bend("linear", [0.5, 0.05, 0.005], [0.5] * 3, 1.0)
    one = Bends(2.0, 128, [1.0, 0.1, 0.01], [6.28, 62.8, 628.0], [fast, slowed])
    assert bends_figures.bends(one).title == "YaRN leaves the fastest pairs alone; linear slows them like all others"
