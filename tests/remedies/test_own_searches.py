"""Remedies with scales of their own: exact in full precision, and rows that are conditions measured by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.tie import Tie
from qroar_core.models.condition import Condition
from qroar_core.models.patch import substituted_weights
from qroar_core.models.text import windows
from qroar_core.models.window_losses import measure
from qroar_core.progress import no_progress
from qroar_core.remedies import run as compare
from qroar_core.remedies.prepare import prepare, why_not
from qroar_core.remedies.prepared import RemedyInputs
from qroar_core.remedies.result import Comparison
from qroar_core.scale_search import choose_ties
from qroar_core.scale_search.result_ties import TieChoice, TiedGroup
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, ComparisonSpec, QuantizerSpec, QuantSpec, WeightQuantSpec
from tests.remedies.test_comparison import K4, TEXTS, YARN, by_hand
from tests.remedies.test_comparison import SEARCH as BANDS
from tests.remedies.test_comparison import SPEC as OF_BANDS

SEARCH = replace(BANDS, guard_tau=9.0)  # a random model is as good as its guard's noise
SPEC = replace(OF_BANDS, search=SEARCH)

TIE = (Tie(10, 13), Tie(14, 15, 0.0))
KV4 = QuantSpec(k=K4, v=K4)
OWN = ("pair_scales", "tied_maps", "value_maps")
ATTENTION = "model.layers.1.self_attn."


def given(loaded, quant=KV4, tie=()):
    return RemedyInputs(loaded, YARN, quant, torch.zeros(1, 8).long(), 32, no_progress, SEARCH, TEXTS, tie)


def held(loaded):
    return windows(loaded.tokenizer, TEXTS["heldout"], 96, 4, 0).ids


def compared(loaded, *methods, quant=KV4, rope=YARN, tie=(), on_step=no_progress, **more):
    spec = replace(SPEC, methods=methods, band_scales=False, **more)
    return compare.run(loaded, Setting(replace(rope, tie=tie), quant), spec, TEXTS, on_step)


def rows_of(result):
    return {row.key: row for row in result.rows}


@pytest.mark.parametrize("method", [*OWN, "value_rotation"])
def test_each_leaves_the_unquantized_model_as_it_is(planted, method):
    loaded = planted(dtype=torch.float64).loaded
    made = prepare(method, given(loaded, tie=TIE))
    rope = made.rope or YARN
    assert (rope.tie == TIE) == (method == "tied_maps")
    before = measure(loaded, Condition(rope), held(loaded), 95).per_window
    rounded = measure(loaded, Condition(rope, KV4), held(loaded), 95).per_window
    with substituted_weights(loaded, made.parameters):
        assert measure(loaded, Condition(rope, KV4), held(loaded), 95).per_window != pytest.approx(rounded, abs=1e-3)
        assert measure(loaded, Condition(rope), held(loaded), 95).per_window == pytest.approx(before, abs=1e-9)
        if method == "tied_maps":  # maps of tied pairs are nothing of the untied model's
            assert measure(loaded, Condition(YARN), held(loaded), 95).per_window != pytest.approx(before, abs=1e-3)


def test_every_pair_of_keys_gets_one_complex_number_of_its_own(planted):
    """Oracle: rows i and i + d/2 of W_K as one complex row; new over old is one number over all inputs, per pair."""
    loaded = planted(dtype=torch.float64).loaded
    made = prepare("pair_scales", given(loaded, QuantSpec(k=K4)))
    name = f"{ATTENTION}k_proj.weight"
    old, new = (x.view(2, 2, 16, -1) for x in (loaded.model.get_parameter(name).data, made.parameters[name]))
    ratio = torch.complex(new[:, 0], new[:, 1]) / torch.complex(old[:, 0], old[:, 1])  # (kv, pairs, inputs)
    own = ratio.mean(-1)
    assert torch.allclose(ratio, own[..., None].expand_as(ratio), atol=1e-9)
    sizes = own.abs().log2()
    assert len(sizes[0].unique()) == 16  # no two pairs share a scale
    assert own.angle().abs().max() > 1e-3
    loud = slice(8, 12)  # the planted band, 16 times as large as the others
    assert sizes[0, loud].max() < sizes[0, [*range(8), *range(12, 16)]].min()


def test_value_maps_are_undone_in_w_o(planted):
    """Oracle: M from W_V's rows by least squares, and W_O's columns of every query head times it are the old ones."""
    loaded = planted(dtype=torch.float64).loaded
    made = prepare("value_maps", given(loaded, QuantSpec(v=QuantizerSpec(3))))
    attention = loaded.model.model.layers[1].self_attn
    old_v = attention.v_proj.weight.detach().view(2, 32, -1).numpy()
    new_v = made.parameters[f"{ATTENTION}v_proj.weight"].view(2, 32, -1).numpy()
    old_o = attention.o_proj.weight.detach().view(-1, 2, 2, 32).numpy()  # (hidden, kv, queries of it, value_dim)
    new_o = made.parameters[f"{ATTENTION}o_proj.weight"].view(-1, 2, 2, 32).numpy()
    for head in range(2):
        on_v = np.linalg.lstsq(old_v[head].T, new_v[head].T, rcond=None)[0].T
        assert np.allclose(on_v @ old_v[head], new_v[head], atol=1e-9)
        assert not np.allclose(on_v, np.eye(32), atol=0.1)
        assert np.allclose(new_o[:, head] @ on_v, old_o[:, head], atol=1e-8)


@pytest.mark.parametrize("size", [32, 24])  # 24: three blocks of 8, as the rotation of q and k takes them
def test_v_turned_offline_is_v_turned_by_the_cache(tiny, size):
    """Oracle: the unchanged model under a cache that rotates V at run time; and scipy's matrix on W_V's rows."""
    loaded, v3 = tiny(dtype=torch.float64, head_dim=size), QuantizerSpec(3)
    made = prepare("value_rotation", given(loaded, QuantSpec(v=v3)))
    online = by_hand(loaded, QuantSpec(v=replace(v3, rotation="hadamard")))
    with substituted_weights(loaded, made.parameters):
        assert by_hand(loaded, QuantSpec(v=v3)) == pytest.approx(online, abs=1e-9)
    assert by_hand(loaded, QuantSpec(v=v3)) != pytest.approx(online, abs=1e-3)
    block = size & -size
    turn = np.kron(np.eye(size // block), scipy.linalg.hadamard(block) / block**0.5)
    old = loaded.model.get_parameter(f"{ATTENTION}v_proj.weight").detach().view(2, size, -1).numpy()
    assert np.allclose(made.parameters[f"{ATTENTION}v_proj.weight"].view(2, size, -1).numpy(), turn @ old, atol=1e-12)


def test_rows_are_conditions_measured_by_hand(planted):
    """All counted from the model without the setting's tie, whose own cost stands beside the maps that need it."""
    loaded, steps = planted().loaded, []
    result = compared(loaded, *OWN, "rotation", "value_rotation", tie=TIE, on_step=steps.append)
    rows, tied = rows_of(result), replace(YARN, tie=TIE)
    turned = QuantSpec(k=replace(K4, rotation="hadamard"), v=K4)
    assert result.untied
    assert rows["plain"].window_nll == pytest.approx(by_hand(loaded, KV4))
    pairs = replace(SEARCH, bands=BandSpec(16), angles=True)
    for method, rope, search in (
        ("pair_scales", YARN, pairs),
        ("tied_maps", tied, replace(SEARCH, angles=True, maps=True)),
        ("value_maps", YARN, replace(pairs, value_maps=True)),
    ):
        scales = find_scales(loaded, Setting(rope, KV4, search=search), TEXTS)
        assert not scales.is_identity

        def nll(quant, rope=rope, scales=scales):
            return measure(loaded, Condition(rope, quant, scales), held(loaded), 95).per_window

        row, top = rows[method], rows[f"{method}/rotation"]
        assert row.window_nll == pytest.approx(nll(KV4), abs=1e-4)
        assert row.gain == pytest.approx(np.mean(rows["plain"].window_nll) - np.mean(row.window_nll))
        assert top.window_nll == pytest.approx(nll(turned), abs=1e-4)
        assert (row.free, top.free) == (True, False)
        assert top.name == f"{row.name} + Hadamard rotation of q and k"
        assert top.run_time == rows["rotation"].run_time
        assert top.runtime_change.startswith(rows["rotation"].runtime_change)
        assert (row.tie_cost is None) == (method != "tied_maps")
    untied, under = [np.mean(measure(loaded, Condition(rope), held(loaded), 95).per_window) for rope in (YARN, tied)]
    assert rows["tied_maps"].tie_cost == pytest.approx(under - untied, abs=1e-6)
    assert rows["tied_maps"].note == "pairs 10-13,14-15:0 are tied"
    assert any(said.startswith("Tied maps: pairs 10-13,14-15:0 are tied; in full") for said in result.sentences)
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert done[-1] == steps[-1].total == 1 + 1 + (6 / 2 + 2) + (9 / 2 + 3) + (10 / 2 + 2) + 1 + 1


