"""The Learn page in a fresh dashboard: no model, eight questions, one opened, figures that follow their sliders."""

import json
import math

import pytest

from pages.state.lessons import LESSONS
from qroar_core.lessons.commuting import MOVES
from tests.pages.visitor import button, go, texts, visit

pytestmark = pytest.mark.slow

SLIDERS = {  # lesson: key: extremes
    "clocks": {"learn_position": (0, 8192), "learn_distance": (0, 64)},
    "grid": {"learn_bits": (2, 8), "learn_pair": (0.25, 4.0), "learn_other": (0.0, 16.0), "learn_angle": (0, 360)},
    "scale": {"learn_g": (-2.0, 6.0), "learn_loud": (1.0, 16.0), "learn_scale_bits": (2, 8)},
    "commuting": {"learn_move_pair": (8, 30), "learn_move_distance": (0, 1023)},
}
STEPPED = {
    "clocks": {"learn_stride": (1, 256)},
    "window": {"learn_length": (1.0, 32.0)},
    "interpolation": {"learn_factor": (1.0, 32.0)},
    "aliasing": {"learn_alias_factor": (1.0, 32.0), "learn_reach": (64, 16384), "learn_band": (0, 7)},
    "commuting": {"learn_amount_scale": (-2.0, 3.0)},
    "tying": {"learn_tied_pairs": (8, 30), "learn_tied_turn": (0.0, 1.5), "learn_tied_length": (128, 1024)},
}
MENUS = {"aliasing": {"learn_method"}, "commuting": {"learn_move"}}
OF_A_HEAD = ("clocks", "window", "interpolation", "aliasing")  # which a menu chooses


@pytest.fixture
def learn(app):
    go(app, "learn")
    return fine(app)


def fine(app):
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def table(app, column):
    """The one table with this column."""
    (found,) = [d.value for d in app.dataframe if column in d.value.columns]
    return found


def opened(app, lesson):
    """One click on a question of the list."""
    return fine(app.pills(key="learn_lesson").select(lesson).run())


def named(app):
    """The question that the address names; of the first it needs none."""
    value = app.query_params.get("lesson", "clocks")
    return value if isinstance(value, str) else value[0]


def test_without_a_model_it_lists_eight_questions_and_each_is_opened_by_one_click(learn):
    assert learn.pills(key="learn_lesson").options == [
        f"{n}. {name}" for n, (name, _) in enumerate(LESSONS.values(), 1)
    ]
    headings = [f"{n}. {question}" for n, (_, question) in enumerate(LESSONS.values(), 1)]
    assert len(headings) == 8
    for lesson, heading in zip(LESSONS, headings, strict=True):
        opened(learn, lesson)
        assert [(s.value, s.proto.anchor) for s in learn.header] == [(heading, lesson)]
        assert [e.label for e in learn.expander].count("The answer") == 1
        charts = learn.get("plotly_chart")
        assert len(charts) == (2 if lesson == "aliasing" else 1)
        for chart in charts:
            assert len(chart.proto.alt) > 80
            assert chart.proto.alt.endswith(".")
        assert not learn.info
        assert not learn.warning
        assert named(learn) == lesson


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_is_opened_by_a_link(app, lesson):
    linked = fine(go(visit(app, lesson=lesson), "learn"))
    assert [s.proto.anchor for s in linked.header] == [lesson]
    assert linked.pills(key="learn_lesson").value == lesson


def test_a_link_to_no_question_says_so_and_opens_the_first(app):
    linked = visit(app, lesson="clocks|window")
    assert "Of this link, lesson could not be read" in texts(linked)
    assert [s.proto.anchor for s in go(linked, "learn").header] == ["clocks"]


def test_the_way_on_leads_through_all_of_them_to_start(learn):
    seen = []
    for _ in range(len(LESSONS) - 1):
        seen += [s.proto.anchor for s in learn.header]
        (way,) = [b.label for b in learn.button if b.label.startswith("Next: ")]
        fine(button(learn, way).click().run())
        assert f"Next: {learn.header[0].value}" == way
    assert [*seen, learn.header[0].proto.anchor] == list(LESSONS)
    assert not [b for b in learn.button if b.label.startswith("Next: ")]
    assert "Now on a real model: Start" in [link.proto.label for link in learn.get("page_link")]


