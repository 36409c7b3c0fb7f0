"""Other parameters in place of the checkpoint's, inputs divided, inputs rounded: exact, and gone afterwards."""

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.models.condition import Condition
from qroar_core.models.patch import apply_scales, parameters_under, substituted_weights
from qroar_core.models.stream import open_stream
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales

W = "model.layers.0.mlp.up_proj.weight"


def hidden(loaded, ids, quant=None):
    with open_stream(loaded, Condition(RopeSpec(), quant or QuantSpec()), ids.shape[-1], chunk=16) as stream:
        return torch.cat([piece.hidden for piece in stream.run(ids)], 1)


def address(loaded, name):
    return loaded.model.get_parameter(name).data.data_ptr()


def hooks(loaded):
    return [m for m in loaded.model.modules() if m._forward_pre_hooks or m._forward_hooks]


def test_a_scale_in_the_weight_and_out_of_the_inputs_changes_nothing(tiny, ids):
    loaded, text = tiny(dtype=torch.float64), ids(48)
    before, at = hidden(loaded, text), address(loaded, W)
    own = loaded.model.get_parameter(W).data
    s = torch.linspace(-3, 3, own.shape[1]).double().exp2()
    with substituted_weights(loaded, {W: own * s}, {W: s}):
        assert torch.allclose(hidden(loaded, text), before, atol=1e-11)
    with substituted_weights(loaded, {W: own * s}):  # without the division it is another model
        assert not torch.allclose(hidden(loaded, text), before, atol=1e-2)
    assert torch.equal(hidden(loaded, text), before)
    assert address(loaded, W) == at
    assert hooks(loaded) == []


def test_scales_that_a_person_applied_are_lifted_and_come_back(tiny, ids):
    loaded, text = tiny(), ids(48)
    plain = hidden(loaded, text)
    g = torch.full((2, 2, 2), 4.0, dtype=torch.float64)
    scales = Scales("shared", "kv_head", ((0, 3), (4, 7)), g)
    apply_scales(loaded, scales, "their setting")
    name = "model.layers.0.self_attn.q_proj.weight"
    applied, at = loaded.model.get_parameter(name).data, address(loaded, name)
    with substituted_weights(loaded, {}):
        assert (loaded.applied, loaded.applied_under) == (scales, "their setting")  # pages go on saying so
        assert torch.equal(hidden(loaded, text), plain)
        with substituted_weights(loaded, {name: applied * 2}):
            assert torch.equal(loaded.model.get_parameter(name).data, applied * 2)
            assert parameters_under(loaded, None) == {}  # what stands in is the checkpoint's own now
    assert (loaded.applied, loaded.applied_under) == (scales, "their setting")
    assert address(loaded, name) == at


def test_an_error_inside_restores_too(tiny):
    loaded = tiny()
    own, at = loaded.model.get_parameter(W).data, address(loaded, W)
    with pytest.raises(ZeroDivisionError), substituted_weights(loaded, {W: own * 2}, {W: torch.ones(own.shape[1])}):
        1 / 0  # noqa: B018
    assert address(loaded, W) == at
    assert hooks(loaded) == []


def test_linear_inputs_are_rounded_as_by_hand(tiny, ids):
    """Oracle: one linear's input and output, taken by hooks of the test's own around the rounding."""
    loaded, text, taken = tiny(dtype=torch.float64), ids(32), {}
    module = loaded.model.model.layers[1].mlp.down_proj
    handle = module.register_forward_hook(lambda m, args, out: taken.update(x=args[0], y=out))
    before = module.register_forward_pre_hook(lambda m, args: taken.update(raw=args[0]), prepend=True)
    hidden(loaded, text, QuantSpec(activations=QuantizerSpec(4)))
    handle.remove(), before.remove()
    raw = taken["raw"]
    step = raw.abs().amax(-1, keepdim=True) / 7
    assert torch.allclose(taken["x"], (raw / step).round() * step, atol=1e-12)
    assert torch.allclose(taken["y"], taken["x"] @ module.weight.T, atol=1e-12)
    assert float((taken["x"] - raw).abs().max()) > 1e-2
    assert hooks(loaded) == []


def test_rounding_sees_the_divided_inputs(tiny, ids):
    loaded, taken = tiny(dtype=torch.float64), {}
    module = loaded.model.model.layers[0].mlp.up_proj
    s = torch.linspace(-2, 2, 48).double().exp2()
    with substituted_weights(loaded, {W: module.weight.data * s}, {W: s}):
        after = module.register_forward_hook(lambda m, args, out: taken.update(x=args[0]))
        before = module.register_forward_pre_hook(lambda m, args: taken.update(raw=args[0]), prepend=True)
        hidden(loaded, ids(32), QuantSpec(activations=QuantizerSpec(4)))
        after.remove(), before.remove()
    divided = taken["raw"] / s
    step = divided.abs().amax(-1, keepdim=True) / 7
    assert torch.allclose(taken["x"], (divided / step).round() * step, atol=1e-12)


def test_only_integers_per_token():
    assert not QuantSpec(activations=QuantizerSpec(8)).is_none
    with pytest.raises(BadSpec, match="symmetric integers, one scale a token"):
        QuantSpec(activations=QuantizerSpec(8, "block", group_size=16))
