"""The polish of tied pairs: its matrices in the weights do to q and k what they do to captured ones."""

from dataclasses import replace

import torch

from benchmarks import tied_polish
from benchmarks.tied_polish import Polish, Tied
from qroar_core.interpolations.tie import parse_ties
from qroar_core.models.capture import capture
from qroar_core.specs import RopeSpec

UNTIED = RopeSpec("yarn", 4.0)
LENGTH = 64


def captured(loaded, rope, length=LENGTH):
    ids = torch.randint(0, 100, (2, length), generator=torch.Generator().manual_seed(0))
    return capture(loaded, rope, ids, 8)


def test_matrices_in_the_weights_are_matrices_on_captured_q_and_k(tiny):
    loaded = tiny(head_dim=32)
    rope = replace(UNTIED, tie=parse_ties("4-6,12-15:0"))
    tied = Tied.of(loaded, rope, LENGTH)
    assert tied.channels.tolist() == [4, 5, 6, 20, 21, 22, 12, 13, 14, 15, 28, 29, 30, 31]
    draw = torch.Generator().manual_seed(1)
    size, geo = len(tied.channels), loaded.geometry
    matrices = [
        Polish(*(0.3 * torch.randn(heads, size, size, generator=draw) * tied.within for heads in one))
        for one in [(geo.n_heads, geo.n_kv_heads)] * geo.n_layers
    ]
    layer = captured(loaded, UNTIED).windows[0][0]
    q, k = tied.after_rope(*tied.before_rope(layer), layer.rows, matrices[0])
    before = {name: one.clone() for name, one in loaded.model.named_parameters()}
    with tied_polish.in_place(loaded, tied, matrices):
        own = captured(loaded, rope).windows[0][0]
    torch.testing.assert_close(q, own.q, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(k, own.k, rtol=1e-5, atol=1e-5)
    assert float((own.q - layer.q).abs().max()) > 0.01
    assert all(torch.equal(one, before[name]) for name, one in loaded.model.named_parameters())


def test_polishing_brings_attention_back_towards_the_model_without_a_tie(tiny):
    """Fast pairs held still move attention; the output's squared change is computed here from softmax itself."""
    loaded = tiny(head_dim=32)
    rope = replace(UNTIED, tie=parse_ties("2-5:0"))
    tied, taken = Tied.of(loaded, rope, LENGTH), captured(loaded, UNTIED)
    found = tied_polish.polished(taken, tied, loaded.geometry)
    none = Polish(torch.zeros_like(found[0].q), torch.zeros_like(found[0].k))

    def change(i, matrices):
        layer = taken.windows[0][i]
        q, k = tied.after_rope(*tied.before_rope(layer), layer.rows, matrices)
        group = len(q) // len(k)
        k, v = k.repeat_interleave(group, 0), layer.v.repeat_interleave(group, 0)
        seen = layer.rows[:, None] >= torch.arange(k.shape[1])
        logits = (taken.scaling * q @ k.mT).masked_fill(~seen, -torch.inf)
        moved = logits.softmax(-1) @ v - layer.out
        return float(torch.einsum("hrc,hcd,hrd->", moved, taken.metric[i], moved))

    for i in range(loaded.geometry.n_layers):
        assert 0 < change(i, found[i]) < 0.8 * change(i, none)