def test_what_was_set_in_a_step_stays_while_another_is_shown(learn):
    learn.selectbox(key="learn_head").select_index(2).run()
    fine(learn.slider(key="learn_distance").set_value(5).run())
    opened(learn, "grid")
    fine(learn.slider(key="learn_bits").set_value(3).run())
    opened(learn, "clocks")
    assert learn.slider(key="learn_distance").value == 5
    assert learn.selectbox(key="learn_head").index == 2
    opened(learn, "grid")
    assert learn.slider(key="learn_bits").value == 3


def test_every_control_has_a_label_and_a_stable_key(learn):
    labels = []
    for lesson in LESSONS:
        opened(learn, lesson)
        assert {s.key: (s.min, s.max) for s in learn.slider} == SLIDERS.get(lesson, {})
        assert {s.key for s in learn.select_slider} == set(STEPPED.get(lesson, {}))
        head = {"learn_head"} if lesson in OF_A_HEAD else set()
        assert {s.key for s in learn.selectbox} == MENUS.get(lesson, set()) | head
        labels.append([w.label for kind in (learn.slider, learn.select_slider, learn.selectbox) for w in kind])
        assert all(labels[-1])
        assert len(set(labels[-1])) == len(labels[-1])


def test_clock_table_follows_position_and_distance(learn):
    learn.slider(key="learn_position").set_value(1000)
    fine(learn.slider(key="learn_distance").set_value(5).run())
    shown = table(learn, "key_degrees")
    for _, row in shown.iterrows():
        omega = 10_000.0 ** (-row["pair"] / 64)
        assert row["key_degrees"] == pytest.approx(math.degrees(omega * 1000) % 360, abs=1e-6)
        assert row["between_degrees"] == pytest.approx(math.degrees(omega * 5) % 360, abs=1e-6)
    figure = json.loads(learn.get("plotly_chart")[0].proto.spec)
    assert len(figure["frames"]) == 60
    assert figure["frames"][3]["data"][3]["text"] == ["key at position 1003, query at position 1008"]


def test_context_and_factor_move_their_tables(learn):
    opened(learn, "window")
    fine(learn.select_slider(key="learn_length").set_value(8.0).run())
    windows = table(learn, "circle_new")
    last = 10_000.0 ** (-63 / 64) / (2 * math.pi)  # turns per token of the slowest pair
    assert windows["circle_new"].iloc[63] == pytest.approx(last * (32768 - 4096), rel=1e-9)
    opened(learn, "interpolation")
    fine(learn.select_slider(key="learn_factor").set_value(8.0).run())
    methods = table(learn, "attention factor a(s)").set_index("method")
    assert methods.loc["YaRN", "attention factor a(s)"] == pytest.approx(0.1 * math.log(8) + 1)
    assert methods.loc["linear", "fastest pair, ω(s)/ω"] == pytest.approx(1 / 8)


def test_aliasing_follows_method_band_and_reach(learn):
    opened(learn, "aliasing")
    learn.selectbox(key="learn_method").set_value("linear")
    learn.select_slider(key="learn_band").set_value(5)
    fine(learn.select_slider(key="learn_reach").set_value(256).run())
    shown = table(learn, "interpolated_high").set_index("distance")
    omega = [10_000.0 ** (-i / 64) / 4 for i in range(40, 48)]
    assert shown["interpolated_high"][200] == pytest.approx(sum(math.cos(w * 200) for w in omega) / 8, abs=1e-6)
    assert len(shown) == 257


def test_bits_and_neighbour_set_the_step(learn):
    opened(learn, "grid")
    learn.slider(key="learn_bits").set_value(3)
    fine(learn.slider(key="learn_other").set_value(4.5).run())
    shown = table(learn, "angle_degrees")
    assert shown["step"].tolist() == pytest.approx([1.5] * len(shown))
    assert shown["error"].iloc[0] == pytest.approx(0.5)  # (1, 0) goes to (1.5, 0)
    assert shown["error"].iloc[90] == pytest.approx(1.0)  # 45 degrees: both coordinates under half a step
    fine(learn.slider(key="learn_other").set_value(7.0).run())
    assert "int3 rounds the whole pair to zero" in texts(learn)


