"""Pressure: the plain part before any diagnosis, its window, law and factor; then the diagnosis part."""

import json
import math

import numpy as np
import pytest

from tests.pages.visitor import button, clicked, texts, titles

pytestmark = pytest.mark.slow

THETA, R, L0 = 10_000.0, 64, 256  # the demo's
OMEGA = THETA ** (-2 * np.arange(R // 2) / R)


@pytest.fixture
def page(loaded_app):
    loaded_app.switch_page("pages/pressure.py")
    return run(loaded_app)


def run(app):
    app.run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def by_band(app, method):
    """The pressure column of one method in the page's table of bands."""
    numbers = next(d.value for d in app.dataframe if {"band", "method"} <= set(d.value.columns))
    return numbers[numbers["method"] == method]["pressure_rad_per_efold"].to_numpy()


def linear(factor, mean_distance):
    """omega / s times E[D], meaned over 8 bands of 4 pairs."""
    return (OMEGA / factor * mean_distance).reshape(8, 4).mean(1)


def test_plain_pressure_is_there_before_any_diagnosis(page):
    assert titles(page) == [
        "YaRN moves band 1 most, linear band 0: 7.3 against 58.3 rad",
        "YaRN moves pairs with a wavelength of 15 tokens most, and leaves 1 of 32 pairs alone",
    ]
    assert len(page.get("plotly_chart")) == 2
    np.testing.assert_allclose(by_band(page, "linear ×4"), linear(4, 1023 / 3), rtol=1e-5)
    assert "LongRoPE is not shown: LongRoPE needs a factor per pair and this checkpoint ships none." in texts(page)
    assert button(page, "Diagnose").proto.type == "primary"
    assert "Not measured for this setup yet" in page.info[0].value


def test_window_law_and_factor_change_the_table_and_not_the_setting(page):
    before = dict(page.query_params)
    page.number_input(key="pressure length").set_value(2000)
    np.testing.assert_allclose(by_band(run(page), "linear ×4"), linear(4, 1999 / 3), rtol=1e-5)
    page.selectbox(key="pressure law").select("uniform")
    np.testing.assert_allclose(by_band(run(page), "linear ×4"), linear(4, np.arange(2000).mean()), rtol=1e-5)
    page.number_input(key="pressure factor").set_value(7.0)
    np.testing.assert_allclose(by_band(run(page), "linear ×7"), linear(7, 999.5), rtol=1e-5)
    slope = 2 * np.arange(32) / (R - 2) * OMEGA * 7 ** (-2 * np.arange(32) / (R - 2))
    np.testing.assert_allclose(
        by_band(page, "NTK-aware (static) ×7"), (slope * 999.5).reshape(8, 4).mean(1), rtol=1e-5, atol=1e-9
    )
    assert dict(page.query_params) == before
    assert "1024 tokens" in texts(page)  # the status bar keeps the setting's own


def test_a_new_setting_brings_its_own_window_and_factor(page):
    page.number_input(key="pressure factor").set_value(7.0)
    run(page)
    page.switch_page("pages/start.py")
    run(page)
    page.pills(key="preset").select("linear ×8, int4 K cache")
    run(page)
    page.switch_page("pages/pressure.py")
    run(page)
    assert page.number_input(key="pressure factor").value == 8.0
    assert page.number_input(key="pressure length").value == 2048
    assert titles(page)[0].startswith("Linear moves band 0 most, with ")
    np.testing.assert_allclose(by_band(page, "linear ×8 (chosen)"), linear(8, 2047 / 3), rtol=1e-5)


def test_window_and_law_are_kept_over_a_page_change(page):
    page.number_input(key="pressure length").set_value(4096)
    page.selectbox(key="pressure law").select("uniform")
    run(page)
    for name in ("noise", "pressure"):
        page.switch_page(f"pages/{name}.py")
        run(page)
    assert page.number_input(key="pressure length").value == 4096
    np.testing.assert_allclose(by_band(page, "linear ×4"), linear(4, 4095 / 2), rtol=1e-5)


def test_under_own_rope_the_methods_are_compared_all_the_same(page):
    page.switch_page("pages/start.py")
    run(page)
    page.pills(key="preset").select("checkpoint's own RoPE, int4 K cache")
    run(page)
    page.switch_page("pages/pressure.py")
    run(page)
    assert titles(page)[1] == "What would ×4 do to each wavelength?"
    assert not by_band(page, "the checkpoint's own (chosen)").any()
    np.testing.assert_allclose(by_band(page, "linear ×4"), linear(4, 255 / 3), rtol=1e-5)


def test_longrope_joins_in_once_the_setting_has_lists(page):
    page.switch_page("pages/start.py")
    run(page)
    page.selectbox(key="rope").select("longrope")
    run(page)
    page.text_area(key="factor lists").set_value(" ".join(["4"] * 32))
    run(page)
    page.switch_page("pages/pressure.py")
    run(page)
    # a list of equal factors s is linear interpolation by s
    np.testing.assert_allclose(by_band(page, "LongRoPE ×4 (chosen)"), by_band(page, "linear ×4"), rtol=1e-4)
    assert "is not shown" not in texts(page)


def test_the_diagnosis_comes_below_and_leaves_the_plain_part(page):
    clicked(page, "Diagnose")
    run(page)
    assert len(page.get("plotly_chart")) == 6
    assert titles(page)[2] == "The angles of band 1 change most, and band 0 moves the logits most"
    drawn = json.loads(page.get("plotly_chart")[1].proto.spec)
    assert drawn["layout"]["xaxis"]["title"]["text"] == "native wavelength of the pair, tokens"


def test_the_longest_windows_are_computed_at_once(page):
    import time

    page.number_input(key="pressure length").set_value(131_072)
    began = time.monotonic()
    run(page)
    assert time.monotonic() - began < 3  # the whole page, two shared cores; its own part takes milliseconds
    np.testing.assert_allclose(by_band(page, "linear ×4"), linear(4, 131_071 / 3), rtol=1e-5)
    assert math.isclose(by_band(page, "linear ×4")[0], 7470, rel_tol=1e-2)
    assert sum(len(chart.proto.spec) for chart in page.get("plotly_chart")) < 100_000
