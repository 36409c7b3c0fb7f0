"""What the figures of pressure and aliasing claim: each claim where it is true and where it is not."""

import json
import math

import pytest

from qroar_core.diagnostics.aliasing import figure as aliasing
from qroar_core.diagnostics.aliasing.result import NATIVE, AliasingKernel
from qroar_core.diagnostics.bands.result import null_rows
from qroar_core.diagnostics.pressure import figure as pressure
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import Sample
from qroar_core.figures.picture import GREY, OLDER
from tests.helpers import planted


def changed(**fields):
    found = planted.diagnosis()
    change = found.logit_change.model_copy(update=fields)
    return found.model_copy(update={"logit_change": change})


def traces(picture):
    return {line.name: line for line in picture.figure.data}


def test_the_logits_own_change_is_drawn_with_its_error_its_bound_and_its_null():
    picture = pressure.by_band(planted.diagnosis())
    drawn = traces(picture)
    assert list(drawn["angle"].y) == [0.5, 4.0]
    assert list(drawn["logit"].y) == [0.015, 0.007]  # not the bound, 0.02 and 0.01
    assert list(drawn["logit"].error_y.array) == [0.0005, 0.0002]
    assert list(drawn["upper bound"].y) == [0.02, 0.01]
    null = drawn["null: random signs"]
    assert (list(null.y), null.line.dash, null.xaxis) == ([0.016, 0.006], "dot", "x2")
    assert list(null.error_y.array) == pytest.approx([0.002, 0.001])
    assert list(null.error_y.arrayminus) == pytest.approx([0.001, 0.001])
    assert [t.name for t in picture.figure.data if t.name.startswith("null") and t.xaxis == "x"] == []
    assert "That is a sensitivity" in picture.how_to_read
    assert list(picture.table["logit_change"]) == [0.015, 0.007]
    assert list(picture.table["logit_change_bound"]) == [0.02, 0.01]
    assert list(picture.table["null_random_signs"]) == [0.016, 0.006]
    assert picture.sample.startswith("Counted on 64 tokens, 16 sampled query rows, 8 sampled keys a row; planted error")


def test_the_title_goes_by_the_logits_change_and_not_by_its_bound():
    """Band 1 has the lower bound and moves the logits most: its pairs do not cancel."""
    assert pressure.by_band(planted.diagnosis()).title.endswith("band 0 moves the logits most")
    picture = pressure.by_band(changed(by_band=[0.005, 0.009]))
    assert picture.title == "The angles of band 1 change most, and it moves the logits most"
    assert list(traces(picture)["upper bound"].y) == [0.02, 0.01]


@pytest.mark.parametrize(
    ("in_all", "error", "said"),
    [
        (0.012, 0.001, "0.0120 ± 0.0010 nats, less far than with random signs (0.0240): their parts cancel."),
        (0.029, 0.001, "0.0290 ± 0.0010 nats, further than with random signs (0.0240): their parts add up."),
        (0.023, 0.001, "0.0230 ± 0.0010 nats, about as far as with random signs (0.0240)."),
        (0.012, 0.007, "0.012 ± 0.007 nats, about as far as with random signs (0.024)."),
        (0.012, 0.0, "0.012 nats, less far than with random signs (0.024): their parts cancel."),
    ],
)
def test_the_caption_compares_all_pairs_with_chance(in_all, error, said):
    assert said in pressure.by_band(changed(in_all=in_all, in_all_error=error)).how_to_read


@pytest.mark.parametrize(
    ("law", "said"), [("causal", "every query and the keys that it sees"), ("uniform", "every distance alike")]
)
def test_the_caption_names_the_law_that_the_mean_is_under(law, said):
    assert f"mean over {said}, by the pairs" in pressure.by_band(changed(law=law)).how_to_read


def test_an_older_file_shows_its_bound_and_calls_it_one():
    found = planted.diagnosis()
    bands = [b.model_copy(update={"logit_change": None, "native_wavelength_min": None}) for b in found.bands]
    older = found.model_copy(update={"logit_change": None, "bands": bands})
    picture = pressure.by_band(older)
    assert list(traces(picture)["upper bound on the logit"].y) == [0.02, 0.01]
    assert picture.title.endswith(", and band 0 has the highest bound on the logits' change")
    assert "an upper bound on how far they move together" in picture.how_to_read
    assert picture.sample == pressure.by_pair(older).sample == OLDER


