"""Errors of pairs and coordinates as a diagnosis holds them, against q and K rounded by hand in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.band_table import band_table
from qroar_core.diagnostics.pair_error.figure import amplitude_and_phase
from qroar_core.models import load
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, split, windows
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
YARN = RopeSpec("yarn", 2.0)  # attention factor 1.069
L, DIM, HALF, BANDS, ANGLES = 128, 16, 8, 4, 16
SPEC = DiagnosisSpec(
    length=L, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(BANDS), position_bins=4, chunk=64
)
# 32 tokens a group; the last query of 128 reads the last group exactly, and its keys are no part of any figure
CHANNEL = QuantizerSpec(4, scale="channel", group_size=32)


def kept_of(loaded):
    """Layer -> q, K, cos and sin of every position, float64 numpy."""
    kept = {}

    class Keep:
        def on_attention(self, tap):
            kept[tap.layer] = [x.double().numpy() for x in (tap.q, tap.k, tap.cos, tap.sin)]

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(YARN), L, chunk=L) as stream:
        list(stream.run(windows(loaded.tokenizer, TEXT, L, 1).ids, (Keep(),)))
    return kept


def to_grid(x, step):
    return np.round(x / step) * step


def by_token(x, bits):
    step = np.abs(x).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    return to_grid(x, step), np.broadcast_to(step, x.shape)


def by_channel(x, bits=4):
    groups = x.reshape(len(x), L // 32, 32, DIM)
    step = np.broadcast_to(np.abs(groups).max(2, keepdims=True) / (2 ** (bits - 1) - 1), groups.shape)
    return to_grid(groups, step).reshape(x.shape), step.reshape(x.shape)


def rounded(kind, k, cos, sin, bits=4):
    """K rounded, and the step of every value on the axes where it is rounded, mapped to a pair's mean square."""
    if kind == "token":
        out, step = by_token(k, bits)
    elif kind == "hadamard":
        signs = np.array([[(-1.0) ** bin(i & j).count("1") for j in range(DIM)] for i in range(DIM)]) / 4
        out, step = by_token(k @ signs, 4)
        out = out @ signs
    elif kind == "block":
        parts = k.reshape(*k.shape[:-1], 2, 8)
        low, high = parts.min(-1, keepdims=True), parts.max(-1, keepdims=True)
        step = (high - low) / 15
        out = (low + to_grid(parts - low, step)).reshape(k.shape)
        step = np.broadcast_to(step, parts.shape).reshape(k.shape)
    elif kind == "channel":
        out, step = by_channel(k, bits)
    else:  # before RoPE: turned back by hand as complex numbers that carry the attention factor
        turn = cos + 1j * sin
        z = (k[..., :HALF] + 1j * k[..., HALF:]) / turn
        out, step = by_channel(np.concatenate([z.real, z.imag], -1), bits)
        w = (out[..., :HALF] + 1j * out[..., HALF:]) * turn
        out = np.concatenate([w.real, w.imag], -1)
        square = (step[..., :HALF] ** 2 + step[..., HALF:] ** 2) / 2 * np.abs(turn) ** 2
        return out, square
    return out, (step[..., :HALF] ** 2 + step[..., HALF:] ** 2) / 2


