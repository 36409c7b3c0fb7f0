"""Hidden states of a whole diagnosis against every layer's output, gathered by plain forward hooks in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.similarity.observe import HIDDEN_ROWS, drawn_rows
from qroar_core.maths.positions import PositionBins
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, windows
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
YARN = RopeSpec("yarn", 2.0)
SPEC = DiagnosisSpec(
    length=256, short_length=32, paired_tokens=16, windows=4, eps=0.02, bands=BandSpec(4), chunk=48, position_bins=4
)
QUANTS = {
    "K int4": QuantSpec(k=QuantizerSpec(4)),
    "weights int4": QuantSpec(weights=WeightQuantSpec(4)),
    "V int4": QuantSpec(v=QuantizerSpec(4)),
}


def outputs(loaded, condition, length=256):
    """Every decoder layer's output, (layers, length, hidden)."""
    kept = []
    hooks = [
        layer.register_forward_hook(lambda m, a, out: kept.append(out[0] if isinstance(out, tuple) else out))
        for layer in loaded.model.model.layers
    ]
    with open_stream(loaded, condition, length, chunk=length) as stream:
        list(stream.run(windows(loaded.tokenizer, TEXT, length, 1).ids))
    for hook in hooks:
        hook.remove()
    return torch.stack([k.reshape(length, -1) for k in kept]).double().numpy()


@pytest.mark.parametrize("which", QUANTS)
def test_every_number_by_hand(tiny, which):
    loaded = tiny(dtype=torch.float64)
    found = diagnose.run(loaded, Setting(YARN, QUANTS[which], diagnosis=SPEC), TEXT).hidden
    x, y = (outputs(loaded, c) for c in (Condition(YARN), Condition(YARN, QUANTS[which])))
    relative = ((y - x) ** 2).sum(-1) / (x**2).sum(-1)  # (layers, positions)
    rows = drawn_rows(PositionBins(256, 4), HIDDEN_ROWS, seed=0).numpy()
    outside = 0
    for p in range(4):
        here = rows[rows // 64 == p]
        assert len(here) == 32
        for layer in range(2):
            expected = -10 * math.log10(relative[layer, here].mean())
            assert found.sqnr_db[layer][p] == pytest.approx(expected, abs=1e-3)
            # what all rows of the bin give lies within the error shown, but for one bin in twenty
            everyone = -10 * math.log10(relative[layer, max(64 * p, 1) : 64 * p + 64].mean())
            outside += not found.sqnr_low[layer][p] < everyone < found.sqnr_high[layer][p]
            assert found.sqnr_high[layer][p] - found.sqnr_low[layer][p] < 6
    assert outside <= 1
    e, energy = (y - x)[:, rows], (x[:, rows] ** 2).sum(-1)
    parts = found.accumulation
    assert parts.inherited[1] == pytest.approx(((e[0] ** 2).sum(-1) / energy[1]).mean(), rel=1e-4)
    assert parts.added[1] == pytest.approx((((e[1] - e[0]) ** 2).sum(-1) / energy[1]).mean(), rel=1e-4)
    assert parts.cross[1] == pytest.approx((2 * (e[0] * (e[1] - e[0])).sum(-1) / energy[1]).mean(), rel=1e-4)
    assert (parts.inherited[0], parts.share_added[0]) == (0.0, 1.0)
    assert (relative[:, 0] < 1e-20).all() == (which == "K int4")  # position 0: no K can move it, other errors do


def test_chunks_do_not_matter_and_the_seed_does(tiny):
    loaded = tiny(dtype=torch.float64)
    a, b, c = (
        diagnose.run(
            loaded, Setting(YARN, QUANTS["K int4"], diagnosis=replace(SPEC, chunk=chunk, seed=seed)), TEXT
        ).hidden
        for chunk, seed in ((48, 0), (256, 0), (48, 1))
    )
    assert np.array(a.sqnr_db) == pytest.approx(np.array(b.sqnr_db), rel=1e-9)
    assert a.accumulation.share_added == pytest.approx(b.accumulation.share_added, rel=1e-9)
    assert a.sample == b.sample
    assert (a.sample.seed, c.sample.seed, a.sample.rows) == (0, 1, 128)
