"""Figures of outliers by rule: what each caption claims, true in one result and false in another."""

import numpy as np
import pytest

from qroar_core.diagnostics.outliers import figure as maps
from qroar_core.diagnostics.outliers import figure_rules as rules
from qroar_core.diagnostics.outliers.result import Outliers
from qroar_core.figures.picture import OLDER
from tests.helpers import planted

D = planted.diagnosis()
OLD_FIELDS = ("maps", "rule", "jaccard", "mass_moved", "error_share", "entry_share")


def with_outliers(**update):
    return D.model_copy(update={"outliers": D.outliers.model_copy(update=update)})


def panel(picture, at, columns=2):
    """One of several maps side by side; an empty column stands between two."""
    return [list(row)[at * (columns + 1) : at * (columns + 1) + columns] for row in picture.figure.data[0].z]


def notes(picture):
    return [note.text.replace("<br>", " ") for note in picture.figure.layout.annotations]


def test_shift_pools_channels_not_heads_and_stands_beside_its_null():
    picture = rules.shift(D, "k/post")
    # channels that do both: 2 of 2, 2 of 4, 1 of 4, 0 of 1
    assert picture.title == "Of the channels of K after RoPE that stand out early or late, 45% do both (90% by chance)"
    assert [panel(picture, at) for at in range(4)] == [
        [[1.0, 0.5], [0.25, 0.0]],
        [[1.0, 0.9], [0.8, 1.0]],
        [[0.0, 0.1], [0.3, 1.0]],
        [[0.0, 0.05], [0.1, 0.0]],
    ]
    assert notes(picture)[1::2] == ["null: positions split at random"] * 2
    assert list(picture.table["mass_moved_null"]) == [0.0, 0.05, 0.1, 0.0]
    assert "split at random into two groups of the same sizes" in picture.how_to_read
    assert list(picture.table["jaccard_null"]) == [1.0, 0.9, 0.8, 1.0]
    assert "not counted" not in picture.how_to_read
    assert picture.sample == "Counted on 64 tokens (seed 0)."


def test_heads_without_outliers_are_left_out_and_said():
    picture = rules.shift(rules.seen(D, "iqr", 3.0), "k/post")
    assert picture.title.startswith("Of the channels of K after RoPE that stand out early or late, 100% do both")
    assert panel(picture, 0) == [[1.0, None], [None, None]]
    assert "3 of 4 heads have no outlier channel early or late" in picture.how_to_read
    assert "IQR, fence 3." in picture.how_to_read
    none = with_outliers(jaccard={"k/post": [[None] * 2] * 2}, stand_out={"k/post": [[0, 0]] * 2})
    assert rules.shift(none, "k/post").title == "No channel of K after RoPE stands out early or late (IQR, fence 1.5)"


def test_a_context_that_is_all_short_is_not_compared():
    alone = with_outliers(jaccard={"k/post": [[None] * 2] * 2}, disjoint=False)
    assert "no late part to compare" in rules.shift(alone, "k/post").title
    assert "no late part" not in rules.shift(D, "k/post").title


def test_an_older_file_opens_and_says_so():
    new = D.outliers.model_dump()
    old = D.model_copy(update={"outliers": Outliers.model_validate({name: new[name] for name in OLD_FIELDS})})
    picture = rules.shift(old, "k/post")
    assert picture.title == "Of the channels of K after RoPE that stand out early or late, 44% do both, mean over heads"
    assert picture.sample == rules.error_share(old).sample == OLDER
    assert "null" not in " ".join(notes(picture))
    assert rules.counts(old, "k/post") is None
    assert rules.error_by_channel(old) is None
    assert old.outliers.null_rows() == []


def test_error_share_stands_beside_as_many_entries_at_random():
    picture = rules.error_share(D)
    assert picture.title == "Outliers are 1.5% of the entries and carry 26.7% of the int4 error"
    assert panel(picture, 0) == [[0.5, 0.1], [0.2, None]]
    assert panel(picture, 1) == [[0.05, 0.0], [0.01, 0.0]]
    assert notes(picture) == ["of the int4 error", "null: of the entries"]
    wider = rules.error_share(rules.seen(D, "mad", 3.5))
    assert wider.title.startswith("Outliers are 10.0% of the entries")
    assert "MAD, threshold 3.5" in wider.how_to_read


