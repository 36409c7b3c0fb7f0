"""A planted table and its cells: what is chosen, from which windows, and what is refused."""

import time

import pandas as pd
import pytest
from scipy import stats

import qroar_core as qroar
from qroar_core.errors import BadOutput, BadSpec
from qroar_core.sweeps.table import frame_of, write_table
from qroar_core.tradeoffs.point import difference
from tests.helpers.planted_sweep import LOSSES, REFERENCE, row, write_cell, write_sweep


@pytest.fixture
def sweep(tmp_path):
    """A finished sweep with its cells."""
    write_sweep(tmp_path / "sweep", tmp_path / "cells")
    return tmp_path


def read(folder, **asked):
    return qroar.tradeoff(folder / "sweep", cells=folder / "cells", **asked)


def named(points):
    return {(one.quantizer, one.remedy) for one in points}


def test_points_are_the_rows_and_their_windows(sweep):
    (one,) = read(sweep).setups
    assert one.key.words == "demo, yarn ×4, 256 tokens of technical, seed 0"
    assert named(one.points) == set(LOSSES)
    for found in one.points:
        size, lost = LOSSES[found.quantizer, found.remedy]
        assert found.bytes_per_token == size
        assert found.units == pytest.approx(lost, abs=1e-12)
        assert found.quantized == (found.quantizer != "k=none")
    q4 = next(found for found in one.points if (found.quantizer, found.remedy) == ("kv=q4_0", "none"))
    ends = stats.ttest_1samp(LOSSES["kv=q4_0", "none"][1], 0).confidence_interval()
    assert (q4.low, q4.high) == pytest.approx((ends.low, ends.high))


def test_the_front_and_the_cheapest_of_the_planted_table(sweep):
    found = read(sweep, max_loss=0.05, length=32_768, batch=8)
    (one,) = found.setups
    front = [(step.point.quantizer, step.point.remedy, step.significant) for step in one.steps]
    assert front == [
        ("kv=int2", "none", True),
        ("kv=q4_0", "rotation", True),
        ("kv=int4", "none", False),
        ("kv=q8_0", "none", True),
        ("k=none", "none", True),
    ]
    assert one.choice.point.name == "kv=q4_0, rotation"
    table = found.table().set_index(["quantizer", "remedy"])
    assert table.loc[("kv=q4_0", "rotation"), "role"] == "chosen; front"
    assert table.loc[("kv=q4_0", "none"), "role"] == ""
    assert table.loc[("kv=int4", "none"), "role"] == "front, gain not significant"
    assert table.loc[("kv=int4", "none"), "beside"].endswith("over kv=q4_0, rotation")
    assert table.loc[("kv=q8_0", "none"), "GB"] == pytest.approx(1088 * 32_768 * 8 / 1e9)
    assert found.sentences[-1].startswith("Losses were measured at 256 tokens, not at 32,768")
    assert read(sweep, max_loss=0.02).setups[0].choice.point.name == "kv=q8_0"
    assert "No quantized cache is shown" in read(sweep, max_loss=0.001).sentences[0]


def test_marks_of_the_front_and_the_choice_are_round_and_no_remedys(sweep):
    """The caption names them as filled and open ones: nothing that tells traces apart by shape may change them."""
    (drawn,) = read(sweep).pictures("bytes")
    symbols = {trace.name: trace.marker.symbol for trace in drawn.figure.data if "markers" in trace.mode}
    assert symbols["front: significant"] == "hexagon2"
    assert symbols["front: gain not significant"] == "hexagon2-open"
    assert symbols["chosen"] == "octagon-open"


def test_without_the_cells_intervals_must_not_overlap_and_that_is_said(sweep):
    found = qroar.tradeoff(sweep / "sweep", cells=sweep / "elsewhere")
    assert [step.significant for step in found.setups[0].steps] == [True, True, False, True, True]
    assert not any(step.paired for step in found.setups[0].steps)
    assert f"The windows of 6 cells are not below {sweep / 'elsewhere'}: " in found.notes[0]
    assert found.table()["beside"].str.endswith(", not paired").sum() == 4


def test_what_failed_or_was_not_kept_is_left_out_and_said(tmp_path):
    rows = [
        row("kv=q4_0", "none", 576.0, (0.1, 0.2)),
        row("kv=q4_0", "scales", 576.0, (0.05, 0.06), kept="not kept: a run applies no scales"),
        row("kv=q8_0", "none", 1088.0, (0.0, 0.0), status="failed", why="no room"),
    ]
    (tmp_path / "sweep").mkdir()
    write_table(tmp_path / "sweep", frame_of(rows))
    found = read(tmp_path, max_loss=0.5)
    assert found.notes[0] == "Left out, failed or not run: 1 of 3 cells"
    assert found.table()["role"].tolist() == ["found, not kept", "front"]
    assert found.setups[0].choice.point is None  # two windows: the interval reaches far over 0.5


