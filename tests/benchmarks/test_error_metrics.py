"""The comparison of attention error metrics: paired by window, texts pooled, seeds averaged, one window at a time."""

from dataclasses import replace

import pytest
import torch

from benchmarks import error_metrics as compared
from benchmarks.error_metrics import Choice, SearchedSetting, counted, differences, filled, measured, named
from benchmarks.headline import QUANTIZED, REFERENCE, with_scales
from benchmarks.headline_passes import Passes, read_records
from benchmarks.headline_units import Block, Remedy
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.models import load
from qroar_core.models.text import Windows, split, windows
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

METRICS = list(error_metrics())
INT3 = QuantSpec(k=QuantizerSpec(3))
T3 = 3.182446305284263  # Student's t, 97.5 %, three degrees of freedom
BETTER = (0.04, 0.05, 0.06, 0.05)  # what `logits` has over `rows`, window by window


def setting_of(seeds):
    searched = (Remedy(named(m, s), search=SearchSpec(error_metric=m, seed=s)) for s in seeds for m in METRICS)
    remedies = (REFERENCE, QUANTIZED, *searched)
    blocks = (Block("K int3", INT3, text, 4, 2, remedies, "development") for text in ("messages", "novels"))
    return SearchedSetting("K int3, scales", tuple(blocks), seeds)


class Kept:
    """Two texts of two windows; what is missing is None."""

    def __init__(self, nll):
        self.nll, self.asked = nll, []

    def windows_of(self, block):
        ids = torch.arange(8).view(2, 4) + (block.collection == "novels")
        return Windows(ids, tuple((f"{block.collection} {i}", 0) for i in range(2)))

    def lacks_search(self, block, remedy):
        return False

    def record(self, block, remedy, window):
        value = self.nll(2 * (block.collection == "novels") + window, remedy.name)
        return None if value is None else {"nll": value}

    def run(self, block, remedy, window):
        self.asked.append((block.collection, window, remedy.name))


def two_seeds(window, remedy):
    """Seeds of `logits` 0.03 apart, about `BETTER`; `output` as far behind; `projected` differs by chance alone."""
    hard = 2.0 + window
    if remedy in ("reference", "quantized"):
        return hard + (0.0 if remedy == "reference" else 0.5)
    metric, _, seed = remedy.partition(", seed ")
    moved = {"rows": 0.0, "logits": BETTER[window], "output": -BETTER[window], "projected": 0.05 * (-1) ** window}
    return hard + 0.3 - moved[metric] + 0.03 * (int(seed) - 0.5) * (metric == "logits")


def test_a_metric_is_compared_window_by_window_over_all_texts_with_the_mean_over_seeds():
    """Oracle: Student's t by hand."""
    found = differences(Kept(two_seeds), setting_of((0, 1)))
    assert list(found) == [name for name in METRICS if name != "rows"]
    half = T3 * (sum((x - 0.05) ** 2 for x in BETTER) / 3 / 4) ** 0.5
    one = found["logits"]
    assert (one.mean, one.low, one.high) == pytest.approx((0.05, 0.05 - half, 0.05 + half))
    assert found["output"].mean == pytest.approx(-0.05)
    assert found["projected"].mean == pytest.approx(0.0)
    assert (found["logits"].above_zero, found["output"].below_zero) == (True, True)
    assert not found["projected"].excludes_zero


def test_the_table_says_what_it_is_over(capsys):
    kept, setting = Kept(two_seeds), setting_of((0, 1))
    compared.print_setting(kept, setting, "development")
    compared.print_verdict([differences(kept, setting)])
    out = capsys.readouterr().out
    assert "4 windows of 4 documents" in out
    assert "seeds of the search: 0, 1." in out
    [row] = [line for line in out.splitlines() if line.startswith("| `logits`")]
    cells = row.strip("| ").split(" | ")
    assert cells[1].startswith("+0.2500 [")  # 0.2 of `rows` and 0.05 more
    assert cells[2].startswith("50.0% [")  # of the 0.5 that were lost
    assert cells[3].startswith("+0.0500 [+0.0370, +0.0630]")
    assert cells[4] == cells[3]  # every window is of a document of its own
    assert cells[5] == "messages +0.0450, novels +0.0550"
    assert cells[6] == "+0.0650 +0.0350"
    assert "`logits` is better than `rows` in 1 and worse in 0 of 1 settings that are whole" in out
    assert "`output` is better than `rows` in 0 and worse in 1 of 1 settings that are whole" in out
    assert "`projected` is better than `rows` in 0 and worse in 0 of 1 settings that are whole" in out


