"""The pictures with the methods side by side show the numbers of the result, and their titles what follows from it."""

import math

import plotly.io
import pytest

from qroar_core.diagnostics.pressure import figure_methods as pressure_methods
from qroar_core.figures.picture import PAYLOAD_LIMIT
from qroar_core.interpolations.result import MethodPressure, Pressures

OMEGA = [1.0, 0.1, 0.01, 0.001]


def shown(method, pressure, displacement, chosen=False, factor=4.0):
    halves = [[(v[0] + v[1]) / 2, (v[2] + v[3]) / 2] for v in (pressure, displacement)]
    return MethodPressure(
        method=method,
        factor=factor,
        chosen=chosen,
        inv_freq=OMEGA,
        pressure=pressure,
        displacement=displacement,
        band_pressure=halves[0],
        band_displacement=halves[1],
    )


def result(*methods, absent=None):
    return Pressures(
        length=1024,
        original_context=256,
        factor=4.0,
        law="causal",
        mean_distance=341.0,
        native_inv_freq=OMEGA,
        bands=[(0, 1), (2, 3)],
        methods=list(methods),
        absent=absent or {},
    )


LINEAR = shown("linear", [80.0, 8.0, 0.8, 0.08], [240.0, 24.0, 2.4, 0.24])
YARN = shown("yarn", [0.0, 4.0, 6.0, 2.0], [1e-5, 12.0, 18.0, 6.0], chosen=True)
BOTH = result(LINEAR, YARN, absent={"longrope": "LongRoPE needs a factor per pair"})


def test_every_pair_stands_at_its_native_wavelength_under_both_measures():
    picture = pressure_methods.by_pair(BOTH)
    lines = {(line.name, line.xaxis): line for line in picture.figure.data}
    linear, yarn = lines["linear ×4", "x"], lines["YaRN ×4 (chosen)", "x"]
    assert list(linear.x) == pytest.approx([2 * math.pi * 10**i for i in range(4)])
    assert list(linear.y) == [80.0, 8.0, 0.8, 0.08]
    assert list(yarn.y) == [None, 4.0, 6.0, 2.0]  # no point on a logarithmic axis at 0
    assert list(lines["YaRN ×4 (chosen)", "x2"].y) == [None, 12.0, 18.0, 6.0]  # 1e-5 rad is float32 rounding
    assert yarn.line.width > linear.line.width
    assert picture.title == "YaRN moves pairs with a wavelength of 628 tokens most, and leaves 1 of 4 pairs alone"
    assert len(picture.table) == 8
    assert list(picture.table["native_wavelength_tokens"])[:4] == list(linear.x)
    assert list(picture.table["interpolated_wavelength_tokens"])[:4] == list(linear.x)  # OMEGA stands for both here
    assert list(picture.table.query("chosen")["pressure_rad_per_efold"]) == [0.0, 4.0, 6.0, 2.0]


def test_the_band_map_is_coloured_by_order_of_magnitude_and_written_out():
    picture = pressure_methods.by_band(BOTH)
    drawn = picture.figure.data[0]
    assert [list(row) for row in drawn.z] == [
        pytest.approx([math.log10(44), math.log10(0.44)]),
        pytest.approx([math.log10(2), math.log10(4)]),
    ]
    assert [list(row) for row in drawn.text] == [["44", "0.44"], ["2", "4"]]
    assert picture.title == "YaRN moves band 1 most, linear band 0: 4 against 44 rad"
    assert "LongRoPE is not shown: LongRoPE needs a factor per pair." in picture.how_to_read
    assert picture.sample == (
        "Computed from frequencies alone: no text was read. Closed forms at 1,024 tokens, causal distances with a mean "
        "of 341.0 tokens."
    )


def test_a_band_left_alone_has_no_colour_and_no_number():
    drawn = pressure_methods.by_band(result(LINEAR, shown("llama3", [0.0, 0.0, 1.0, 1.0], [0.0] * 4))).figure.data[0]
    assert drawn.z[1][0] is None
    assert drawn.text[1][0] == ""


def test_a_checkpoints_own_interpolation_is_what_is_in_force():
    own = shown("default", [0.0, 4.0, 6.0, 2.0], [0.0, 12.0, 18.0, 6.0], chosen=True)
    found = result(own, LINEAR)
    assert pressure_methods.by_pair(found).figure.data[0].name == "the checkpoint's own ×4 (chosen)"
    assert pressure_methods.by_pair(found).title == (
        "The checkpoint's own interpolation moves pairs with a wavelength of 628 tokens most, and leaves 1 of 4 pairs "
        "alone"
    )
    assert pressure_methods.by_band(found).title == (
        "The checkpoint's own interpolation moves band 1 most, linear band 0: 4 against 44 rad"
    )


def test_under_the_checkpoints_own_rope_the_methods_are_compared():
    own = shown("default", [0.0] * 4, [0.0] * 4, chosen=True, factor=1.0)
    none = result(own, LINEAR, shown("yarn", [0.0, 4.0, 6.0, 2.0], [0.0] * 4))
    assert pressure_methods.by_pair(none).title == "What would ×4 do to each wavelength?"
    assert pressure_methods.by_band(none).title == "At ×4, YaRN has the lowest peak pressure: 4 rad"


def test_frequencies_that_differ_but_do_not_change_with_the_factor_are_not_called_left_alone():
    """LongRoPE inside its native window: the short list is not 1 and no function of the factor."""
    fixed = shown("longrope", [0.0] * 4, [0.0, 0.2, 0.3, 0.35], chosen=True)
    pairs, bands = pressure_methods.by_pair(result(fixed)), pressure_methods.by_band(result(fixed))
    assert pairs.title == (
        "LongRoPE: frequencies are not the native ones, but do not change with the factor at 1,024 tokens"
    )
    assert bands.title == "No method's frequencies change with the factor at 1,024 tokens"
    assert "not so under LongRoPE ×4 (chosen)" in bands.how_to_read
    some = pressure_methods.by_pair(result(shown("longrope", [0, 0, 1.0, 2.0], [0, 0.2, 1.0, 2.0], chosen=True))).title
    assert some.endswith(
        "and leaves 1 of 4 pairs alone; 1 have other frequencies than native RoPE, which do not change with the factor"
    )
    alone = shown("longrope", [0.0] * 4, [1e-9] * 4, chosen=True)
    assert pressure_methods.by_pair(result(alone)).title == "LongRoPE moves no pair at 1,024 tokens"
    assert pressure_methods.by_band(result(alone)).title == "No method moves a band at 1,024 tokens"
    assert "not so under" not in pressure_methods.by_band(result(alone)).how_to_read


def test_nothing_moves_is_said():
    still = result(shown("dynamic", [0.0] * 4, [0.0] * 4, chosen=True))
    assert pressure_methods.by_pair(still).title == "Dynamic NTK moves no pair at 1,024 tokens"
    assert pressure_methods.by_band(still).title == "No method moves a band at 1,024 tokens"


@pytest.mark.parametrize("draw", [pressure_methods.by_pair, pressure_methods.by_band])
def test_axes_carry_units_and_the_payload_is_small(draw):
    picture = draw(BOTH)
    assert picture.how_to_read.endswith(".")
    assert picture.figure.layout.xaxis.title.text
    assert len(plotly.io.to_json(picture.figure)) < PAYLOAD_LIMIT / 10
