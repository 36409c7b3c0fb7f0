"""Logit noise of a whole diagnosis: which layers and channels its bands speak of, its scores and its null, by hand.

Oracle: every layer's q and k, rounded by hand, all (head, query, key) written out in float64.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import windows
from qroar_core.setting import Setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.models.families_table import CASES, loaded_of
from tests.models.small_specs import INT4, SMALL, TEXT

L = SMALL.length
SPEC = replace(SMALL, position_bins=4)
ROPE = RopeSpec("linear", 3.0)
# family -> layers that turn, pairs of each band as channels, channels without rotation
BY_HAND = {
    "smollm3": ((0, 2), ([0, 1, 4, 5], [2, 3, 6, 7]), []),
    "stablelm, parallel": ((0, 1), None, [6, 7]),
    "mistral, window": ((0, 1), ([0, 1, 4, 5], [2, 3, 6, 7]), []),
}
WINDOW = {"mistral, window": 13}


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    return lambda name, **kw: loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=torch.float32, **kw)


def rounded(x, bits):
    top = 2 ** (bits - 1) - 1
    step = np.abs(x).max(-1, keepdims=True) / top
    return np.round(x / step) * step


def taken(loaded, qk=False):
    """Layer -> q, k, and both rounded, heads repeated; float64, and the scaling."""
    kept = {}

    class Keep:
        def on_attention(self, tap):
            q, k = tap.q.double().numpy(), tap.k.double().numpy()
            group = len(q) // len(k)
            q_hat, k_hat = (rounded(q, 8), rounded(k, 8)) if qk else (q, rounded(k, 4))
            kept[tap.layer] = q, np.repeat(k, group, 0), q_hat, np.repeat(k_hat, group, 0), tap.scaling

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(ROPE), L, chunk=L) as stream:
        list(stream.run(windows(loaded.tokenizer, TEXT, L, 1).ids, (Keep(),)))
    return kept


def seen(row, window):
    return range(max(0, row - (window or L) + 1), row + 1)


def noise_at(layer, row, window, channels=slice(None)):
    """(heads, keys) of the noise of these channels."""
    q, k, q_hat, k_hat, scaling = layer
    keys = seen(row, window)
    parts = q_hat[:, row, None] * k_hat[:, keys] - q[:, row, None] * k[:, keys]
    return scaling * parts[..., channels].sum(-1)


@pytest.mark.parametrize("family", BY_HAND)
def test_bands_are_of_layers_and_channels_that_turn(build, family):
    loaded = build(family)
    turning, bands, rest = BY_HAND[family]
    found, layers = diagnose.run(loaded, Setting(ROPE, INT4, diagnosis=SPEC), TEXT).logit_noise, taken(loaded)
    window = WINDOW.get(family)
    if bands is not None:
        for band, channels in enumerate(bands):
            for at, row in enumerate(found.position):
                mean = np.mean([(noise_at(layers[i], row, window, channels) ** 2).mean() for i in turning])
                assert found.by_band_position[band][at] == pytest.approx(np.sqrt(mean), rel=1e-3)
    for at, row in enumerate(found.position):
        if rest:
            mean = np.mean([(noise_at(layers[i], row, window, rest) ** 2).mean() for i in turning])
            assert found.unrotated_position[at] == pytest.approx(np.sqrt(mean), rel=1e-3)
        for i, layer in layers.items():
            q, k, *_, scaling = layer
            logits = scaling * np.einsum("hd,hnd->hn", q[:, row], k[:, seen(row, window)])
            assert found.logit_std_by_layer[i][at] == pytest.approx(np.sqrt(logits.var(-1).mean()), rel=1e-3)
            error = noise_at(layer, row, window)
            assert found.noise_std_by_layer[i][at] == pytest.approx(np.sqrt(error.var(-1).mean()), rel=1e-3)
    assert bool(found.unrotated_position) == bool(found.unrotated_distance) == bool(rest)
    for i in layers:  # what a layer without RoPE has is in no band
        if i in turning:
            assert None not in found.by_band[i]
        else:
            assert found.by_band[i] == [None] * 2
            whole = np.sqrt(np.mean([(noise_at(layers[i], row, window) ** 2).mean() for row in found.position]))
            assert found.unrotated[i] == pytest.approx(whole, rel=1e-3)
    assert bool(found.unrotated) == (bool(rest) or len(turning) < len(layers))


@pytest.mark.parametrize("family", BY_HAND)
@pytest.mark.parametrize("qk", [False, True], ids=["K int4", "qk int8"])
def test_the_null_has_the_energy_of_the_cells_counted(build, family, qk):
    loaded = build(family)
    quant = QuantSpec(qk=QuantizerSpec(8)) if qk else INT4
    found, layers = diagnose.run(loaded, Setting(ROPE, quant, diagnosis=SPEC), TEXT).logit_noise, taken(loaded, qk)
    window = WINDOW.get(family)
    by_layer = []
    for i, (q, k, q_hat, k_hat, scaling) in sorted(layers.items()):
        heads, _, d = q.shape
        group = heads // loaded.geometry.n_kv_heads
        squares = np.zeros((heads, len(found.position)))
        for h in range(heads):
            # each KV head's error, over all cells that its queries see, which are the same for each of them
            cells = [((k_hat[h, n] - k[h, n]) ** 2).sum() for row in found.position for n in seen(row, window)]
            e_q = np.mean([((q_hat[h, row] - q[h, row]) ** 2).sum() for row in found.position])
            for at, row in enumerate(found.position):
                lengths = np.mean([(k[h, n] ** 2).sum() for n in seen(row, window)])
                squares[h, at] = scaling**2 / d * ((q_hat[h, row] ** 2).sum() * np.mean(cells) + e_q * lengths)
        assert group * loaded.geometry.n_kv_heads == heads
        assert found.null_by_layer[i] == pytest.approx(np.sqrt(squares.mean(0)), rel=1e-3)
        by_layer.append(squares.mean(0))
    assert found.null.rms == pytest.approx(np.sqrt(np.mean(by_layer, 0)), rel=1e-3)


def test_the_null_of_rounded_keys_holds_the_measured_noise_where_nothing_is_to_see(build):
    """Random weights round alike at every angle and position: measured noise stays near the null."""
    found = diagnose.run(
        build("smollm3"), Setting(ROPE, INT4, diagnosis=replace(SPEC, length=300, chunk=100)), TEXT
    ).logit_noise
    ratio = np.array(found.rms) / np.array(found.null.rms)
    assert 0.8 < np.sqrt((ratio**2).mean()) < 1.25
    assert [r.diagnostic for r in found.null_rows()] == ["Logit noise"] * 5
    kl = found.null_rows()[-1]
    assert kl.measured == pytest.approx(kl.null, rel=0.35)


def test_no_number_depends_on_the_chunk(build):
    quant = QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(8))
    for family in ("smollm3", "stablelm, parallel"):
        a, b = (
            diagnose.run(
                build(family), Setting(ROPE, quant, diagnosis=replace(SPEC, chunk=chunk)), TEXT
            ).logit_noise.model_dump()
            for chunk in (17, 80)
        )
        assert same(a, b) == []


def same(a, b, at=""):
    if isinstance(a, dict):
        return [x for key in a for x in same(a[key], b[key], f"{at}/{key}")]
    if isinstance(a, list):
        return [x for i, pair in enumerate(zip(a, b, strict=True)) for x in same(*pair, f"{at}/{i}")]
    alike = a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-3 * abs(b) + 1e-7)
    return [] if alike else [(at, a, b)]