KINDS = {
    "token": QuantizerSpec(4),
    "hadamard": QuantizerSpec(4, rotation="hadamard"),
    "block": QuantizerSpec(4, scale="block", levels="affine", group_size=8),
    "channel": CHANNEL,
    "before": replace(CHANNEL, before_rope=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_by_hand(tiny, kind):
    loaded = tiny(dtype=torch.float64)
    found = diagnose.run(loaded, Setting(YARN, QuantSpec(k=KINDS[kind]), diagnosis=SPEC), TEXT)
    cells = np.zeros((2, BANDS, ANGLES)), np.zeros((2, BANDS, ANGLES))  # error over squared step, pairs
    length = energy = zeroed = 0.0
    layers = kept_of(loaded)
    for layer, (_, k, cos, sin) in layers.items():
        out, square = rounded(kind, k, cos, sin)
        if kind in ("channel", "before"):
            k, out, square = k[:, : L - 32], out[:, : L - 32], square[:, : L - 32]
        z, w = (x[..., :HALF] + 1j * x[..., HALF:] for x in (k, out))
        axes = z / (cos + 1j * sin)[: z.shape[1]] if kind == "before" else z  # the axes that the quantizer rounds
        angle = np.arctan2(np.abs(axes.imag), np.abs(axes.real))
        at = np.minimum((angle / (np.pi / 2) * ANGLES).astype(int), ANGLES - 1)
        band = np.broadcast_to(np.arange(HALF) // 2, at.shape)
        np.add.at(cells[0][layer], (band, at), np.abs(w - z) ** 2 / square)
        np.add.at(cells[1][layer], (band, at), 1)
        length += ((np.abs(w) - np.abs(z)) ** 2).sum()
        energy += (np.abs(w - z) ** 2).sum()
        zeroed += (np.abs(w) < 1e-9).mean() / len(layers)
        stretch = np.linalg.norm(out, axis=-1) / np.linalg.norm(k, axis=-1) - 1
        assert found.rounding.k.norm_mean[layer] == pytest.approx(stretch.mean(1), rel=1e-3, abs=1e-6)
        assert found.rounding.k.norm_rms[layer] == pytest.approx(np.sqrt((stretch**2).mean(1)), rel=1e-4)
        assert found.rounding.k.largest[layer] == pytest.approx(np.abs(out - k).max((1, 2)), rel=1e-4)
        assert found.rounding.k.rms[layer] == pytest.approx(np.sqrt(((out - k) ** 2).mean((1, 2))), rel=1e-4)
        off = np.abs(out - k)
        by_band = [off[..., [2 * b, 2 * b + 1, HALF + 2 * b, HALF + 2 * b + 1]] for b in range(BANDS)]
        assert found.rounding.k.band_rms[layer] == pytest.approx([np.sqrt((x**2).mean()) for x in by_band], rel=1e-4)
        assert found.rounding.k.band_largest[layer] == pytest.approx([x.max() for x in by_band], rel=1e-4)
        if kind in ("token", "channel"):
            assert found.rounding.k.zeroed[layer] == pytest.approx((out == 0).mean((1, 2)), abs=1e-9)
        assert found.rounding.k.clipped[layer] == [0.0, 0.0]
        mean = cells[0][layer] / np.maximum(cells[1][layer], 1)
        for b in range(BANDS):
            enough = mean[b][cells[1][layer][b] >= 32]
            ratio = found.anisotropy.ratio[layer][b]
            assert ratio == pytest.approx(enough.max() / enough.min(), rel=1e-3) if len(enough) else ratio is None
    with np.errstate(invalid="ignore"):
        mean = np.nanmean(cells[0] / cells[1], axis=0)
    for b in range(BANDS):
        there = [i for i, x in enumerate(found.anisotropy.error[b]) if x is not None]
        assert [found.anisotropy.error[b][i] for i in there] == pytest.approx(mean[b][there], rel=1e-3)
    assert found.pair_error.share == pytest.approx(length / energy, rel=1e-4)
    assert found.pair_error.zeroed_share == pytest.approx(zeroed, abs=1e-9)
    assert found.rounding.q is None
    assert found.anisotropy.before_rope is found.anisotropy.angle_before_rope is (kind == "before")
    assert (found.anisotropy.over, found.anisotropy.sample.tokens) == ("step", L - 32 * (kind in ("channel", "before")))


def flat_rms(values, counted):
    return np.sqrt((values[counted] ** 2).mean())


@pytest.mark.parametrize("kind", ["token", "channel", "before"])
@pytest.mark.parametrize("bits", [2, 4])
def test_whole_bands_are_the_flat_mean_over_every_pair_that_is_rounded(tiny, kind, bits):
    """Table, figure and null rows in bins that are rounded in part, with more or fewer pairs that become zero."""
    loaded = tiny(dtype=torch.float64)
    quant = QuantSpec(k=replace(KINDS[kind], bits=bits))
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=replace(SPEC, position_bins=3)), TEXT)
    amplitude, phase, kept = [], [], []
    for _, k, cos, sin in kept_of(loaded).values():
        out, _ = rounded(kind, k, cos, sin, bits)
        if kind != "token":  # of the last bin, tokens 85 to 127, only the first 11 are rounded
            k, out = k[:, : L - 32], out[:, : L - 32]
        z, w = (x[..., :HALF] + 1j * x[..., HALF:] for x in (k, out))
        amplitude.append(np.abs(w) / np.abs(z) - 1)
        phase.append(np.angle(w * z.conj()))
        kept.append(np.abs(w) > 1e-5 * np.abs(z))
    amplitude, phase, kept = (np.concatenate(x) for x in (amplitude, phase, kept))
    assert bits == 4 or not kept.all()
    points = [t for t in amplitude_and_phase(found).figure.data if t.text is not None]
    errors, every = found.pair_error, np.ones_like(kept)
    for b, row in enumerate(band_table(found)):
        here = np.s_[..., 2 * b : 2 * b + 2]
        by_hand = flat_rms(amplitude[here], every[here]), flat_rms(phase[here], kept[here])
        assert (row.amplitude_error, row.phase_error_rad) == pytest.approx(by_hand, rel=1e-4)
        assert (points[b].y[0], points[b].x[0]) == pytest.approx(by_hand, rel=1e-4)
        assert row.zeroed_share == pytest.approx(1 - kept[here].mean(), abs=1e-9)
        assert sum(errors.pairs[b]) == kept[here].size
        assert sum(errors.with_phase[b]) == kept[here].sum()
    told = [r.measured for r in found.null_rows("pair_error")[1:]]
    assert told == pytest.approx([flat_rms(amplitude, every), flat_rms(phase, kept)], rel=1e-4)


def test_q_is_there_where_it_is_quantized_and_the_coarser_step_counts(tiny):
    loaded = tiny(dtype=torch.float64)
    quant = QuantSpec(k=QuantizerSpec(8), qk=QuantizerSpec(4))
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=SPEC), TEXT)
    for layer, (q, k, _, _) in kept_of(loaded).items():
        out, _ = by_token(q, 4)
        off = np.abs(out - q).reshape(2, -1)  # two query heads a KV head
        assert found.rounding.q.largest[layer] == pytest.approx(off.max(1), rel=1e-4)
        assert found.rounding.q.zeroed[layer] == pytest.approx((out == 0).reshape(2, -1).mean(1), abs=1e-9)
        assert found.rounding.k.zeroed[layer] == pytest.approx((by_token(k, 8)[0] == 0).mean((1, 2)), abs=1e-9)
    alone = diagnose.run(loaded, Setting(YARN, QuantSpec(k=QuantizerSpec(4)), diagnosis=SPEC), TEXT)
    for one, other in zip(found.anisotropy.error, alone.anisotropy.error, strict=True):
        there = [(a, b) for a, b in zip(one, other, strict=True) if a is not None]
        assert np.mean([a for a, _ in there]) == pytest.approx(np.mean([b for _, b in there]), rel=0.1)