def test_the_kl_has_students_interval_and_the_table_of_sweep_does_too(tmp_path):
    (tmp_path / "sweep").mkdir()
    rows = [row("kv=q4_0", "none", 576.0, (0.1, 0.2, 0.3), kl=0.04)]
    rows.append(row("kv=q8_0", "none", 1088.0, (0.1, 0.2, 0.3)))
    write_table(tmp_path / "sweep", frame_of(rows))
    write_cell(tmp_path / "cells" / rows[0].run, "none", (0.1, 0.2, 0.3), REFERENCE[:3], kl=0.04, kl_se=0.01)
    found = read(tmp_path, loss="kl")
    (one,) = found.setups[0].points
    reach = stats.t.ppf(0.975, 2) * 0.01
    assert (one.low, one.high) == pytest.approx((max(0, 0.04 - reach), 0.04 + reach))
    assert one.units == ()
    assert "Left out, without a KL: 1 cell" in found.notes
    table = frame_of(rows)
    assert qroar.tradeoff(table, cells=tmp_path / "cells", loss="kl").setups[0].points[0].high == pytest.approx(
        one.high
    )


def test_the_kl_of_the_same_windows_is_paired(tmp_path):
    (tmp_path / "sweep").mkdir()
    kl = {"kv=q4_0": (0.30, 0.52, 0.41), "kv=q8_0": (0.20, 0.40, 0.31), "k=none": None}
    rows = []
    for at, (name, mine) in enumerate(kl.items()):
        lost = (0.1, 0.2, 0.3) if mine else (0.0,) * 3
        ends = stats.ttest_1samp(mine, 0).confidence_interval() if mine else (0.0, 0.0)
        said = {"kl": sum(mine or (0,)) / 3, "kl_low": max(0.0, ends[0]), "kl_high": ends[1]}
        rows.append(row(name, "none", 500.0 + at, lost, **said))
        write_cell(tmp_path / "cells" / rows[-1].run, "none", lost, REFERENCE[:3], window_kl=mine or (0.0,) * 3)
    write_table(tmp_path / "sweep", frame_of(rows))
    found = read(tmp_path, loss="kl")
    points = {one.quantizer: one for one in found.setups[0].points}
    for name, mine in kl.items():
        assert points[name].units == (mine or (0.0,) * 3)
    high = stats.ttest_1samp(kl["kv=q4_0"], 0).confidence_interval().high
    assert (points["kv=q4_0"].low, points["kv=q4_0"].high) == pytest.approx((max(0.0, 0.82 - high), high))
    between, paired = difference(points["kv=q4_0"], points["kv=q8_0"])
    expected = stats.ttest_rel(kl["kv=q4_0"], kl["kv=q8_0"]).confidence_interval()
    assert paired
    assert (between.low, between.high) == pytest.approx((expected.low, expected.high))
    assert difference(points["kv=q4_0"], points["k=none"])[1]
    assert found.notes == ()


def test_a_table_of_before_has_no_interval_of_the_kl_and_opens(tmp_path):
    (tmp_path / "sweep").mkdir()
    rows = [row("kv=q4_0", "none", 576.0, (0.1, 0.2, 0.3), kl=0.04)]
    older = frame_of(rows).drop(columns=["kl_low", "kl_high"])
    older.to_csv(tmp_path / "sweep" / "table.csv", index=False)
    (one,) = read(tmp_path, loss="kl").setups[0].points
    assert (one.loss, one.low, one.high) == (0.04, None, None)
    write_cell(tmp_path / "cells" / rows[0].run, "none", (0.1, 0.2, 0.3), REFERENCE[:3], kl=0.04, kl_se=0.01)
    found = read(tmp_path, loss="kl")
    assert found.setups[0].points[0].high == pytest.approx(0.04 + stats.t.ppf(0.975, 2) * 0.01)
    assert found.notes[-1].startswith("An older version measured 1 cell and kept no KL of single windows")
    assert qroar.tradeoff(older, cells=tmp_path / "none", loss="nll").setups[0].points[0].loss == pytest.approx(0.2)


def test_several_setups_stand_apart(tmp_path):
    rows = [row("kv=q4_0", "none", 576.0, (0.1, 0.2), text=text) for text in ("technical", "novels")]
    (tmp_path / "sweep").mkdir()
    write_table(tmp_path / "sweep", frame_of(rows))
    found = read(tmp_path)
    assert [one.key.text for one in found.setups] == ["technical", "novels"]
    assert found.sentences[1].startswith("demo, yarn ×4, 256 tokens of novels, seed 0: None of 1 measured format")
    assert found.table()["setup"].tolist() == [one.key.words for one in found.setups]


