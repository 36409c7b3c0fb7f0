"""Figures of models whose layers differ: one set a group that turns, each with its own numbers."""

import pytest

from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise.result import NoiseCurves, NoiseNull
from qroar_core.diagnostics.result import LayerGroupDiagnosis
from qroar_core.figures import gallery
from qroar_core.figures.picture import GREY
from tests.helpers import planted


def group(name, bands, whole, **differ):
    fields = {"layers": [0], "theta": 1e4, "window": None, "interpolated": True, "reach": 64}
    pairs, kernel = (whole.pairs, whole.kernel) if bands else (None, None)
    return LayerGroupDiagnosis(name=name, bands=bands, pairs=pairs, kernel=kernel, **(fields | differ))


@pytest.fixture
def grouped():
    whole = planted.diagnosis()
    moved = [0.25 * (1 + b.index) for b in whole.bands]
    slow = [
        b.model_copy(update={"interpolation_pressure": v, "phase_displacement": v})
        for b, v in zip(whole.bands, moved, strict=True)
    ]
    groups = [
        group("full attention", whole.bands, whole),
        group("window of 16 tokens", slow, whole, window=16, reach=16),
        group("not rotated", [], whole, theta=None, interpolated=False),
    ]
    return whole.model_copy(update={"groups": groups})


def test_a_model_of_one_group_is_drawn_as_before():
    whole = planted.diagnosis()
    titles = [picture.title for picture in gallery.diagnosed(whole)]
    assert titles[0] == "The angles of band 1 change most, and band 0 moves the logits most"
    assert len(gallery.by_layer_group(whole)) == 4


def test_layers_that_no_interpolation_changes_are_not_said_to_turn(grouped):
    still = [b.model_copy(update={"interpolation_pressure": 0.0}) for b in grouped.bands]
    native = {"inv_freq": grouped.pairs.native_inv_freq}
    pairs = grouped.pairs.model_copy(update={"interpolation_pressure": [0.0] * 4, **native})
    first, second, *_ = gallery.by_layer_group(planted.diagnosis().model_copy(update={"bands": still, "pairs": pairs}))
    assert first.title == "No interpolation moves the angles of these bands"
    assert second.title == "No interpolation turns these pairs"


def test_every_group_that_turns_has_its_pictures_and_numbers(grouped):
    drawn = gallery.by_layer_group(grouped)
    assert [p.title.split(":")[0] for p in drawn] == ["Full attention"] * 4 + ["Window of 16 tokens"] * 4
    assert drawn[0].table["interpolation_pressure"].tolist() == [0.5, 4.0]
    assert drawn[4].table["interpolation_pressure"].tolist() == [0.25, 0.5]
    assert list(drawn[4].figure.data[0].y) == [0.25, 0.5]
    assert "distances in 64 tokens" in drawn[0].how_to_read
    assert "distances in 16 tokens" in drawn[4].how_to_read
    assert [p.title for p in gallery.diagnosed(grouped)][:8] == [p.title for p in drawn]


def of_one_layer(anisotropy, update):
    null = anisotropy.null.model_copy(update={"ratio": anisotropy.null.ratio[:1]})
    return anisotropy.model_copy(update={**update, "null": null})


def own(rms, error, amplitude):
    """What a group says of its own layers, [2 bands][2 rows or bins]."""
    whole = planted.diagnosis()
    noise = NoiseCurves(
        rms=rms,
        attention_kl=[r / 10 for r in rms],
        rms_by_distance=rms,
        by_band_position=[rms, rms],
        by_band_distance=[rms, rms],
    )
    return {
        "noise": noise,
        "pair_error": whole.pair_error.model_copy(update={"amplitude": [amplitude, amplitude]}),
        "anisotropy": of_one_layer(whole.anisotropy, {"error": [error, error], "ratio": [[error[1] / error[0], None]]}),
    }


@pytest.fixture
def apart(grouped):
    full, sliding, still = grouped.groups
    still = still.model_copy(update={"noise": own([0.5, 0.6], [1.0, 1.0], [])["noise"]})
    groups = [
        full.model_copy(update=own([0.1, 0.9], [1.0, 5.0], [0.7, 0.7])),
        sliding.model_copy(update=own([0.1, 0.2], [2.0, 3.0], [0.2, 0.2])),
        still,
    ]
    return grouped.model_copy(update={"groups": groups})