def test_counts_by_band_stand_beside_the_same_outliers_shuffled_over_channels():
    picture = rules.counts(D, "k/post")
    assert picture.title == (
        "Channels of K after RoPE that stand out: 4, of which 3 in band 1, by up to 5 times their head's median"
    )
    assert panel(picture, 0) == [[1, 2], [0, 1]]
    assert panel(picture, 1) == [[1.5, 1.5], [0.5, 0.5]]  # two bands of four channels each
    assert list(picture.table["times_median"].fillna(-1)) == [2.0, 5.0, -1, 3.0]
    none = with_outliers(count={"k/post": [[0, 0]] * 2}, magnitude={"k/post": [[None, None]] * 2})
    assert rules.counts(none, "k/post").title == "None of the channels of K after RoPE stands out (IQR, fence 1.5)"


def test_a_percentile_says_that_it_names_the_same_share_everywhere():
    says = "the same share outliers in every head"
    assert says in rules.counts(with_outliers(rule="percentile", parameter=0.9), "k/post").how_to_read
    assert says not in rules.counts(D, "k/post").how_to_read


def test_error_by_channel_is_in_times_an_even_share_with_band_edges():
    picture = rules.error_by_channel(D)
    assert panel(picture, 0, 8)[0] == [1.0] * 8
    assert panel(picture, 0, 8)[1] == pytest.approx([2.4, *[0.8] * 7])
    assert picture.title == "One channel of K carries up to 2.4 times its even share of the int4 error"
    assert [line.x0 * 8 for line in picture.figure.layout.shapes] == [2, 4, 6]
    assert list(picture.table["band"])[:8] == [0, 0, 1, 1] * 2
    even = with_outliers(error_by_channel={"int4": [[0.125] * 8] * 2})
    assert rules.error_by_channel(even).title.startswith("One channel of K carries up to 1 times")


def test_null_rows_hold_what_the_figures_draw():
    both, error, *weights = D.outliers.null_rows()
    assert both.measured == pytest.approx(5 / 11)
    assert (both.null, both.low, both.high) == (0.9, 0.85, 0.95)
    assert error.measured == pytest.approx((0.5 + 0.1 + 0.2) / 3)
    assert error.null == pytest.approx(0.015)
    assert len(weights) == 6
    assert weights[-1].quantity.startswith("W_K, int4 per channel: share of the weights' error on outlier rows")
    assert (weights[-1].measured, weights[-1].null) == (0.2, 0.125 / 4)
    assert D.outliers.parameters("iqr") == [1.5, 3.0]
    with pytest.raises(KeyError, match="iqr 9"):
        D.outliers.under("iqr", 9.0)


def test_the_settings_own_quantizer_is_drawn_once_where_it_errs_as_a_probe_does():
    share, channels = [[0.5, 0.1], [0.2, None]], [[0.125] * 8, [0.3, *[0.1] * 7]]
    twin = with_outliers(
        error_share={"int4": share, "in force": share}, error_by_channel={"int4": channels, "in force": channels}
    )
    other = with_outliers(
        error_share={"int4": share, "in force": [[0.5, 0.1], [0.3, None]]},
        error_by_channel={"int4": channels, "in force": channels[::-1]},
    )
    for draw, extra in ((rules.error_share, 1), (rules.error_by_channel, 0)):
        once, both = draw(twin), draw(other)
        assert "errs as int4 does in every cell" in once.how_to_read
        assert "errs as" not in both.how_to_read
        assert "setup's quantizer" not in once.title
        assert "setup's quantizer" in both.title
        assert [len(p.figure.layout.annotations) for p in (once, both)] == [1 + extra, 2 + extra]
        assert "in_force_error" in once.table


def test_a_quantizer_that_rounds_no_key_has_no_share_of_any_error():
    none = with_outliers(
        error_share={"int4": [[0.5, 0.1], [0.2, None]], "in force": [[None, None]] * 2},
        error_by_channel={"int4": [[0.125] * 8] * 2, "in force": [[None] * 8] * 2},
    )
    for draw in (rules.error_share, rules.error_by_channel):
        assert "setup's quantizer" not in draw(none).title
        assert "rounds no key of this context" in draw(none).how_to_read
        assert "rounds no key" not in draw(D).how_to_read


