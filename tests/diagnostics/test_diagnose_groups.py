"""Layers that differ in theta, window or rotation: every number of a group is its own, in closed form or by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation import run as evaluate
from qroar_core.exporters import hf, verify
from qroar_core.models.geometry import Geometry
from qroar_core.models.layer_groups import LayerGroup, layer_groups
from qroar_core.models.load import run as load_model
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import windows
from qroar_core.result import rounded
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, EvaluationSpec, RopeSpec
from tests.models.families_table import CASES, CONTEXT, loaded_of, model_of
from tests.models.small_specs import ASKED, INT4, SMALL, TEXT, TEXTS

L, W = SMALL.length, 11  # tokens of the diagnosis, and of the sliding windows of the small models
BANDS = (slice(0, 2), slice(2, 4))  # two bands of the four pairs of 8 channels
FP32 = 3e-6  # transformers keeps frequencies in float32


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    def one(name, **changes):
        return loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32, **changes)

    return one


def omega(theta):
    return theta ** (-2 * np.arange(4) / 8)


def mean_distance(window=None):
    """Over every (m, n) that a query sees, counted one by one."""
    return np.mean([m - n for m in range(L) for n in range(m + 1) if window is None or m - n < window])


def per_band(group, field):
    return [getattr(b, field) for b in group.bands]


def by_band(values):
    return [values[band].mean() for band in BANDS]


def side_peak(frequencies, reach):
    """Highest local maximum of the mean cosine after its first rise, by looking at every distance."""
    kernel = [np.cos(frequencies * d).mean() for d in range(reach + 1)]
    rise = next((d for d in range(reach) if kernel[d + 1] > kernel[d] + 1e-12), reach)
    peaks = [kernel[d] for d in range(rise + 1, reach) if kernel[d - 1] < kernel[d] >= kernel[d + 1]]
    return max(peaks, default=None)


def unseen(native, scaled, seen, reach):
    """Share of 0..reach whose phase leaves the arc that `seen` tokens travel, by fine sampling."""
    d = (np.arange(200_000) + 0.5) * reach / 200_000
    return np.array([np.mean(w * d % (2 * np.pi) > min(v * seen, 2 * np.pi)) for v, w in zip(native, scaled)])


def check_group(group, native, scaled, slope, window):
    reach = min(L, window or L)
    distance = mean_distance(window)
    assert (group.window, group.reach) == (window, reach)
    assert group.pairs.native_inv_freq == pytest.approx(native, rel=1e-12)
    assert group.pairs.inv_freq == pytest.approx(scaled, rel=FP32)
    assert per_band(group, "turns") == pytest.approx(by_band(native * CONTEXT / (2 * math.pi)), rel=1e-12)
    assert per_band(group, "interpolation_pressure") == pytest.approx(by_band(slope * distance), rel=FP32)
    displaced = by_band(np.abs(scaled - native) * distance)
    assert per_band(group, "phase_displacement") == pytest.approx(displaced, rel=1e-5, abs=1e-6 * distance)
    assert per_band(group, "wavelength_max") == pytest.approx([2 * math.pi / scaled[b].min() for b in BANDS], rel=FP32)
    assert per_band(group, "wavelength_min") == pytest.approx([2 * math.pi / scaled[b].max() for b in BANDS], rel=FP32)
    assert per_band(group, "compression") == pytest.approx(by_band(scaled / native), rel=FP32)
    new = by_band(unseen(native, scaled, min(CONTEXT, window or CONTEXT), reach))
    assert per_band(group, "unseen_phase") == pytest.approx(new, abs=1e-4)
    assert group.kernel.distance[-1] <= reach
    for band, found in zip(BANDS, per_band(group, "side_peak"), strict=True):
        peak = side_peak(scaled[band], reach)
        assert found is None if peak is None else found == pytest.approx(peak, abs=1e-5)


def test_gemma3_is_diagnosed_group_by_group(build):
    """Full attention at theta 10,000 under the interpolation, sliding layers at theta 100 as they ship."""
    found = diagnose.run(build("gemma3"), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    full, sliding = found.groups
    assert (full.layers, sliding.layers) == ([1], [0])
    assert (full.theta, sliding.theta) == (10_000.0, 100.0)
    assert (full.interpolated, sliding.interpolated) == (True, False)
    check_group(full, omega(1e4), omega(1e4) / 3, omega(1e4) / 3, None)
    check_group(sliding, omega(100), omega(100), 0 * omega(100), W)
    assert all(x > 0 for x in full.pairs.logit_weighted_pressure)
    assert sliding.pairs.logit_weighted_pressure == [0.0] * 4
    assert (found.bands, found.pairs, found.kernel) == (full.bands, full.pairs, full.kernel)


def test_a_checkpoint_whose_full_layers_ship_interpolated_keeps_them_so(build):
    """Under its own RoPE the small Gemma 3's full layers turn at half speed, and move as its own linear x2 does."""
    full, sliding = diagnose.run(build("gemma3"), Setting(RopeSpec(), INT4, diagnosis=SMALL), TEXT).groups
    check_group(full, omega(1e4), omega(1e4) / 2, omega(1e4) / 2, None)
    check_group(sliding, omega(100), omega(100), 0 * omega(100), W)


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss"])
def test_layers_with_a_window_count_distances_within_it(build, name):
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
    found = diagnose.run(build(name, **native), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    full, sliding = found.groups
    assert (full.layers, sliding.layers) == ([1], [0])
    assert full.interpolated
    assert sliding.interpolated
    for group, window in ((full, None), (sliding, W)):
        check_group(group, omega(1e4), omega(1e4) / 3, omega(1e4) / 3, window)


def test_layers_without_rope_have_no_bands(build):
    found = diagnose.run(build("smollm3"), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    turning, still = found.groups
    assert (turning.layers, still.layers) == ([0, 2], [1, 3])
    check_group(turning, omega(1e4), omega(1e4) / 3, omega(1e4) / 3, None)
    assert (still.bands, still.pairs, still.kernel, still.theta, still.interpolated) == ([], None, None, None, False)
    assert still.name == "full attention, not rotated, 2 layers"


def test_cohere2_rotates_where_it_slides(build):
    found = diagnose.run(build("cohere2"), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    sliding, still = found.groups
    assert (sliding.layers, still.layers, still.bands) == ([0], [1], [])
    check_group(sliding, omega(1e4), omega(1e4) / 3, omega(1e4) / 3, W)


def test_phases_a_window_never_showed_in_training_are_new(build):
    """LongRoPE lists under 1 speed pairs up: within the window of 12 they now turn past what 12 tokens showed."""
    lists = {"long_factor": (0.5, 0.25, 0.8), "short_factor": (1.0,) * 3}
    spec = replace(SMALL, bands=BandSpec(3))
    found = diagnose.run(
        build("phi3, longrope, partial"), Setting(RopeSpec("longrope", 2.0, **lists), INT4, diagnosis=spec), TEXT
    )
    native = 10_000.0 ** (-2 * np.arange(3) / 6)
    expected = unseen(native, native / lists["long_factor"], 12, 12)
    assert [b.unseen_phase for b in found.bands] == pytest.approx(expected, abs=1e-4)
    assert expected[1] > 0.5


def test_one_group_needs_no_table_of_its_own(build):
    """All layers alike, with and without a window: the top level says it all."""
    plain = diagnose.run(build("qwen2"), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    assert plain.groups == []
    assert plain.of_group(0) is plain
    sliding = diagnose.run(build("mistral, window"), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    assert sliding.groups == []
    expected = by_band(omega(1e4) / 3 * mean_distance(13))
    assert [b.interpolation_pressure for b in sliding.bands] == pytest.approx(expected, rel=FP32)


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_the_logit_change_of_each_group_from_its_layers_own_q_and_k(build, name):
    """Oracle: d logit / d ln s of every visible (m, n) by turning k a little further, in float64."""
    loaded = build(name)
    rope = RopeSpec("linear", 3.0)
    found = diagnose.run(loaded, Setting(rope, INT4, diagnosis=SMALL), TEXT)
    kept = {}

    class Keep:
        def on_attention(self, tap):
            kept[tap.layer] = tap.q.double(), tap.k.double(), tap.scaling

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(rope), L, chunk=L) as stream:
        list(stream.run(windows(loaded.tokenizer, TEXT, L, 1).ids, (Keep(),)))
    for group in found.groups:
        (layer,) = group.layers
        q, k, scaling = (x if isinstance(x, float) else x.numpy() for x in kept[layer])
        slope = -omega(1e4) / 3 if group.interpolated else np.zeros(4)
        seen = [(m, n) for m in range(L) for n in range(m + 1) if group.window is None or m - n < group.window]
        m, n = np.array(seen).T
        z = (q[:, m, :4] + 1j * q[:, m, 4:8]).reshape(len(k), -1, len(seen), 4)
        w = (k[:, n, :4] + 1j * k[:, n, 4:8])[:, None]
        step = 1e-5
        up, down = (
            scaling * (z * np.exp(1j * e * slope * (m - n)[:, None]) * w.conjugate()).real for e in (step, -step)
        )
        parts = (up - down) / (2 * step)
        assert group.pairs.logit_weighted_pressure == pytest.approx(np.abs(parts).mean((0, 1, 2)), rel=1e-4)
        moved = group.logit_change
        assert (moved.layers, moved.sample.tokens) == ([layer], L)
        assert moved.in_all == pytest.approx(np.abs(parts.sum(-1)).mean(), rel=1e-4)
        assert moved.by_band == pytest.approx([np.abs(parts[..., b].sum(-1)).mean() for b in BANDS], rel=1e-4)
        assert moved.by_layer == [moved.by_band]
        native = omega(10_000.0 if group.interpolated else group.theta)
        saw = min(CONTEXT, group.window or CONTEXT)
        peaks = [side_peak(native[b], saw) for b in BANDS]
        assert group.kernel.null.side_peak == [None if p is None else pytest.approx(p, abs=1e-5) for p in peaks]
    assert found.of_group(1).logit_change == found.groups[1].logit_change != found.logit_change


def test_the_file_keeps_the_groups_and_a_view_shows_one_of_them(build, tmp_path):
    found = diagnose.run(build("gemma3"), Setting(RopeSpec("linear", 3.0), INT4, diagnosis=SMALL), TEXT)
    path = tmp_path / "diagnosis.json"
    path.write_text(found.to_json())
    again = Diagnosis.from_file(path)
    assert rounded(again.model_dump()) == rounded(found.model_dump())
    view = again.of_group(1)
    assert (view.bands, view.pairs, view.kernel) == (
        again.groups[1].bands,
        again.groups[1].pairs,
        again.groups[1].kernel,
    )
    assert (view.length, again.length) == (W, L)
    assert view.tails == again.tails
    old = json.loads(path.read_text())
    del old["groups"]  # a file written before layers were grouped
    path.write_text(json.dumps(old))
    assert Diagnosis.from_file(path).groups == []
    still = diagnose.run(build("smollm3"), Setting(RopeSpec(), INT4, diagnosis=SMALL), TEXT)
    with pytest.raises(IndexError, match="layer group 1 is not rotated"):
        still.of_group(1)


def geometry(layers, **differ):
    return Geometry("x", layers, 4, 2, 8, 8, "half", 1e6, 64, 32, 256, 1, **differ)


def test_groups_are_made_of_what_differs_and_nothing_else():
    one = LayerGroup((0, 1, 2), "", 1e6, None, True, True)
    assert layer_groups(geometry(3)) == (one,)
    assert one.name == "full attention, theta 1,000,000, 3 layers"
    assert layer_groups(geometry(2, windows=(16, 16))) == (LayerGroup((0, 1), "", 1e6, 16, True, True),)
    found = layer_groups(geometry(5, windows=(16, None, 4, None, 16), without_rope=(3,)))
    assert [(g.layers, g.window, g.rotated) for g in found] == [
        ((1,), None, True),
        ((0, 4), 16, True),
        ((2,), 4, True),
        ((3,), None, False),
    ]
    assert [g.interpolated for g in found] == [True, True, True, False]
    kinds = ("sliding_attention", "full_attention", "sliding_attention")
    found = layer_groups(geometry(3, rope_kinds=kinds, thetas=(1e4, 1e6, 1e4), windows=(16, None, 16)))
    assert [(g.layers, g.kind, g.theta, g.interpolated) for g in found] == [
        ((1,), "full_attention", 1e6, True),
        ((0, 2), "sliding_attention", 1e4, False),
    ]
    assert [g.name for g in found] == [
        "full attention, theta 1,000,000, 1 layer",
        "window of 16 tokens, theta 10,000, 2 layers",
    ]
    both_full = geometry(2, rope_kinds=kinds[:2], thetas=(1e4, 1e6))
    assert [g.layers for g in layer_groups(both_full)] == [(1,), (0,)]  # what an interpolation changes comes first
    assert [g.reach(10) for g in found] == [10, 10]
    assert [g.reach(100) for g in found] == [100, 16]


def test_gemma3_goes_all_the_way_from_folder_to_verified_export(byte_tokenizer, tmp_path):
    """Load, diagnose, search, evaluate, export, verify: the text model of a Gemma 3 folder, with both thetas."""
    folder = tmp_path / "gemma3"
    model_of(CASES["gemma3"], dtype=torch.float32).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    rope = RopeSpec("linear", 3.0)
    found = diagnose.run(loaded, Setting(rope, INT4, diagnosis=SMALL), TEXT)
    outcome = search.run(loaded, Setting(rope, INT4, search=ASKED), TEXTS, diagnosis=found)
    assert outcome.report.objective_found < 1.0
    assert outcome.found.g.shape == (2, 2, 2)
    measured = evaluate.run(
        loaded,
        Setting(rope, INT4, evaluation=EvaluationSpec(lengths=(40,), windows=2)),
        outcome.found,
        outcome.smooth,
        TEXT,
    )
    nll = {(row.model, row.scales): row.nll for row in measured.rows}
    assert nll["reference", "tuned"] == pytest.approx(nll["reference", "identity"], abs=1e-4)
    out = hf.run(loaded, rope, outcome.found, tmp_path / "out")
    checks = verify.run(out)
    assert [check.passed for check in checks] == [True] * len(checks)
    assert any("mean KL" in check.answer for check in checks)
