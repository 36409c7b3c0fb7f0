"""Moments of what linears read: against transformers' own forward with every input recorded and kept."""

import pytest
import torch

from qroar_core.models.linear_inputs import linear_inputs
from qroar_core.specs import RopeSpec

PARTS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def recorded(model, ids):
    """All inputs of each linear, (tokens, in_features), by one plain forward of whole windows."""
    seen, hooks = {}, []
    for i, layer in enumerate(model.model.layers):
        for part in PARTS:
            name = f"model.layers.{i}.{part}.weight"
            keep = lambda module, args, name=name: seen.__setitem__(name, args[0].flatten(0, 1))  # noqa: E731
            hooks.append(layer.get_submodule(part).register_forward_pre_hook(keep))
    with torch.no_grad():
        model(ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("memory", [1 << 30, 1], ids=["one pass", "a pass a layer"])
def test_moments_are_those_of_every_input(tiny, ids, memory):
    loaded = tiny(dtype=torch.float64)
    windows = ids(3, 40)
    seen = recorded(loaded.model, windows)
    found = list(linear_inputs(loaded, RopeSpec(), windows, chunk=16, memory=memory))
    assert sorted(name for one in found for name in one.weights) == sorted(seen)
    for one in found:
        x = seen[one.weights[0]]
        assert one.tokens == 120
        assert torch.allclose(one.hessian, x.T @ x / 120, atol=1e-10)
        assert torch.allclose(one.mean_abs, x.abs().mean(0), atol=1e-10)
        assert torch.allclose(one.absmax, x.abs().amax(0), atol=1e-10)


def test_linears_that_are_handed_the_same_tensor_share_their_moments(tiny, ids):
    loaded = tiny()
    found = [[name.split(".")[-2] for name in one.weights] for one in linear_inputs(loaded, RopeSpec(), ids(1, 32))]
    alone = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert found == alone * 2


def test_the_model_keeps_no_hook(tiny, ids):
    loaded = tiny()
    list(linear_inputs(loaded, RopeSpec(), ids(1, 32)))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in loaded.model.modules())