def test_noise_pair_errors_and_anisotropy_are_drawn_of_every_group_that_turns(apart):
    drawn = gallery.diagnosed(apart)
    named = {name: [p for p in drawn if p.title.startswith(name)] for name in ("Full attention", "Window of 16 tokens")}
    assert [len(pictures) for pictures in named.values()] == [9, 9]  # four of the frequencies, five of the errors
    rms = {name: next(p for p in pictures if "grow with position" in p.title) for name, pictures in named.items()}
    assert [p.table["rms"].tolist() for p in rms.values()] == [[0.1, 0.9], [0.1, 0.2]]
    angle = {
        name: next(p for p in pictures if "angle?" in p.title and "error depend" in p.title)
        for name, pictures in named.items()
    }
    assert [p.table["error"].tolist() for p in angle.values()] == [[1.0, 5.0] * 2, [2.0, 3.0] * 2]
    assert [p.title.rpartition(" ")[2] for p in angle.values()] == ["1.08", "1.08"]
    assert [p.title.rpartition(",")[0][-4:] for p in angle.values()] == ["5.00", "1.50"]
    length = {name: next(p for p in pictures if "length or angle" in p.title) for name, pictures in named.items()}
    assert [set(p.table["amplitude"]) for p in length.values()] == [{0.7}, {0.2}]
    assert sum("Which band makes the noise" in p.title for p in drawn) == 1  # a map by layer tells them apart itself


def test_null_rows_of_a_group_are_its_own(grouped):
    """Every number that a group says for itself differs from the whole model's, and no row is of all layers."""
    whole, (full, sliding, still) = grouped, grouped.groups
    peak = whole.kernel.model_copy(update={"side_peak": [0.9, None]})
    change = whole.logit_change.model_copy(update={"in_all": 9.0, "by_band": [8.0, 7.0]})
    errors = {
        "pair_error": whole.pair_error.model_copy(update={"share": 0.9}),
        "anisotropy": of_one_layer(whole.anisotropy, {"ratio": [[6.0, None]]}),
        "kernel": peak,
        "logit_change": change,
    }
    full = full.model_copy(update={"logit_change": whole.logit_change})
    two = whole.model_copy(update={"groups": [full, sliding.model_copy(update=errors), still]})
    view = two.of_group(1)
    rows = view.null_rows()
    assert {r.diagnostic for r in rows} == {
        "Interpolation pressure",
        "Aliasing",
        "Logit change under the interpolation",
        "Amplitude and phase error",
        "Axis anisotropy",
    }
    own = {r.quantity: r.measured for r in rows}
    assert own["phase displacement, rad, highest band"] == 0.5
    assert own["highest side peak of the kernel, band 0"] == 0.9
    assert [v for name, v in own.items() if "nats if the stretch" in name] == [9.0, 8.0, 7.0]
    assert 0.9 in [r.measured for r in rows if r.diagnostic == "Amplitude and phase error"]
    assert [r.measured for r in rows if r.diagnostic == "Axis anisotropy"] == [6.0, 6.0]
    # other parts only where they are named, and they speak of all layers
    assert view.null_rows("outliers") == whole.null_rows("outliers") != []
    assert '"of_one_group"' not in view.to_json()


def test_null_rows_of_the_whole_ask_every_group_that_turns_for_its_frequencies(grouped):
    asked = "phase displacement, rad, highest band"
    found = {r.quantity: r.measured for r in grouped.null_rows("bands")}
    assert {name: v for name, v in found.items() if asked in name} == {
        f"full attention: {asked}": 1.0,
        f"window of 16 tokens: {asked}": 0.5,
    }
    assert asked in [r.quantity for r in planted.diagnosis().null_rows("bands")]


def test_one_picture_lays_the_groups_noise_side_by_side(apart, grouped):
    picture = noise.by_group(apart)
    assert picture.title == "Which layers make the noise? Most: not rotated"
    assert [t.name for t in picture.figure.data[::2]] == ["full attention", "window of 16 tokens", "not rotated"]
    assert list(picture.figure.data[0].y) == [0.1, 0.9]
    assert list(picture.figure.data[5].y) == pytest.approx([0.05, 0.06])
    assert picture.table["rms"].tolist() == [0.1, 0.9, 0.1, 0.2, 0.5, 0.6]
    assert picture.table["position"].tolist() == [16, 64] * 3
    assert noise.by_group(grouped) is None  # a file that pools all layers
    assert noise.by_group(planted.diagnosis()) is None
    assert sum("grow with position" in p.title for p in gallery.diagnosed(grouped)) == 1


def test_nulls_of_groups_are_grey_and_dotted(apart):
    """Each group's own null, none in a file without."""
    null = planted_null()
    groups = [
        g.model_copy(update={"noise": g.noise.model_copy(update={"null": null})}) if g.noise else g
        for g in apart.groups
    ]
    picture = noise.by_group(apart.model_copy(update={"groups": groups}))
    lines = [t for t in picture.figure.data if t.name.startswith("null: ")]
    assert [t.name for t in lines] == [f"null: {g.name}" for g in groups if g.noise]
    assert {(t.line.color, t.line.dash) for t in lines} == {(GREY, "dot")}
    assert "Dotted grey" in picture.how_to_read
    without = noise.by_group(apart)
    assert "Dotted" not in without.how_to_read
    assert not [t for t in without.figure.data if t.name.startswith("null: ")]


def planted_null():
    curve, bands = [0.1, 0.2], [[0.1, 0.2], [0.1, 0.2]]
    return NoiseNull(rms=curve, rms_by_distance=curve, noise_std=curve, by_band_position=bands, by_band_distance=bands)