def chosen(*groups):
    return TieChoice(
        groups=[
            TiedGroup(first=a, last=b, turn=1.0, wavelength=9.0, absmax_share=0.5, cost=0.0, left_without=0.5)
            for a, b in groups
        ],
        left_untied=0.5,
        tried=[],
        costs=[],
        dropped=["14-15"],
        text="",
        seconds=1.0,
        forward_seconds=1.0,
    )


def test_without_a_tie_of_the_setting_the_one_that_auto_chooses_is_taken(planted, monkeypatch):
    loaded = planted().loaded
    asked = []
    monkeypatch.setattr(choose_ties, "run", lambda model, setting, *rest: asked.append(setting) or chosen((12, 15)))
    row = rows_of(compared(loaded, "tied_maps"))["tied_maps"]
    assert row.note == "pairs 12-15 are tied, chosen on calibration and development text"
    assert (asked[0].rope, asked[0].quant, asked[0].search.length) == (YARN, KV4, 96)


def test_where_no_tie_pays_it_is_said_and_there_is_no_row(planted, monkeypatch):
    monkeypatch.setattr(choose_ties, "run", lambda *rest: chosen())
    steps = []
    result = compared(planted().loaded, "tied_maps", on_step=steps.append)
    assert [row.key for row in result.rows] == ["plain"]
    assert result.sentences[-1] == ("There is no row for tied maps: no tie pays here; 14-15 cost more than is allowed")
    assert steps[-1].done == steps[-1].total


