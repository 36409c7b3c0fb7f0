"""Pictures of a comparison: every number of the result is in them, and nothing of what is not there."""

import pytest

from qroar_core.figures.picture import PAYLOAD_LIMIT
from qroar_core.remedies import figure as drawn
from tests.helpers import planted_comparison


def test_gains_best_first_free_and_not_free_apart():
    made = planted_comparison.comparison()
    shown = drawn.gains(made)
    names = [
        "KVQuant (K per channel before RoPE)",
        "Hadamard rotation of q and k + band scales",
        "Hadamard rotation of q and k",
        "band scales",
        "SmoothAttention",
        "SmoothAttention + band scales",
    ]
    assert list(shown.figure.layout.yaxis.categoryarray) == names[::-1]
    traces = {trace.name: trace for trace in shown.figure.data}
    assert list(traces["free at run time"].y) == ["SmoothAttention"]
    assert list(traces["free, with band scales"].y) == ["band scales", "SmoothAttention + band scales"]
    assert set(traces["the runtime must do it"].y) == {names[0], names[2]}
    by_name = {row.name: row for row in made.rows}
    for trace in traces.values():
        for i, name in enumerate(trace.y):
            row = by_name[name]
            assert trace.x[i] == row.gain
            assert trace.x[i] + trace.error_x.array[i] == pytest.approx(row.gain_high)
            assert trace.x[i] - trace.error_x.arrayminus[i] == pytest.approx(row.gain_low)
    assert made.gap in [line.x0 for line in shown.figure.layout.shapes]
    assert shown.figure.layout.xaxis.title.text == "nats per token recovered (right of 0 is better)"
    assert len(shown.figure.to_json()) < PAYLOAD_LIMIT
    assert list(shown.table["ppl"]) == [row.ppl for row in made.rows]
    assert shown.table.iloc[0].isna()["gain_nats"]


def test_what_band_scales_add_is_coloured_by_what_is_proven():
    made = planted_comparison.comparison()
    shown = drawn.on_top(made)
    bar = shown.figure.data[0]
    assert list(bar.y) == ["on no remedy", "on SmoothAttention", "on Hadamard rotation of q and k"]
    assert list(bar.x) == [row.added for row in made.rows if row.added is not None]
    assert list(bar.marker.color) == [drawn.GREEN, drawn.GREY, drawn.GREEN]


def test_without_rivals_or_band_scales_there_is_no_picture():
    assert drawn.gains(planted_comparison.comparison({"plain": 0.5})) is None
    alone = planted_comparison.comparison({"plain": 0.5, "rotation": 0.2})
    assert drawn.on_top(alone) is None
    assert drawn.gains(alone) is not None


def test_angles_have_marks_and_rows_of_their_own():
    cost = planted_comparison.COST | {"plain++": 0.2, "rotation++": 0.05}
    made = planted_comparison.comparison(cost)
    stars = {trace.name: list(trace.y) for trace in drawn.gains(made).figure.data if "star" in trace.marker.symbol}
    assert stars == {
        "free, with band scales and angles": ["band scales and angles"],
        "the runtime must do it, with band scales and angles": [
            "Hadamard rotation of q and k + band scales and angles"
        ],
    }
    added = drawn.on_top(made).table
    names = [name for name in added.iloc[:, 0] if name.startswith("angles too")]
    assert names == ["angles too, on no remedy", "angles too, on Hadamard rotation of q and k"]