def test_chunk_size_changes_no_number(tiny):
    loaded = tiny(dtype=torch.float64)
    quant = QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(4))
    one, other = (
        diagnose.run(loaded, Setting(YARN, quant, diagnosis=replace(SPEC, chunk=c, null_draws=2)), TEXT)
        for c in (128, 24)
    )
    for name in ("anisotropy", "pair_error", "rounding"):
        a, b = (getattr(d, name).model_dump() for d in (one, other))
        assert flat(a) == pytest.approx(flat(b), rel=1e-4, abs=1e-7), name
    assert one.anisotropy.null.largest == pytest.approx(other.anisotropy.null.largest, rel=1e-5)
    again = diagnose.run(loaded, Setting(YARN, quant, diagnosis=replace(SPEC, seed=1, null_draws=2)), TEXT)
    assert again.anisotropy.sample.seed == 1
    assert again.anisotropy.null.largest != one.anisotropy.null.largest


def flat(value):
    """Every number in nested lists and dicts, None as -1."""
    if isinstance(value, dict):
        return [x for v in value.values() for x in flat(v)]
    if isinstance(value, list):
        return [x for v in value for x in flat(v)]
    return [] if isinstance(value, str) else [-1.0 if value is None else float(value)]


def test_the_demos_pairs_by_hand():
    """int4 a token on the demo model: the headline figures of the three diagnostics, and what noise shows there."""
    loaded = load.run("demo", device="cpu", dtype="float32")
    spec = DiagnosisSpec(length=256, short_length=64, paired_tokens=32, windows=2, chunk=100)
    found = diagnose.run(loaded, Setting(YARN, QuantSpec(k=QuantizerSpec(4)), diagnosis=spec), split("development"))
    kept, half = {}, loaded.geometry.head_dim // 2

    class Keep:
        def on_attention(self, tap):
            kept[tap.layer] = tap.k.double().numpy()

        def on_layer(self, *args):
            pass

    with open_stream(loaded, Condition(YARN), 256, chunk=256) as stream:
        list(stream.run(windows(loaded.tokenizer, split("development"), 256, 1).ids, (Keep(),)))
    largest = length = energy = lost = pairs = 0.0
    for layer, k in kept.items():
        out, step = by_token(k, 4)
        z, w = (x[..., :half] + 1j * x[..., half:] for x in (k, out))
        at = np.minimum((np.arctan2(np.abs(z.imag), np.abs(z.real)) / (np.pi / 2) * 16).astype(int), 15)
        for band in found.bands:
            here = np.s_[..., band.first_pair : band.last_pair + 1]
            share = (np.abs(w - z) ** 2 / step[..., :half] ** 2)[here].ravel()
            means = [share[at[here].ravel() == c].mean() for c in range(16) if (at[here] == c).sum() >= 32]
            assert found.anisotropy.ratio[layer][band.index] == pytest.approx(max(means) / min(means), rel=2e-3)
            largest = max(largest, max(means) / min(means))
        length += ((np.abs(w) - np.abs(z)) ** 2).sum()
        energy += (np.abs(w - z) ** 2).sum()
        lost, pairs = lost + (w == 0).sum(), pairs + w.size
        stretch = np.linalg.norm(out, axis=-1) / np.linalg.norm(k, axis=-1) - 1
        assert found.rounding.k.norm_rms[layer] == pytest.approx(np.sqrt((stretch**2).mean(1)), rel=2e-3)
        assert found.rounding.k.zeroed[layer] == pytest.approx((out == 0).mean((1, 2)), rel=1e-3)
    assert found.anisotropy.largest == pytest.approx(largest, rel=2e-3)
    assert found.pair_error.share == pytest.approx(length / energy, rel=1e-3)
    assert found.pair_error.zeroed_share == pytest.approx(lost / pairs, rel=1e-2)
    assert found.pair_error.null.share == pytest.approx(0.5, abs=0.03)
    assert 1 <= found.anisotropy.null_typical < found.anisotropy.typical / 1.25  # 256 tokens: chance is not small
    above, error = found.anisotropy.above_null()
    assert above > 2 * error > 0