@pytest.mark.parametrize(
    ("method", "options", "quant", "why"),
    [
        ("value_rotation", {"head_dim": 18}, KV4, ""),
        ("kivi", {"head_dim": 16}, KV4, "groups of 32 channels do not divide value heads of 16"),
        ("kivi", {"head_dim": 16}, QuantSpec(k=K4), ""),
        ("pair_scales", {}, QuantSpec(k=QuantizerSpec(4, "block", "affine", 8, residual=128)), "in 96 tokens every"),
        ("tied_maps", {}, QuantSpec(k=QuantizerSpec(4, "block", "affine", 8, residual=128)), "every query reads all"),
    ],
)
def test_what_a_model_does_not_take_is_known_before(tiny, method, options, quant, why):
    loaded = tiny(**options)
    setting = Setting(YARN, quant, search=SEARCH)
    said = why_not(method, loaded, setting)
    assert why in said
    assert bool(said) == bool(why)
    if why:
        with pytest.raises(BadSpec, match=f"{method} does not apply: "):
            compared(loaded, method, quant=quant)


def test_an_objective_that_turns_no_pairs_has_no_pair_angles(tiny):
    setting = Setting(YARN, KV4, search=replace(SEARCH, method="coordinate"))
    assert why_not("pair_scales", tiny(), setting) == "gradients alone search pair angles"


def test_gptq_reads_as_much_as_its_authors_or_says_how_much(tiny, monkeypatch):
    loaded, read = tiny(), []
    original = compare.prepare
    monkeypatch.setattr(
        compare, "prepare", lambda method, given: read.append(given.ids.shape) or original(method, given)
    )
    quant = QuantSpec(WeightQuantSpec(4))
    all_there = rows_of(compared(loaded, "gptq", quant=quant))["gptq"]
    some = rows_of(compared(loaded, "gptq", quant=quant, calibration_tokens=300))["gptq"]
    whole = len(TEXTS["calibration"][0].text) // 96  # a token is a byte
    assert [tuple(shape) for shape in read] == [(2, 96), (whole, 96), (2, 96), (4, 96)]
    authors = "its authors read 262,144"
    assert all_there.calibration == f"{whole * 96:,} tokens in windows of 96, all that the text holds; {authors}"
    assert some.calibration == f"384 tokens in windows of 96; {authors}"


def test_a_comparison_with_all_of_it_is_read_back(planted, tmp_path):
    made = compared(planted().loaded, "tied_maps", "rotation", tie=TIE).as_written()
    (tmp_path / "comparison.json").write_text(made.to_json())
    assert Comparison.from_file(tmp_path / "comparison.json") == made
    assert json.loads(made.to_json())["untied"] is True
    with pytest.raises(BadSpec, match="calibration tokens must be at least 1"):
        ComparisonSpec(calibration_tokens=0)
