"""The evidence figures: every number of the result in its place, titles that say the finding."""

import pytest

from qroar_core.evidence.controls import figure as controlled
from qroar_core.evidence.replication import figure as replicated
from qroar_core.evidence.replication.claims import CLAIMS
from qroar_core.figures.picture import PAYLOAD_LIMIT
from tests.helpers import planted_evidence as planted


def test_the_forest_has_one_row_a_control_with_its_interval():
    result = planted.controls()
    shown = controlled.forest(result)
    spans, points = shown.figure.data
    by_name = dict(zip(points.y, points.x))
    assert by_name["the tuned scales"] == pytest.approx(0.2)
    assert by_name["shuffled among the bands of each head (2 draws)"] == pytest.approx(-0.05)
    assert by_name["searched on novels"] == pytest.approx(0.15)
    at = list(points.y).index("searched on novels")
    gain = next(c for c in result.controls if c.kind == "text").gain
    assert points.error_x.array[at] == pytest.approx(gain.high - gain.mean)
    assert points.error_x.arrayminus[at] == pytest.approx(gain.mean - gain.low)
    assert [x for x in spans.x if x is not None] == pytest.approx([-0.06, -0.04])  # two draws of one control
    filled = dict(zip(points.y, points.marker.symbol))
    assert filled["the tuned scales"] == "circle"
    assert filled["the same on the unquantized model"] == "circle-open"
    assert shown.title.startswith("Shuffled among the bands of each head, the scales lose +0.2500 nats")
    line = shown.table.set_index("scales").loc["searched on novels"]
    assert (line["gain_nats"], line["less_than_tuned"]) == (pytest.approx(0.15), pytest.approx(0.05))


def test_number_formats_stand_side_by_side():
    shown = controlled.number_formats(planted.controls())
    parts = {trace.name: dict(zip(trace.y, trace.x)) for trace in shown.figure.data}
    assert parts["its reference above the loaded format's"] == {"bfloat16": pytest.approx(0.01)}
    assert parts["quantized above its own reference"] == {"float32": pytest.approx(0.4), "bfloat16": pytest.approx(0.4)}
    assert parts["quantized with scales above its own reference"]["bfloat16"] == pytest.approx(0.21)
    broken = controlled.number_formats(planted.controls(problem="overflow"))
    assert "bfloat16: its numbers overflow" in broken.how_to_read
    assert all("bfloat16" not in trace.y for trace in broken.figure.data)
    none = planted.controls().model_copy(update={"precisions": []})
    assert controlled.number_formats(none) is None


def test_the_matrix_has_words_and_figures_in_its_cells():
    result = planted.replication()
    shown = replicated.matrix(result)
    cells, words = shown.figure.data
    names = [name for name in CLAIMS if name != "accuracy"]  # it was not asked for
    assert (len(cells.z), len(cells.z[0])) == (len(names), 2)
    at = {name: i for i, name in enumerate(names)}
    written = {(x, names[y]): text for x, y, text in zip(words.x, words.y, words.text)}
    assert written[0, "perplexity"] == "<b>holds</b><br>18.1 %<br>[16.0, 20.2]"
    assert written[1, "amplified"] == "<b>holds</b><br>+0.050 nats<br>[+0.030, +0.070]"
    assert written[0, "tails_q"] == "<b>undecided</b><br>1.000 times<br>[0.950, 1.050]"
    assert written[0, "amplified_long"] == "<b>not testable here</b>"
    assert "within the native window" in cells.hovertext[at["amplified_long"]][0]
    levels = {name: cells.z[at[name]][0] for name in names}
    assert levels["perplexity"] == levels["amplified"] > levels["weighted_pressure"] > levels["tails_q"]
    assert levels["tails_q"] > levels["short_context"] == levels["amplified_long"]
    assert shown.title == "Of 12 testable claims 8 hold, 2 do not, 2 are undecided"
    assert len(shown.table) == 16
    row = shown.table[(shown.table["claim"] == CLAIMS["pressure"].statement)].iloc[0]
    assert (row["verdict"], row["value"], row["ci_low"], row["unit"]) == ("holds", 0.8, 0.6, "rho")


def test_colours_have_no_gradient_between_verdicts():
    cells, _ = replicated.matrix(planted.replication()).figure.data
    edges = [share for share, _ in cells.colorscale]
    shades = [shade for _, shade in cells.colorscale]
    assert edges == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1]
    assert all(a == b for a, b in zip(shades[::2], shades[1::2]))
    assert len(set(shades)) == 4
    assert (cells.zmin, cells.zmax) == (-0.5, 3.5)


def test_twenty_settings_stay_small():
    shown = replicated.matrix(planted.replication(tuple(f"setting number {i}" for i in range(20))))
    assert len(shown.figure.to_json()) < PAYLOAD_LIMIT
    assert shown.figure.data[1].text[0] == "<b>holds</b>"  # no room for the figure; hovering has it
    assert "+0.050 nats [+0.030, +0.070]" in shown.figure.data[0].hovertext[0][0]