def test_keys_that_the_setting_leaves_exact_are_said_where_its_error_is_drawn():
    shares = {"int4": [[0.5, 0.1], [0.2, None]], "in force": [[0.5, 0.2], [0.2, None]]}
    for draw in (rules.error_share, rules.error_by_channel):
        found = {"error_share": shares, "error_by_channel": {"int4": [[0.125] * 8] * 2, "in force": [[0.3] * 8] * 2}}
        said = draw(with_outliers(still_exact=1128, **found)).how_to_read
        assert "leaves the newest 1,128 keys exact: its error is of the keys that the context's" in said
        assert "newest" not in draw(with_outliers(**found)).how_to_read
        assert "newest" not in draw(with_outliers(still_exact=1128)).how_to_read  # int4 alone is drawn: it rounds all


OWN_KEYS = {
    "error_share": {"int4": [[0.5, 0.1], [0.2, None]], "in force": [[0.4, 0.2], [0.3, None]]},
    "error_by_channel": {"int4": [[0.125] * 8] * 2, "in force": [[0.3, *[0.1] * 7]] * 2},
    "entry_share_in_force": [[0.06, 0.02], [0.01, None]],
}


def test_an_error_in_force_of_other_keys_stands_beside_their_own_null_and_says_which():
    title = (
        "Outliers are 1.5% of the entries and carry 26.7% of the int4 error; of the keys that the setup's quantizer "
        "rounds, 3.0% and 30.0% of its error"
    )
    rest = "are of all keys of the unquantized model."
    for update, which in (
        ({"of_quantized_model": True}, "keys of the quantized model, as its quantizer is given them"),
        ({"still_exact": 44}, "keys that the context's last query reads rounded (all but the newest 44)"),
        (
            {"of_quantized_model": True, "still_exact": 1044},
            "keys of the quantized model that the context's last query reads rounded (all but the newest 1,044)",
        ),
    ):
        found = with_outliers(**OWN_KEYS, **update)
        shares, channels = rules.error_share(found), rules.error_by_channel(found)
        assert shares.title == title
        begins = "But the" if update.get("of_quantized_model") else "The"
        said = f" {begins} setup's error and its null are of the {which}; int8's and int4's and the other null {rest}"
        assert said in shares.how_to_read
        assert f"{begins} setup's error is of the {which}; int8's and int4's {rest}" in channels.how_to_read
        assert notes(shares)[-2:] == ["null: of the entries", "null: of the setup's"]
        assert panel(shares, 3) == [[0.06, 0.02], [0.01, None]]
        assert list(shares.table["in_force_entries"])[:3] == [0.06, 0.02, 0.01]
        rows = {row.quantity: row for row in found.outliers.null_rows()}
        mine = "the setup's quantizer: share of K's error on outlier entries, mean over layers and bands"
        assert (rows[f"{mine}, of the {which}"].null, rows[f"{mine}, of the {which}"].measured) == pytest.approx(
            (0.03, 0.3)
        )
        assert rows[mine.replace("the setup's quantizer", "int4")].null == pytest.approx(0.015)
    same = rules.error_share(with_outliers(**OWN_KEYS))  # every key is rounded, and no weight
    assert same.title.endswith("26.7% of the int4 error and 30.0% of the error of the setup's quantizer")
    assert "setup's error" not in same.how_to_read
    assert "Each layer's keys are those of the unquantized model" in same.how_to_read
    assert notes(same)[-1] == "null: of the entries"


def test_an_older_file_says_that_its_error_in_force_is_of_the_unquantized_model():
    said = "counted on the keys of the unquantized model"
    update = {name: OWN_KEYS[name] for name in ("error_share", "error_by_channel")}
    for kind, there in (("propagated through the model", True), ("local to each layer's own q and k", False)):
        noise = D.logit_noise.model_copy(update={"kind": kind})
        older = with_outliers(**update).model_copy(update={"logit_noise": noise})
        for draw in (rules.error_share, rules.error_by_channel):
            assert (said in draw(older).how_to_read) is there
        newer = with_outliers(**OWN_KEYS).model_copy(update={"logit_noise": noise})
        assert said not in rules.error_share(newer).how_to_read


def test_only_the_figure_that_shows_a_drawn_null_speaks_of_draws():
    drawn = D.outliers.sample.model_copy(update={"error": "the null was drawn once"})
    dealt = with_outliers(sample=drawn)
    assert rules.shift(dealt, "k/post").sample == "Counted on 64 tokens; the null was drawn once (seed 0)."
    for plain in (rules.counts(dealt, "k/post"), rules.error_share(dealt), rules.error_by_channel(dealt)):
        assert plain.sample == "Counted on 64 tokens."