def test_a_name_of_a_cell_leads_nowhere_else(tmp_path):
    outside = tmp_path / "outside"
    write_cell(outside, "none", (0.1, 0.2), (2.0, 2.1))
    (tmp_path / "sweep").mkdir()
    (tmp_path / "cells").mkdir()
    write_table(tmp_path / "sweep", frame_of([row("kv=q4_0", "none", 576.0, (0.1, 0.2), (2.0, 2.1), run="../outside")]))
    (one,) = read(tmp_path).setups[0].points
    assert (one.run, one.units) == (None, ())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda text: text.replace("bytes_per_token", "size"),
            "has no column bytes_per_token; give the table of a sweep",
        ),
        (lambda text: text.replace("576.0", "few"), "holds no number where one belongs: "),
        (lambda text: text.replace("demo", "\udcff"), "cannot be read: not UTF-8 text"),
        (lambda text: "", "cannot be read: "),
    ],
)
def test_a_broken_table_gets_one_line(sweep, change, line):
    path = sweep / "sweep" / "table.csv"
    path.write_bytes(change(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(BadOutput) as refused:
        read(sweep)
    assert str(refused.value).startswith(f"{path}: {line}")
    assert "\n" not in str(refused.value)


def test_a_broken_cell_is_named(sweep):
    path = sweep / "cells" / "cell-kv-q4_0-none" / "evaluation_untuned.json"
    for content in ('{"window_nll": {}}', "[]", '{"window_nll": 5, "rows": []}', "no json"):
        path.write_text(content)
        with pytest.raises(BadOutput) as refused:
            read(sweep)
        assert str(refused.value).startswith(str(path))


def test_what_cannot_be_asked_gets_one_line(sweep, tmp_path):
    for asked, line in (
        ({"loss": "needles"}, "tradeoff(loss=...): a sweep tests no retrieval; give a folder of runs"),
        ({"loss": "ppl"}, "tradeoff(loss=...): unknown loss 'ppl'; choose one of nll, kl, needles"),
        ({"max_loss": -1}, "max_loss must be at least 0 and finite, got -1"),
        ({"length": 1.5}, "length must be a whole number, got 1.5"),
        ({"batch": 0}, "batch must be at least 1 and finite, got 0"),
    ):
        with pytest.raises(BadSpec) as refused:
            read(sweep, **asked)
        assert str(refused.value).startswith(line)
    (tmp_path / "empty").mkdir()
    for folder, line in (("none", "no such folder"), ("empty", "holds neither a sweep nor runs")):
        with pytest.raises(BadOutput, match=line):
            qroar.tradeoff(tmp_path / folder)


@pytest.mark.slow
def test_two_thousand_cells_are_one_small_figure(tmp_path):
    losses = {
        (f"kv={at}", remedy): (100.0 + at, (1 / (1 + at) + 0.001 * k, 1 / (1 + at), 1 / (1 + at) + 0.002))
        for at in range(500)
        for k, remedy in enumerate(("none", "scales", "rotation", "awq"))
    }
    rows = [row(*name, size, lost) for name, (size, lost) in losses.items()]
    table = frame_of(rows)
    found = qroar.tradeoff(table, cells=tmp_path)
    began = time.process_time()
    found = qroar.tradeoff(table, cells=tmp_path, max_loss=0.01)
    drawn = found.pictures("gb")[0]
    text = drawn.figure.to_json()
    spent = time.process_time() - began
    assert len(found.setups[0].points) == 2000
    assert len(text) < 2_000_000
    assert spent < 3  # a page keeps the table and the figure between interactions
    assert drawn.alt.startswith("kv=")
    assert sum(len(trace.customdata) for trace in drawn.figure.data if trace.customdata is not None) == 2000
    assert isinstance(drawn.table, pd.DataFrame)
    assert len(drawn.table) == 2000


def test_saved_files_hold_the_table_and_the_figure(sweep):
    found = read(sweep)
    folder = found.save(sweep / "out")
    again = pd.read_csv(folder / "tradeoff.csv", keep_default_na=False)
    assert again["bytes_per_token"].tolist() == found.table()["bytes_per_token"].tolist()
    html = (folder / "tradeoff.html").read_text()
    assert "kv=q4_0, rotation is the cheapest that loses less than 0.05 nats" in html
    found.save(folder)  # replaces its own
    (folder / "other").write_text("")
    with pytest.raises(BadOutput, match="exists and holds something else"):
        found.save(folder)
