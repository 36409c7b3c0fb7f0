"""Logit change, pressure and phases of every method against the logits themselves, turned by transformers in float64.

Frequencies are written out here from the papers; a logit is what transformers' own rotary code and a dot product make
of q and k before RoPE; its change is a finite difference in ln s.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, rotate_half

from qroar_core.diagnostics import run as diagnose
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, windows
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantSpec, RopeSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
S, L = 4.0, 112  # short enough for every (m, n) to be counted
SPEC = DiagnosisSpec(length=L, short_length=16, paired_tokens=16, windows=2, eps=0.05, bands=BandSpec(3), chunk=40)
LISTS = {"long_factor": tuple(1 + 0.4 * i for i in range(8)), "short_factor": (1.0,) * 8}
METHODS = ["linear", "ntk", "dynamic", "yarn", "longrope", "llama3"]
H = 1e-4  # in ln s


def spec_of(method):
    return RopeSpec(method, S, **(LISTS if method == "longrope" else {}))


def frequencies(method, native, context, length, ln_s):
    """omega(s) and a(s), in NumPy."""
    s, pairs = math.exp(ln_s), len(native)
    i = np.arange(pairs)
    turns = native * context / (2 * math.pi)
    if method == "linear":
        return native / s, 1.0
    if method == "ntk":
        return native * s ** (-i / (pairs - 1)), 1.0
    if method == "dynamic":
        return native * (s * length / context - (s - 1)) ** (-i / (pairs - 1)), 1.0
    if method == "llama3":
        smooth = np.clip((turns - 1) / (4 - 1), 0, 1)
        return native * (smooth + (1 - smooth) / s), 1.0
    if method == "longrope":  # lambda(s) = lambda(4)^(ln s / ln 4)
        stretched = np.array(LISTS["long_factor"]) ** (ln_s / math.log(S))
        return native / stretched, math.sqrt(1 + ln_s / math.log(context))
    theta = native[0] / native[1]  # theta^(2/r)
    low, high = (math.log(context / (2 * math.pi * beta)) / math.log(theta) for beta in (32, 1))
    low, high = max(math.floor(low), 0), min(math.ceil(high), 2 * pairs - 1)
    ramp = np.clip((i - low) / (high - low), 0, 1)
    return native * ((1 - ramp) + ramp / s), 1 + 0.1 * ln_s


def captured(loaded, rope, length):
    """q and k of every layer before RoPE, and the scaling, as the run itself shows them after RoPE."""
    kept = {}

    class Keep:
        def on_attention(self, tap):
            cos, sin = (torch.cat((x, x), -1).double() for x in (tap.cos, tap.sin))
            a2 = cos[0, 0] ** 2 + sin[0, 0] ** 2
            kept[tap.layer] = *((x * cos - rotate_half(x) * sin) / a2 for x in (tap.q, tap.k)), tap.scaling

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(rope), length, chunk=length) as stream:
        list(stream.run(windows(loaded.tokenizer, TEXT, length, 1).ids, (Keep(),)))
    return kept


def parts_of_logits(q, k, scaling, omega, factor):
    """Each pair's part of every logit by transformers' rotary code; (heads, L, L, pairs)."""
    angle = torch.arange(q.shape[1]).double()[:, None] * torch.from_numpy(np.concatenate((omega, omega)))
    cos, sin = angle.cos() * factor, angle.sin() * factor
    q, k = (x[0] for x in apply_rotary_pos_emb(q[None], k[None], cos[None], sin[None]))
    k = k.repeat_interleave(len(q) // len(k), 0)
    by_channel = q[:, :, None] * k[:, None] * scaling
    pairs = len(omega)
    return by_channel[..., :pairs] + by_channel[..., pairs:]


def law_mean(x, law):
    """Mean over (m, n <= m) and heads; x (heads, L, L, ...)."""
    length = x.shape[1]
    m, n = torch.tril_indices(length, length)
    mass = torch.ones(len(m)).double() if law == "causal" else 1 / (length - (m - n)).double()
    return torch.einsum("p,p...->...", mass / mass.sum(), x[:, m, n].mean(0))


def change(loaded, rope, method, length, law, bands, context):
    """Brute force: in all, by band, the pairs' own; mean over layers."""
    native = 10_000.0 ** (-np.arange(8) / 8)
    out = []
    for q, k, scaling in captured(loaded, rope, length).values():
        up, down = (
            parts_of_logits(q, k, scaling, *frequencies(method, native, context, length, math.log(S) + e))
            for e in (H, -H)
        )
        slope = (up - down) / (2 * H)
        by_band = torch.stack([slope[..., b.first_pair : b.last_pair + 1].sum(-1) for b in bands], -1)
        out.append([law_mean(x.abs(), law) for x in (slope.sum(-1), by_band, slope)])
    return [torch.stack(found).mean(0) for found in zip(*out, strict=True)]