def test_a_window_that_one_metric_lacks_counts_for_none():
    lacking = Kept(lambda window, name: None if (window, name) == (2, "output, seed 0") else two_seeds(window, name))
    assert differences(lacking, setting_of((0,))) == {}  # nor is anything decided before all are there
    found = counted(lacking, setting_of((0,)), "development")
    assert found.documents == ["messages 0", "messages 1", "novels 1"]
    assert {len(column) for column in found.nll.values()} == {3}
    assert found.nll["rows, seed 0"] == pytest.approx([2.3, 3.3, 5.3])


def test_without_any_whole_window_nothing_is_said_of_a_setting(capsys):
    setting = setting_of((0,))
    none = Kept(lambda window, name: None if name == "output, seed 0" else 1.0)
    assert differences(none, setting) == {}
    compared.print_setting(none, setting, "development")
    assert "No window has been measured under every metric yet." in capsys.readouterr().out


def test_every_text_has_its_first_window_before_any_has_a_second():
    kept = Kept(lambda window, name: None)
    filled(kept, setting_of((0,)).blocks, None)
    order = list(dict.fromkeys((text, window) for text, window, _ in kept.asked))
    assert order == [("messages", 0), ("novels", 0), ("messages", 1), ("novels", 1)]
    assert len(kept.asked) == 4 * (2 + len(METRICS))


@pytest.mark.parametrize("choice", [compared.ON_DEMO, compared.ON_SMOLLM2], ids=lambda choice: choice.model)
def test_what_is_asked_is_the_default_search_by_every_metric_and_all_else_alike(choice):
    asked = set()
    for setting in choice.settings:
        for block in setting.blocks:
            assert block.split == "development"
            assert [remedy.name for remedy in block.remedies[:2]] == ["reference", "quantized"]
            searches = [remedy.search for remedy in block.remedies[2:]]
            assert [search.error_metric for search in searches] == METRICS * len(setting.seeds)
            angles = searches[0].angles
            plain = replace(SearchSpec(length=block.length, angles=angles), error_metric="rows")
            assert {replace(search, error_metric="rows", seed=0) for search in searches} == {plain}
            asked.add((block.quant.k.bits, angles, block.collection))
    assert {(bits, angles) for bits, angles, _ in asked} == {(4, False), (4, True), (3, False), (3, True)}


def test_the_searches_by_rows_are_those_that_the_headline_keeps():
    """So that none of them is run twice."""
    [scales] = [s for s in compared.ON_SMOLLM2.settings if s.words.startswith("K int4, scales, technical")]
    [rows] = [remedy.search for remedy in scales.blocks[0].remedies if remedy.name == "rows, seed 0"]
    assert rows == replace(with_scales(SearchSpec(length=2048))[0].search, error_metric="rows")


@pytest.mark.slow
def test_scales_are_searched_by_their_metric_and_read_on_both_splits(tmp_path, capsys):
    """Oracle: the same searches, and tokens, without the benchmark's code."""
    demo = load.run("demo", device="cpu", dtype="float32")
    rope, spec = RopeSpec("yarn", 2.0), SearchSpec(length=128, windows=1, steps=2)
    searched = tuple(Remedy(named(name, 0), search=replace(spec, error_metric=name)) for name in METRICS)
    block = Block("K int3", INT3, "messages", 128, 2, (REFERENCE, QUANTIZED, *searched), "development")
    choice = Choice(
        "tried", "demo", "The demo model", rope, tmp_path, (SearchedSetting("K int3, scales", (block,), (0,)),)
    )
    (tmp_path / "passes.jsonl").write_text("")
    assert measured(demo, choice)
    assert "Nothing is missing." in capsys.readouterr().out
    records = read_records(tmp_path / "passes-error-metrics.jsonl")
    assert len(records) == 2 * 2 * (2 + len(METRICS))
    for name in ("development", "heldout"):
        texts = windows(demo.tokenizer, split(name), 128, 2, 0)
        mine = [record for record in records if record["split"] == name]
        assert {(r["document"], r["offset"]) for r in mine} == set(texts.origin)
    texts = {name: split(name) for name in ("calibration", "development")}
    passes = Passes(demo, rope, tmp_path, compared.FILE)
    for remedy in searched:
        found = find_scales(demo, Setting(rope, INT3, search=remedy.search), texts)
        assert torch.equal(found.g, passes.searches.kept(block, remedy).scales.g)
    assert len({tuple(passes.searches.kept(block, remedy).scales.g.flatten().tolist()) for remedy in searched}) == 4
