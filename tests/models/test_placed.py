"""A model on an accelerator, by tensors that know where they are: nothing meets across devices, nothing waits."""

import pytest
import torch
from placed import ONE, TWO, Placed, placed, put

from qroar_core.models.condition import Condition
from qroar_core.models.measure import measure
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

YARN = RopeSpec("yarn", 2.0)
K4V4 = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))


@pytest.fixture
def there(tiny):
    """`there()` -> a tiny model on `meta:0`, to be called inside `placed()`."""

    def build(**options):
        loaded = tiny(**options)
        put(loaded.model, ONE)
        loaded.device = ONE
        return loaded

    return build


def test_the_machine_refuses_what_a_gpu_refuses():
    with placed() as machine:
        x, y = torch.arange(6.0, device=ONE), torch.ones(6, device=TWO)
        for wrong in (lambda: x + y, lambda: x + torch.ones(6), lambda: torch.ones(6)[x.long()]):
            with pytest.raises(RuntimeError, match="tensors on"):
                wrong()
        assert (x[torch.tensor([1, 2])] * 2).cpu().tolist() == [2.0, 4.0]
        assert (x.to(TWO) + y + torch.tensor(1.0)).device == TWO
        z = torch.zeros(3, 2, device=ONE)
        z[:, 1] = x[:3]
        z += 1
        assert z.cpu().tolist() == [[1, 1], [1, 2], [1, 3]]
        held = torch.nn.Parameter(Placed(torch.ones(2), ONE), requires_grad=False)
        held.data = torch.full((2,), 5.0, device=ONE)
        assert (held + 0).cpu().tolist() == [5.0, 5.0]
    assert not machine.waits  # none of these lines is the core's


def test_measuring_waits_once_a_window_however_many_chunks(tiny, there, ids):
    text = ids(2, 96)
    expected = measure(tiny(), Condition(YARN, K4V4), text, 90, chunk=32).nll
    for chunk in (32, 8):
        with placed() as machine:
            found = measure(there(), Condition(YARN, K4V4), text, 90, chunk=chunk).nll
        assert torch.allclose(found, expected, atol=2e-5)
        assert sum(machine.waits.values()) == 1, machine.waits