def test_a_file_from_before_the_mending_opens():
    """Its fields are those of the contract then: nothing of the logit's own change, nor of the nulls."""
    kept = json.loads(planted.diagnosis().to_json())
    del kept["logit_change"], kept["kernel"]["null"], kept["kernel"]["side_peak"]
    for band in kept["bands"]:
        for name in ("logit_change", "logit_change_error", "native_wavelength_min", "native_wavelength_max"):
            del band[name]
    found = Diagnosis.model_validate_json(json.dumps(kept))
    assert [b.logit_weighted_pressure for b in found.bands] == [0.02, 0.01]
    assert (found.logit_change, found.kernel.null, found.kernel.null_rows()) == (None, None, [])
    assert pressure.by_band(found).sample == OLDER


def test_a_table_says_under_which_frequencies_wavelength_and_turns_are():
    for table in (
        pressure.by_band(planted.diagnosis()).table,
        pressure.by_pair(planted.diagnosis()).table,
        aliasing.unseen(planted.diagnosis()).table,
    ):
        for name in table.columns:
            if "wavelength" in name or "turns" in name:
                assert name.startswith(("native_", "interpolated_"))
    bands = pressure.by_band(planted.diagnosis()).table
    assert list(bands["native_wavelength_min"]) == [5.0, 5.0]
    assert list(bands["interpolated_wavelength_min"]) == [6.0, 6.0]
    pairs = pressure.by_pair(planted.diagnosis()).table
    assert list(pairs["native_wavelength_tokens"]) == pytest.approx([2 * math.pi * 10**i for i in range(4)])
    now = [2 * math.pi / w for w in (1, 0.1, 0.005, 0.00025)]
    assert list(pairs["interpolated_wavelength_tokens"]) == pytest.approx(now)


def test_each_pairs_own_change_stands_beside_plain_pressure():
    pairs = planted.diagnosis().pairs.model_copy(update={"logit_weighted_pressure": [0.1, 0.7, 0.2, 0.05]})
    picture = pressure.by_pair(planted.diagnosis().model_copy(update={"pairs": pairs}))
    plain, weighted = picture.figure.data
    assert (list(plain.y), list(weighted.y)) == ([0.0, 1.0, 3.0, 5.0], [0.1, 0.7, 0.2, 0.05])
    assert (plain.xaxis, weighted.xaxis) == ("x", "x2")
    assert "they have no null" in picture.how_to_read
    assert picture.title == "Angles change most at a wavelength of 6,283 tokens, logits at 63"


def peaked(heights, native):
    found = planted.diagnosis()
    null = found.kernel.null.model_copy(update={"side_peak": native})
    bands = [b.model_copy(update={"side_peak": peak}) for b, peak in zip(found.bands, heights)]
    kernel = found.kernel.model_copy(update={"null": null, "side_peak": list(heights)})
    return found.model_copy(update={"bands": bands, "kernel": kernel})


@pytest.mark.parametrize(
    ("native", "said"),
    [
        (0.5, "rises to 0.70 again, to 0.50 for native RoPE in its own window"),
        (0.69, "rises to 0.70 again, as high for native RoPE in its own window"),
        (0.9, "rises to 0.70 again, to 0.90 for native RoPE in its own window"),
        (None, "rises to 0.70 again, and not at all for native RoPE in its own window"),
    ],
)
def test_the_kernels_title_names_the_highest_alias_and_what_is_there_without_a_stretch(native, said):
    picture = aliasing.kernel(peaked((0.7, 0.3), [native, None]))
    assert picture.title == f"The highest alias is at 64 tokens: the kernel of band 0 {said}"
    *_, rings = picture.figure.data
    assert (list(rings.x), list(rings.y)) == ([64, 8], [0.7, 0.3])


def test_no_alias_is_said():
    title = aliasing.kernel(peaked((None, None), [None, None])).title
    assert title == f"No band's kernel rises again within {planted.diagnosis().length:,} tokens"


def test_the_native_kernel_is_drawn_grey_and_dotted_beside():
    picture = aliasing.kernel(planted.diagnosis())
    null = [line for line in picture.figure.data if line.name == aliasing.NULL]
    assert [list(line.y) for line in null] == [[1.0, 0.1, 0.5], [1.0, 0.97, 0.6]]
    assert all((line.line.dash, list(line.x)) == ("dot", [1, 4, 16]) for line in null)
    assert [line.showlegend for line in null] == [True, False]
    found = planted.diagnosis()
    kept = {name: getattr(found.kernel, name) for name in ("distance", "low", "high", "side_peak_at")}
    older = aliasing.kernel(found.model_copy(update={"kernel": AliasingKernel(**kept)}))
    assert aliasing.NULL not in traces(older)
    assert "This file keeps no null" in older.how_to_read


