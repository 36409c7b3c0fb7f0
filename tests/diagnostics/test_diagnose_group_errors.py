"""What quantization does to each group of layers, and how far a search may go there: the group's own layers alone.

Oracle: q and k of those layers, rounded by hand, every (head, m, n) the window lets through written out in float64.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import windows
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.bounds import log2_bounds
from tests.models.families_table import CASES, SLIDES, loaded_of
from tests.models.small_specs import ASKED, INT4, SMALL, TEXT, TEXTS

L, W = SMALL.length, 11
SPEC = replace(SMALL, position_bins=4)
BANDS = ((0, 1), (2, 3))  # pairs
ROPE = RopeSpec("linear", 3.0)
THREE = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "num_hidden_layers": 3}


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    def one(name, **changes):
        return loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32, **changes)

    return one


def taken(loaded, rope=ROPE):
    """Layer -> q, k, and k rounded to int4 with one step a token and head; float64."""
    kept = {}

    class Keep:
        def on_attention(self, tap):
            k = tap.k.double()
            step = k.abs().amax(-1, keepdim=True) / 7
            kept[tap.layer] = tap.q.double().numpy(), k.numpy(), ((k / step).round() * step).numpy(), tap.scaling

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(rope), L, chunk=L) as stream:
        list(stream.run(windows(loaded.tokenizer, TEXT, L, 1).ids, (Keep(),)))
    return kept


def noise_by_hand(layer, row, window):
    """(heads, distance from far to near, pair) of the error of one query row's logits, and the logits; nats."""
    q, k, rounded, scaling = layer
    keys = range(0 if window is None else max(0, row - window + 1), row + 1)
    error, logits = [], []
    for head in range(len(q)):
        kv = head // (len(q) // len(k))
        products = [scaling * q[head, row] * (rounded[kv, n] - k[kv, n]) for n in keys]
        error.append([x[:4] + x[4:] for x in products])
        logits.append([scaling * q[head, row] @ k[kv, n] for n in keys])
    return np.array(error), np.array(logits)


def kl_by_hand(logits, error):
    p, q = (np.exp(x - x.max(-1, keepdims=True)) for x in (logits, logits + error))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return (p * np.log(p / q)).sum(-1).mean()


def test_noise_of_a_group_is_that_of_its_own_layers(build):
    loaded = build("gemma3", **THREE)
    found = diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=SPEC), TEXT)
    layers = taken(loaded)
    assert [g.layers for g in found.groups] == [[1], [0, 2]]
    for group in found.groups:
        mean_square, kl = [], []
        for row in found.logit_noise.position:
            by_layer = [noise_by_hand(layers[i], row, group.window) for i in group.layers]
            mean_square.append(np.mean([(e.sum(-1) ** 2).mean() for e, _ in by_layer]))
            kl.append(np.mean([kl_by_hand(logits, e.sum(-1)) for e, logits in by_layer]))
            for band, (first, last) in enumerate(BANDS):
                part = np.mean([(e[..., first : last + 1].sum(-1) ** 2).mean() for e, _ in by_layer])
                at = group.noise.by_band_position[band][len(kl) - 1]
                assert at == pytest.approx(math.sqrt(part), rel=1e-3)
        assert group.noise.rms == pytest.approx(np.sqrt(mean_square), rel=1e-3)
        assert group.noise.attention_kl == pytest.approx(kl, rel=1e-2, abs=1e-6)
    full, sliding = (g.noise for g in found.groups)
    assert full.rms != pytest.approx(sliding.rms, rel=0.05)
    assert found.logit_noise.rms != pytest.approx(full.rms, rel=0.02)
    # distances: all the full layer meets, and of the others only those within the window
    octaves = found.logit_noise.distance  # 0, 1, 3, 7, 15, ...
    for group in found.groups:
        squares = {o: [[] for _ in group.layers] for o in octaves}
        for row in found.logit_noise.position:
            for j, i in enumerate(group.layers):
                error = noise_by_hand(layers[i], row, group.window)[0].sum(-1)  # (heads, keys), the nearest last
                for distance in range(error.shape[1]):
                    octave = max(o for o in octaves if o <= distance)
                    squares[octave][j] += list(error[:, error.shape[1] - 1 - distance] ** 2)
        expected = [math.sqrt(np.mean([np.mean(x) for x in squares[o]])) if squares[o][0] else None for o in octaves]
        assert [v is None for v in group.noise.rms_by_distance] == [v is None for v in expected]
        seen = [i for i, v in enumerate(expected) if v is not None]
        assert [group.noise.rms_by_distance[i] for i in seen] == pytest.approx([expected[i] for i in seen], rel=1e-3)


