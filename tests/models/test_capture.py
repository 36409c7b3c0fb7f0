"""What the search captures is what transformers computes, chunked or not, under an interpolation too."""

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from qroar_core.models.capture import FIRST_ROW, capture
from qroar_core.specs import RopeSpec

LINEAR = {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}}
CASES = {"plain": (RopeSpec(), {}), "linear": (RopeSpec("linear", 2.0), LINEAR)}


def watched(model, ids):
    """(input of every o_proj, rotated K of every layer) of one window in one plain forward pass."""
    kept, keys = {}, {}
    rotary = model.model.rotary_emb
    hooks = []
    for i, layer in enumerate(model.model.layers):
        at = layer.self_attn

        def before(module, args, i=i):
            kept[i] = args[0][0]

        def key(module, args, output, i=i):
            k = output.view(1, ids.shape[0], 2, -1).transpose(1, 2)
            cos, sin = rotary(k, torch.arange(ids.shape[0])[None])
            keys[i] = apply_rotary_pos_emb(k, k, cos, sin)[1][0]

        hooks += [at.o_proj.register_forward_pre_hook(before), at.k_proj.register_forward_hook(key)]
    with torch.inference_mode():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    return kept, keys


@pytest.mark.parametrize("chunk", [512, 20])
@pytest.mark.parametrize("name", CASES)
def test_output_and_key_range_are_those_of_transformers(tiny, ids, name, chunk):
    rope, options = CASES[name]
    loaded, plain = tiny(), tiny(**options).model
    windows = ids(2, 70)
    found = capture(loaded, rope, windows, 12, chunk=chunk)
    largest = torch.zeros(2, 2, 16)
    for w in range(2):
        outputs, keys = watched(plain, windows[w])
        for i, layer in enumerate(found.windows[w]):
            expected = outputs[i].view(70, 4, 16).transpose(0, 1)[:, layer.rows]  # (heads, R, head_dim)
            assert torch.allclose(layer.out, expected, atol=2e-5)
            assert torch.allclose(layer.k, keys[i], atol=2e-5)
            largest[i] = torch.maximum(largest[i], keys[i].abs().amax(1))
    assert torch.allclose(found.k_absmax, largest, atol=2e-5)


def test_rows_see_enough_keys_and_follow_the_seed(tiny, ids):
    loaded, windows = tiny(), ids(2, 70)
    rows = [[x[0].rows.tolist() for x in capture(loaded, RopeSpec(), windows, 12, seed=s).windows] for s in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]
    assert rows[0][0] != rows[0][1]  # other rows in the other window
    for picked in rows[0]:
        assert len(set(picked)) == 12
        assert picked == sorted(picked)
        assert min(picked) >= FIRST_ROW
        assert max(picked) < 70


def test_a_window_shorter_than_the_first_row_keeps_its_last(tiny, ids):
    found = capture(tiny(), RopeSpec(), ids(1, 8), 64)
    assert found.windows[0][0].rows.tolist() == [7]
    assert found.cos.shape == (8, 8)