def test_unseen_phases_stand_beside_none_and_compression_beside_one():
    drawn = traces(aliasing.unseen(planted.diagnosis()))
    assert list(drawn["null: phases never seen in training"].y) == [0, 0]
    assert list(drawn["null: frequency left, ω(s)/ω"].y) == [1, 1]
    nulls = [drawn[name].line for name in drawn if name.startswith("null")]
    assert [(line.color, line.dash) for line in nulls] == [(GREY, "dot"), (GREY, "dash")]


@pytest.mark.parametrize(
    ("worst", "said"),
    [(0.004, "No band meets phases it never saw in training"), (0.3, "Up to 30% of a band's phases are new")],
)
def test_new_phases_are_said_where_there_are_any(worst, said):
    found = planted.diagnosis()
    bands = [b.model_copy(update={"unseen_phase": share}) for b, share in zip(found.bands, (0.0, worst))]
    assert aliasing.unseen(found.model_copy(update={"bands": bands})).title == said


def test_null_rows_hold_what_is_measured_and_what_nothing_would_show():
    found = planted.diagnosis()
    rows = found.logit_change.null_rows()
    assert [(r.measured, r.null, r.low, r.high) for r in rows] == [
        (0.02, 0.024, 0.024, 0.024),
        (0.015, 0.016, 0.015, 0.018),
        (0.007, 0.006, 0.005, 0.007),
    ]
    assert rows[1].quantity == "band 0, nats if the stretch grows 2.7 times"
    peaks = peaked((0.7, None), [0.5, None]).kernel.null_rows()  # band 1 has no side peak: nothing to tell
    assert [(r.quantity[-6:], r.measured, r.null, r.control) for r in peaks] == [("band 0", 0.7, 0.5, NATIVE)]
    first, second = peaked((None, 0.3), [0.5, None]).kernel.null_rows()
    assert (first.measured, first.null, second.measured, second.null) == (None, 0.5, 0.3, None)
    assert second.control == f"{NATIVE}, without one"
    frequencies = {r.quantity: (r.measured, r.null) for r in null_rows(found.bands)}
    assert frequencies == {
        "phase displacement, rad, highest band": (1.0, 0.0),
        "share of phases never seen in training, highest band": (0.1, 0.0),
        "frequency left, interpolated over native, lowest band": (0.5, 1.0),
    }


def test_pairs_have_bars_where_rows_were_sampled_and_the_caption_speaks_of_them_only_there():
    found = planted.diagnosis()
    pairs = len(found.pairs.turns)
    drawn = Sample(tokens=64, rows=8, keys=4, seed=0, error="the standard error is that of rows")
    sampled = found.logit_change.model_copy(update={"pair_error": [0.1] * pairs, "sample": drawn})
    picture = pressure.by_pair(found.model_copy(update={"logit_change": sampled}))
    assert list(picture.figure.data[1].error_y.array) == [0.1] * pairs
    assert picture.table["logit_change_standard_error"].tolist() == [0.1] * pairs
    assert "the standard error is that of rows" in picture.sample
    exact = sampled.model_copy(update={"pair_error": [0.0] * pairs})
    picture = pressure.by_pair(found.model_copy(update={"logit_change": exact}))
    assert picture.figure.data[1].error_y.array is None
    assert "standard error" not in picture.sample


def test_without_a_stretch_no_logit_is_said_to_move_about_as_far_as_chance():
    found = planted.diagnosis()
    none = found.logit_change.model_copy(update={"in_all": 0.0, "in_all_bound": 0.0, "in_all_null": 0.0})
    assert "None moves" in pressure.by_band(found.model_copy(update={"logit_change": none})).how_to_read
    assert "None moves" not in pressure.by_band(found).how_to_read


def test_titles_say_where_nothing_is_stretched_yet():
    """At s = 1 angles do not change: pressure is what a first bit of stretching would do."""
    found = planted.diagnosis()
    native = found.model_copy(
        update={"pairs": found.pairs.model_copy(update={"inv_freq": found.pairs.native_inv_freq})}
    )
    said = "Every frequency is the native one; a first bit of stretching would change "
    assert pressure.by_band(native).title == f"{said}the angles of band 1 most, and band 0 would move the logits most"
    assert pressure.by_pair(native).title.startswith(f"{said}angles most at a wavelength of ")
    assert "would" not in pressure.by_band(found).title + pressure.by_pair(found).title