def pairs_of(layer):
    """z and its rounded version: complex (kv, tokens, pairs)."""
    _, k, rounded, _ = layer
    return k[..., :4] + 1j * k[..., 4:], rounded[..., :4] + 1j * rounded[..., 4:]


def test_pair_errors_of_a_group_are_those_of_its_own_layers(build):
    loaded = build("gemma3", **THREE)
    found = diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=SPEC), TEXT)
    layers = taken(loaded)
    for group in found.groups:
        for band, (first, last) in enumerate(BANDS):
            for p in range(4):
                at = np.s_[:, p * L // 4 : (p + 1) * L // 4, first : last + 1]
                amplitude, phase, share = [], [], []
                for i in group.layers:
                    z, rounded = (x[at] for x in pairs_of(layers[i]))
                    amplitude.append((np.abs(rounded) / np.abs(z) - 1).ravel() ** 2)
                    phase.append(np.angle(rounded[rounded != 0] * z[rounded != 0].conj()) ** 2)
                    length = ((np.abs(rounded) - np.abs(z)) ** 2).sum()
                    share.append(length / (np.abs(rounded - z) ** 2).sum())
                own = group.pair_error
                assert own.amplitude[band][p] == pytest.approx(math.sqrt(np.concatenate(amplitude).mean()), rel=1e-4)
                assert own.phase[band][p] == pytest.approx(math.sqrt(np.concatenate(phase).mean()), rel=1e-4)
                assert own.length_share[band][p] == pytest.approx(np.mean(share), rel=1e-3)
    full, sliding = (np.array(g.pair_error.amplitude) for g in found.groups)
    assert np.abs(full / sliding - 1).max() > 0.05


def test_anisotropy_of_a_group_is_that_of_its_own_layers(build):
    loaded = build("gemma3", **THREE)
    found = diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=SPEC), TEXT)
    layers = taken(loaded)
    bins = len(found.anisotropy.angle)
    for group in found.groups:
        for band, (first, last) in enumerate(BANDS):
            means = []
            for i in group.layers:
                z, rounded = (x[..., first : last + 1].ravel() for x in pairs_of(layers[i]))
                cell = (np.arctan2(np.abs(z.imag), np.abs(z.real)) / (np.pi / 2) * bins).astype(int)
                step = np.abs(layers[i][1]).max(-1, keepdims=True) / 7
                energy = np.abs(rounded - z) ** 2 / np.repeat(step, last - first + 1, -1).ravel() ** 2
                means.append([energy[cell == c].mean() if (cell == c).any() else np.nan for c in range(bins)])
            expected = np.nanmean(means, axis=0)
            assert [x for x in group.anisotropy.error[band] if x is not None] == pytest.approx(
                expected[np.isfinite(expected)], rel=1e-3
            )
    longer = diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=replace(SPEC, length=300, chunk=100)), TEXT)
    for group in longer.groups:  # enough pairs at every angle for a ratio
        assert group.anisotropy.ratio == [longer.anisotropy.ratio[i] for i in group.layers]
        assert all(x > 1 for row in group.anisotropy.ratio for x in row)


def test_a_view_of_a_group_shows_its_errors_and_leaves_layer_maps_whole(build, tmp_path):
    found = diagnose.run(build("gemma3", **THREE), Setting(ROPE, INT4, diagnosis=SPEC), TEXT)
    path = tmp_path / "diagnosis.json"
    path.write_text(found.to_json())
    again = Diagnosis.from_file(path)
    view, group = again.of_group(1), again.groups[1]
    assert (view.logit_noise.rms, view.logit_noise.by_band_position) == (group.noise.rms, group.noise.by_band_position)
    assert (view.pair_error, view.anisotropy) == (group.pair_error, group.anisotropy)
    assert view.logit_noise.by_layer == again.logit_noise.by_layer
    assert view.logit_noise.rms != again.logit_noise.rms
    old = json.loads(path.read_text())
    for group in old["groups"]:  # a file written before errors were told apart
        del group["noise"], group["pair_error"], group["anisotropy"]
    path.write_text(json.dumps(old))
    before = Diagnosis.from_file(path).of_group(1)
    assert (before.logit_noise, before.pair_error) == (again.logit_noise, again.pair_error)


