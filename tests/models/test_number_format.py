"""A model in another number format for a while: the very numbers of a model loaded in it, then its own again."""

import pytest
import torch

from qroar_core.models.load import run as load_model
from qroar_core.models.number_format import in_format
from qroar_core.models.patch import apply_scales
from qroar_core.models.stream import Condition
from qroar_core.models.window_losses import measure
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales

INT4 = Condition(RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_it_computes_what_the_checkpoint_read_in_that_format_computes(demo, ids, name):
    dtype, tokens = getattr(torch, name), ids(2, 48)
    other = load_model("demo", device="cpu", dtype=name)
    before = {name: p.data.clone() for name, p in demo.model.named_parameters()}
    with in_format(demo, dtype) as cast:
        assert cast.dtype == dtype
        with torch.inference_mode():
            assert torch.equal(cast.model(tokens).logits, other.model(tokens).logits)
        mine = measure(cast, INT4, tokens, 16).nll
    assert torch.equal(mine, measure(other, INT4, tokens, 16).nll)
    assert not torch.equal(mine, measure(demo, INT4, tokens, 16).nll)
    after = dict(demo.model.named_parameters())
    assert all(after[name].dtype == torch.float32 and torch.equal(after[name].data, x) for name, x in before.items())


def test_applied_scales_are_lifted_and_put_back_also_after_an_error(tiny, ids):
    loaded, tokens = tiny(), ids(1, 32)
    plain = tiny(dtype=torch.bfloat16)
    g = torch.full((2, 2, 2), 3.0, dtype=torch.float64)
    apply_scales(loaded, Scales("shared", "kv_head", ((0, 3), (4, 7)), g))
    applied = {name: p.data.clone() for name, p in loaded.model.named_parameters()}

    def interrupted():
        with in_format(loaded, torch.bfloat16) as cast:
            assert cast.applied is None
            assert torch.equal(measure(cast, INT4, tokens, 8).nll, measure(plain, INT4, tokens, 8).nll)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        interrupted()
    assert all(torch.equal(p.data, applied[name]) for name, p in loaded.model.named_parameters())


def test_the_loaded_format_is_the_model_itself(tiny):
    loaded = tiny()
    with in_format(loaded, torch.float32) as same:
        assert same is loaded