def test_rows_of_nulls_name_tensors_and_quantizers_in_words():
    found = with_outliers(error_share={"in force": [[0.5, 0.1], [0.2, None]]}).outliers
    said = [row.quantity for row in found.null_rows()]
    assert any(words.startswith("of the channels of K after RoPE that stand out") for words in said)
    assert any(words.startswith("the setup's quantizer: share of K's error") for words in said)
    assert not any("k/post" in words or "in force" in words for words in said)


def test_counts_stand_beside_what_chance_gives_and_none_in_an_older_file():
    plain, by_chance = rules.counts(D, "k/post"), rules.counts(with_outliers(by_chance=[0.1, 0.2]), "k/post")
    assert "by chance" not in plain.title + plain.how_to_read
    # two heads of two layers
    assert panel(by_chance, 2) == [[0.2, 0.4], [0.2, 0.4]]
    assert notes(by_chance)[-1] == "null: all channels alike"
    assert "that stand out: 4 (1.2 by chance), of which" in by_chance.title
    assert list(by_chance.table["channels_by_chance"]) == [0.2, 0.4, 0.2, 0.4]
    assert "numbers of one normal distribution" in by_chance.how_to_read
    found = with_outliers(by_chance=[0.1, 0.2], by_chance_spread=0.5).outliers.null_rows()
    row = next(r for r in found if r.quantity == "channels of K after RoPE that stand out, all layers and heads")
    assert (row.measured, row.null) == (4, pytest.approx(1.2))
    assert (row.low, row.high) == (0.0, pytest.approx(1.2 + 2 * 2 * 0.5))
    assert not any("that stand out, all" in r.quantity for r in D.outliers.null_rows())


def test_maps_say_how_far_normal_values_of_the_same_rms_reach():
    null = {"k/post": [[1.5, 2.5], [3.5, 4.5]]}
    known = {"peak_null": null, "peak_values": {"k/post": 512}}
    shown, *older = (maps.layers(d, "k/post") for d in (with_outliers(**known), with_outliers(peak_null=null), D))
    draw = np.abs(np.random.default_rng(0).standard_normal((3000, 2, 2, 512)))  # (draws, layers, heads, values)
    drawn = draw.max(-1) / np.median(draw.max(-1)) * np.array(null["k/post"])  # each head's median is its null
    assert shown.table["null_peak"].tolist() == pytest.approx(np.median(drawn.max(2), 0), rel=0.01)
    assert shown.table["null_peak_high"].tolist() == pytest.approx(np.quantile(drawn.max(2), 0.975, 0), rel=0.03)
    every = with_outliers(**known).outliers.peak_by_chance("k/post", range(2))
    assert every.median == pytest.approx(np.median(drawn.max((1, 2))), rel=0.01)
    assert f"normal values of every head's RMS reach {every}" in shown.title
    assert all("normal values" not in one.title + one.how_to_read for one in older)
    large = maps.channel_map(with_outliers(peak_null=null), "k/post", 1, 0)
    assert "as many normal values of this head's RMS reach 3.5 (the null)" in large.how_to_read
    assert "normal" not in maps.channel_map(D, "k/post", 1, 0).how_to_read
    known_maps = with_outliers(**known)
    tops = np.array([[np.nanmax(np.array(z, float)) for z in heads] for heads in known_maps.outliers.maps["k/post"]])
    loudest, other = (np.unravel_index(at, tops.shape) for at in (tops.argmax(), tops.argmin()))
    assert tops.max() > tops.min()
    said = f" No head has a larger value; in random data of the same size the largest would be {every}."
    assert said in maps.channel_map(known_maps, "k/post", *map(int, loudest)).how_to_read
    assert "No head" not in maps.channel_map(known_maps, "k/post", *map(int, other)).how_to_read
    row, unknown = (
        next(r for r in d.outliers.null_rows() if r.quantity.startswith("largest |x| of K after RoPE"))
        for d in (with_outliers(**known), with_outliers(peak_null=null))
    )
    pairs = [pair for both in zip(D.outliers.maps["k/post"], null["k/post"]) for pair in zip(*both)]
    ratio = max(max(v for c in head for v in c if v is not None) / n for head, n in pairs)
    assert row.measured == unknown.measured == pytest.approx(ratio)
    ratios = (draw.max(-1) / np.median(draw.max(-1))).max((1, 2))
    expected = [float(np.quantile(ratios, p)) for p in (0.5, 0.025, 0.975)]
    assert [row.null, row.low, row.high] == pytest.approx(expected, rel=0.02)
    assert (unknown.null, "before 2026-11-29" in unknown.control) == (None, True)