def test_layers_without_rope_have_noise_but_no_pairs(build):
    loaded = build("smollm3")
    found = diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=SPEC), TEXT)
    turning, still = found.groups
    assert still.layers == [1, 3]
    assert (still.pair_error, still.anisotropy, still.noise.by_band_position) == (None, None, [])
    expected = np.sqrt(np.square([found.logit_noise.by_layer[i] for i in (1, 3)]).mean(0))
    assert still.noise.rms == pytest.approx(expected, rel=1e-9)
    # the pooled figures speak of layers that have pairs
    assert (found.pair_error, found.anisotropy.error) == (turning.pair_error, turning.anisotropy.error)
    longer = diagnose.run(
        loaded, Setting(ROPE, INT4, diagnosis=replace(SPEC, length=300, chunk=100)), TEXT
    ).anisotropy.ratio
    assert [row == [None] * 2 for row in longer] == [False, True, False, True]


def test_quantized_weights_give_every_group_its_propagated_noise(build):
    found = diagnose.run(
        build("gemma3", **THREE), Setting(ROPE, QuantSpec(weights=WeightQuantSpec(4)), diagnosis=SPEC), TEXT
    )
    assert found.logit_noise.kind == "that include those of earlier layers"
    for group in found.groups:
        own = [found.logit_noise.by_layer[i] for i in group.layers]
        assert group.noise.rms == pytest.approx(np.sqrt(np.square(own).mean(0)), rel=1e-9)
        assert group.pair_error is not None
        assert group.anisotropy is not None


# bounds

BOUNDED = replace(ASKED, pressure_weight=2.0, max_log2_scale=3.0)


def distance(window):
    return np.mean([m - n for m in range(48) for n in range(m + 1) if window is None or m - n < window])


def test_bounds_of_each_layer_follow_the_distances_it_meets(build):
    """Gemma 2: one theta, every second layer a window; pressure = omega/s * E[distance], against the full median."""
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
    loaded = build("gemma2", **native)
    assert SLIDES["sliding_window"] == W
    omega = 10_000.0 ** (-2 * np.arange(4) / 8) / 3
    by_band = np.array([omega[:2].mean(), omega[2:].mean()])
    pressure = [by_band * distance(window) for window in (W, None)]  # layer 0 slides
    median = np.median(pressure[1])
    problem = SearchProblem(loaded, ROPE, INT4, BOUNDED, TEXTS)
    np.testing.assert_allclose(problem.pressure(), pressure, rtol=3e-6)
    for layer, found in enumerate(problem.bounds(None)):
        kappa = 3.0 / (1 + 2.0 * pressure[layer] / median)
        np.testing.assert_allclose(found, np.stack((-kappa, kappa), -1), rtol=3e-6)
    assert float(problem.bounds(None)[0, 0, 1]) > 1.2 * float(problem.bounds(None)[1, 0, 1])
    np.testing.assert_allclose(problem.plan(None).pressure, pressure[1], rtol=3e-6)
    one = SearchProblem(loaded, ROPE, INT4, replace(BOUNDED, granularity="model"), TEXTS).bounds(None)
    assert torch.equal(one[0], one[1])  # one scale for all keeps to the narrowest
    assert torch.equal(one[1], problem.bounds(None)[1])


def test_bounds_of_layers_alike_are_held_against_their_own_median(build):
    loaded = build("mistral, window")
    problem = SearchProblem(loaded, ROPE, INT4, BOUNDED, TEXTS)
    omega = 10_000.0 ** (-2 * np.arange(4) / 8)
    relative = np.array([omega[:2].mean(), omega[2:].mean()])
    kappa = 3.0 / (1 + 2.0 * relative / np.median(relative))
    np.testing.assert_allclose(problem.bounds(None)[1], np.stack((-kappa, kappa), -1), rtol=3e-6)


def test_layers_without_rope_are_under_no_pressure(build):
    problem = SearchProblem(build("smollm3"), ROPE, INT4, BOUNDED, TEXTS)
    assert problem.pressure()[[1, 3]].tolist() == [[0.0, 0.0]] * 2
    assert problem.bounds(None)[1].tolist() == [[-3.0, 3.0]] * 2
    assert float(problem.bounds(None)[0].abs().max()) < 3.0


def test_a_median_from_elsewhere_replaces_that_of_the_bands():
    tails = torch.ones(2, 2)
    pressure = torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    found = log2_bounds(pressure, tails, "symmetric", max_log2_scale=4.0, pressure_weight=1.0, tau=1.0, median=1.0)
    np.testing.assert_allclose(found[..., 1], [[2.0, 1.0], [4.0, 4 / 3]])