@pytest.mark.parametrize("law", ["causal", "uniform"])
@pytest.mark.parametrize("method", METHODS)
def test_the_logits_own_change_under_every_method(tiny, method, law):
    loaded = tiny("llama", dtype=torch.float64)
    context = loaded.geometry.original_context
    rope = spec_of(method)
    found = diagnose.run(loaded, Setting(rope, QuantSpec(), diagnosis=replace(SPEC, law=law)), TEXT)
    in_all, by_band, by_pair = change(loaded, rope, method, L, law, found.bands, context)
    moved = found.logit_change
    assert (moved.law, moved.in_all_error, moved.error) == (law, 0.0, [0.0] * 3)
    assert moved.in_all == pytest.approx(float(in_all), rel=1e-4)
    assert moved.by_band == pytest.approx(by_band.tolist(), rel=1e-4, abs=1e-7)
    assert [b.logit_change for b in found.bands] == moved.by_band
    assert found.pairs.logit_weighted_pressure == pytest.approx(by_pair.tolist(), rel=1e-4, abs=1e-7)
    assert moved.in_all_bound == pytest.approx(float(by_pair.sum()), rel=1e-4)
    assert moved.bound == pytest.approx([b.logit_weighted_pressure for b in found.bands])
    assert moved.in_all < 0.8 * moved.in_all_bound
    assert moved.sample.rows is None
    check_frequencies(found, method, law, context)


def check_frequencies(found, method, law, context):
    """Pressure, displacement, compression and both wavelengths against the formulas of the papers."""
    native = 10_000.0 ** (-np.arange(8) / 8)
    now, up, down = (frequencies(method, native, context, L, math.log(S) + e)[0] for e in (0, H, -H))
    mean = np.mean([m - n for m in range(L) for n in range(m + 1)]) if law == "causal" else np.mean(range(L))
    near = {"rel": 1e-4, "abs": 1e-6 * mean}
    assert found.pairs.inv_freq == pytest.approx(now, rel=1e-6)
    assert found.pairs.interpolation_pressure == pytest.approx(np.abs(up - down) / (2 * H) * mean, **near)
    assert found.pairs.phase_displacement == pytest.approx(np.abs(now - native) * mean, **near)
    for band in found.bands:
        here = slice(band.first_pair, band.last_pair + 1)
        assert band.compression == pytest.approx(np.mean(now[here] / native[here]), rel=1e-5)
        assert band.wavelength_max == pytest.approx(2 * math.pi / now[here].min(), rel=1e-5)
        assert band.native_wavelength_max == pytest.approx(2 * math.pi / native[here].min(), rel=1e-5)
        assert band.native_wavelength_min == pytest.approx(2 * math.pi / native[here].max(), rel=1e-5)
        assert band.turns == pytest.approx(np.mean(native[here] * context / (2 * math.pi)), rel=1e-5)


@pytest.mark.parametrize("law", ["causal", "uniform"])
def test_a_longer_context_is_sampled_within_the_standard_error(tiny, law):
    loaded = tiny("llama", dtype=torch.float64, layers=1)
    length, rope = 300, spec_of("yarn")
    result = diagnose.run(loaded, Setting(rope, QuantSpec(), diagnosis=replace(SPEC, length=length, law=law)), TEXT)
    found = result.logit_change
    exact = change(loaded, rope, "yarn", length, law, result.bands, loaded.geometry.original_context)
    truth, by_band, by_pair = (x.tolist() for x in exact)
    assert (found.sample.rows, found.sample.keys) == (128, 32)
    assert abs(found.in_all - truth) < 3 * found.in_all_error
    assert 0 < found.in_all_error < 0.1 * found.in_all
    for moved, error, one in zip(found.by_band, found.error, by_band, strict=True):
        assert abs(moved - one) < 3 * error
    assert found.in_all_bound == pytest.approx(sum(by_pair), rel=0.1)


def test_nothing_moves_under_the_native_rope(tiny):
    """The null of every figure of this page: what it shows when nothing is stretched."""
    loaded = tiny("llama", dtype=torch.float64)
    context = loaded.geometry.original_context
    found = diagnose.run(loaded, Setting(RopeSpec(), QuantSpec(), diagnosis=replace(SPEC, length=context)), TEXT)
    assert found.logit_change.in_all == found.logit_change.in_all_null == found.logit_change.in_all_bound == 0
    for band in found.bands:
        assert (band.interpolation_pressure, band.logit_change) == (0, 0)
        assert band.unseen_phase == pytest.approx(0, abs=1e-6)
        assert band.phase_displacement == pytest.approx(0, abs=1e-6 * context)
        assert band.compression == pytest.approx(1, rel=1e-6)
        assert (band.native_wavelength_min, band.native_wavelength_max) == pytest.approx(
            (band.wavelength_min, band.wavelength_max), rel=1e-6
        )
    assert found.kernel.null.distance == found.kernel.distance
    for high, null in zip(found.kernel.high, found.kernel.null.high, strict=True):
        assert high == pytest.approx(null, abs=1e-4)


def test_a_pair_that_is_a_band_of_its_own_has_the_bands_standard_error(tiny):
    spec = replace(SPEC, length=200, bands=BandSpec(8))
    change = diagnose.run(tiny(), Setting(spec_of("yarn"), QuantSpec(), diagnosis=spec), TEXT).logit_change
    assert change.pair_error == pytest.approx(change.error)
    assert max(change.pair_error) > 0
    whole = diagnose.run(
        tiny(), Setting(spec_of("yarn"), QuantSpec(), diagnosis=replace(SPEC, bands=BandSpec(8))), TEXT
    ).logit_change
    assert whole.pair_error == [0.0] * 8  # every pair of tokens was counted