def test_scale_shows_the_error_at_g_the_least_error_and_that_logits_stay(learn):
    opened(learn, "scale")
    fine(learn.slider(key="learn_g").set_value(2.0).run())
    shown = table(learn, "logit_error")
    here, least, change = (m.value for m in learn.metric[:3])
    assert here == f"{shown.set_index('log2_g')['logit_error'][2.0]:.2%}"
    assert least == f"{shown['logit_error'].min():.2%}"
    assert learn.metric[1].label.endswith(f"log2 g = {shown['log2_g'][shown['logit_error'].idxmin()]:g}")
    assert 0 < float(change) < 1e-12


def test_a_transform_has_its_own_amounts_and_its_row_in_the_table(learn):
    opened(learn, "commuting")
    assert "Scale the pair: no logit changes at any distance" in texts(learn)
    for kind in ("mirror", "alike", "offset_still"):
        move = MOVES[kind]
        learn.selectbox(key="learn_move").select(kind)
        fine(learn.run())
        knob = learn.select_slider(key=f"learn_amount_{kind}")
        assert (knob.label, knob.value) == (move.knob, move.start)
        shown = table(learn, "transformed_logit")
        assert len(shown) == 1024
        change = shown["transformed_logit"] - shown["logit"]
        change -= change.mean() if move.offset else 0
        metric = next(m.value for m in learn.metric if m.label == "Largest change of a logit")
        assert float(metric) == pytest.approx(change.abs().max(), rel=0.05, abs=1e-12)
        assert ("moves by up to" in texts(learn)) == (change.abs().max() > 1e-9)
    rows = table(learn, "best amount").set_index("transform")
    assert list(rows.index) == [move.label for move in MOVES.values()]


def test_a_tie_shows_the_angles_off_at_the_length_chosen(learn):
    opened(learn, "tying")
    learn.select_slider(key="learn_tied_turn").set_value(0.0)
    fine(learn.select_slider(key="learn_tied_length").set_value(256).run())
    shown = table(learn, "rms_change")
    assert len(shown) == 256
    metrics = {m.label: m.value for m in learn.metric}
    for pair, column in ((18, "angle_off_first_pair"), (19, "angle_off_second_pair")):
        omega = 10_000.0 ** (-pair / 32) / 4  # YaRN slows pairs that never complete a turn by its factor
        assert shown[column].iloc[200] == pytest.approx(-200 * omega, rel=1e-6)
        assert metrics[f"Pair {pair} is off at L by"] == f"{-256 * omega:+.2f} rad"
    assert "Pairs 18 and 19 held still" in texts(learn)


@pytest.mark.parametrize(("head", "end"), [(0, 0), (0, 1), (1, 1), (3, 1)])
def test_no_slider_extreme_breaks_a_figure(learn, head, end):
    learn.selectbox(key="learn_head").select_index(head).run()
    for lesson in LESSONS:
        opened(learn, lesson)
        for slider in learn.slider:
            slider.set_value((slider.min, slider.max)[end])
        for key, extremes in STEPPED.get(lesson, {}).items():
            learn.select_slider(key=key).set_value(extremes[end])
        fine(learn.run())
        assert len(learn.get("plotly_chart")) == (2 if lesson == "aliasing" else 1)


def test_a_smaller_head_takes_a_far_position_back(learn):
    learn.slider(key="learn_position").set_value(8192).run()
    fine(learn.selectbox(key="learn_head").select_index(3).run())
    assert learn.slider(key="learn_position").max == 512
    assert learn.slider(key="learn_position").value <= 512
    learn.selectbox(key="learn_head").select_index(0).run()
    fine(learn.slider(key="learn_position").set_value(8192).run())
    opened(learn, "window")  # a menu of another step
    learn.selectbox(key="learn_head").select_index(3).run()
    opened(learn, "clocks")
    assert learn.slider(key="learn_position").value <= 512
