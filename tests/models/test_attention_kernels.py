"""CUDA's fused kernels without a GPU: the join by stand-ins of their exact signature, shapes by torch's own rules."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from qroar_core.maths.softmax_rule import USUAL_SOFTMAX, SoftmaxRule
from qroar_core.models import attention_kernels
from qroar_core.models.attention import causal_block, rows_at_once
from qroar_core.models.attention_kernels import KERNELS, joined, kernel_for
from qroar_core.models.condition import Condition
from qroar_core.models.window_losses import measure
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from tests.models.placed import ONE, placed, put

FLASH, EFFICIENT = "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"
CPU, CUDA_FLASH, CUDA_EFFICIENT = KERNELS[0], KERNELS[1], KERNELS[2]


def stand_in(name):
    """The operator `name` in the arithmetic of its arguments, its outputs as many and as large as torch says."""
    op = getattr(torch.ops.aten, name).default

    def kernel(*args, **kwargs):
        given = dict(zip([a.name for a in op._schema.arguments if not a.kwarg_only], args, strict=False)) | kwargs
        assert set(given) <= {a.name for a in op._schema.arguments}
        q, k, v = (given[x] for x in ("query", "key", "value"))
        assert q.shape[:2] == k.shape[:2] == v.shape[:2]
        assert given.get("attn_bias") is None
        assert not given.get("dropout_p")
        assert given.get("compute_log_sumexp", True) is True
        logits = given["scale"] * q @ k.mT
        if given.get("is_causal"):
            assert q.shape[2] == k.shape[2]  # else flash aligns at the last key, and the efficient one at the first
            logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
        as_torch_says = op(*(x.to("meta") if isinstance(x, torch.Tensor) else x for x in args), **kwargs)
        lse = torch.full(as_torch_says[1].shape, torch.inf, dtype=q.dtype)
        lse[..., : q.shape[2]] = logits.logsumexp(-1)
        out = logits.softmax(-1) @ v
        assert out.shape == as_torch_says[0].shape
        return (out, lse, *as_torch_says[2:])

    return kernel


@pytest.fixture
def standing_in(monkeypatch):
    both = {name: stand_in(name) for name in (FLASH, EFFICIENT)}
    monkeypatch.setattr(attention_kernels, "ATEN", SimpleNamespace(**both))
    return both


def tensors(heads, kv, keys, width, value_width=None, batch=2, dtype=torch.float64):
    """q with a model's strides, and K and V as a cache of more tokens holds them."""
    draw = torch.Generator().manual_seed(heads + keys + width)
    q = torch.randn(batch, keys, heads, width, generator=draw, dtype=torch.float64).transpose(1, 2)
    k, v = torch.randn(2, batch, kv, keys + 9, width, generator=draw, dtype=torch.float64)
    return [x.to(dtype) for x in (q, k[:, :, :keys], v[:, :, :keys, :value_width])]


def whole(q, k, v, scale):
    k, v = (x.double().repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    logits = scale * q.double() @ k.mT
    return logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("kernel", KERNELS, ids=["cpu", "flash", "efficient"])
@pytest.mark.parametrize(("heads", "kv"), [(6, 2), (4, 4), (4, 1)], ids=["grouped", "each its own", "one for all"])
@pytest.mark.parametrize("first", [1, 20, 64])
def test_the_join_equals_attention_in_float64(request, kernel, heads, kv, first):
    if kernel is not CPU:
        request.getfixturevalue("standing_in")
    q, k, v = tensors(heads, kv, 70, 16)
    for stop in (first + 1, 70):
        got = joined(kernel, q[:, :, first:stop], k[:, :, :stop], v[:, :, :stop], first, 0.3)
        torch.testing.assert_close(got, whole(q, k, v, 0.3)[:, :, first:stop], rtol=0, atol=1e-12)


def test_values_narrower_than_keys_are_joined_by_the_efficient_kernel(standing_in):
    q, k, v = tensors(4, 2, 70, 24, 16)
    got = joined(CUDA_EFFICIENT, q[:, :, 30:], k, v, 30, 0.3)
    torch.testing.assert_close(got, whole(q, k, v, 0.3)[:, :, 30:], rtol=0, atol=1e-12)


def test_no_key_or_value_of_the_cache_is_copied():
    q, k, v = tensors(6, 2, 70, 16)
    seen = []

    def call(q, k, v, causal, scale):
        seen.extend((k, v))
        return CPU.call(q, k, v, causal, scale)

    joined(replace(CPU, call=call), q[:, :, 30:], k, v, 30, 0.3)
    assert [x.untyped_storage().data_ptr() for x in seen] == 4 * [k.untyped_storage().data_ptr()]


@pytest.mark.parametrize("width", [64, 96, 128, 256])
@pytest.mark.parametrize("kernel", [CUDA_FLASH, CUDA_EFFICIENT], ids=["flash", "efficient"])
@pytest.mark.parametrize(("heads", "kv"), [(8, 2), (4, 4)])
def test_torch_takes_the_arguments_for_a_gpu(kernel, width, heads, kv):
    """torch's own operators on tensors that say `cuda` and hold nothing: signature, shapes and types."""
    with FakeTensorMode():
        for dtype in kernel.dtypes:
            q = torch.empty(1, 512, heads, width, dtype=dtype, device="cuda").transpose(1, 2)
            k, v = torch.empty(2, 1, kv, 4096, width, dtype=dtype, device="cuda")
            assert replace(kernel, usable=None).takes(q, k, v)
            out = joined(kernel, q, k.narrow(2, 0, 3012), v.narrow(2, 0, 3012), 2500, 0.1)
            assert (out.shape, out.dtype, out.device) == (q.shape, dtype, q.device)
            heads_of = q.reshape(kv, heads // kv, 512, width)
            lse = kernel.call(heads_of, heads_of, heads_of, True, 0.1)[1]
            assert (lse.shape, lse.dtype) == (heads_of.shape[:3], torch.float32)


BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
ON_CUDA = [
    *((dtype, width, None, CUDA_FLASH) for dtype in (BF16, FP16) for width in (64, 96, 128, 256)),
    *((FP32, width, None, CUDA_EFFICIENT) for width in (64, 96, 100, 128, 256, 512)),
    (BF16, 320, None, CUDA_EFFICIENT),  # flash ends at 256
    (BF16, 192, 128, CUDA_EFFICIENT),  # values of another width, as DeepSeek's
    (BF16, 100, None, None),  # 200 bytes are no multiple of 16
    (FP32, 102, None, None),
    (FP64, 128, None, None),
]


@pytest.mark.parametrize(("dtype", "width", "value_width", "expected"), ON_CUDA)
def test_which_kernel_takes_what(monkeypatch, dtype, width, value_width, expected):
    free = {kernel: replace(kernel, usable=None) for kernel in KERNELS}
    monkeypatch.setattr(attention_kernels, "KERNELS", tuple(free.values()))
    with FakeTensorMode():
        q = torch.empty(1, 4, 32, width, dtype=dtype, device="cuda")
        k, v = torch.empty(2, 1, 2, 64, width, dtype=dtype, device="cuda")
        v = v.narrow(-1, 0, value_width or width)  # tensors of FakeTensorMode take no [...] where torch has no CUDA
        assert kernel_for(q, k, v) == free.get(expected)
        assert rows_at_once(q, k, v, 1 << 22, USUAL_SOFTMAX) == (1 if expected is None else 32)


def test_what_no_kernel_takes(monkeypatch):
    """Rows that begin off a multiple of 16 bytes, several types, a channel stride, and what torch says it cannot do."""
    with FakeTensorMode():
        q = torch.empty(1, 4, 32, 64, dtype=BF16, device="cuda")
        k = torch.empty(1, 2, 64, 65, dtype=BF16, device="cuda")
        across = torch.empty(1, 2, 64, 64, dtype=BF16, device="cuda").mT
        assert kernel_for(q, q, q) is None  # there is no GPU here, as torch itself says
        monkeypatch.setattr(attention_kernels, "KERNELS", tuple(replace(x, usable=None) for x in KERNELS))
        assert kernel_for(q, q, q) is not None
        off_by_8_bytes = q.as_strided((1, 4, 8, 64), (8192, 2048, 64, 1), 4)
        for other in (k.narrow(-1, 0, 64), off_by_8_bytes, across, q.float()):
            assert kernel_for(q, other, other) is None
        flash_off = (replace(CUDA_FLASH, usable=lambda params: False), replace(CUDA_EFFICIENT, usable=None))
        monkeypatch.setattr(attention_kernels, "KERNELS", flash_off)
        assert kernel_for(q, q, q) is flash_off[1]


@pytest.mark.parametrize("window", [1, 7, 4096])
def test_blocks_of_a_sliding_window_are_sized_by_what_they_see(window):
    q, k = torch.empty(1, 8, 512, 64, device="meta"), torch.empty(1, 2, 64, 64, device="meta")
    rows = rows_at_once(q, k, k, 131072, SoftmaxRule(window=window))
    most = (1 << 22) // 4
    assert rows * (rows + window - 1) <= most < (rows + 1) * (rows + window)
    assert rows_at_once(q, k, k, 16, SoftmaxRule(window=window)) >= most // 16
    assert rows_at_once(q.new_empty(q.shape, device="cpu"), k, k, 131072, SoftmaxRule(window=window)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", [FLASH, EFFICIENT])
def test_a_model_on_a_device_goes_through_the_kernel(tiny, ids, monkeypatch, name):
    """Chunks, quantizers in blocks and grouped queries, by the code that a GPU runs; the kernel alone is another's."""
    kernel, quant = (
        {FLASH: CUDA_FLASH, EFFICIENT: CUDA_EFFICIENT}[name],
        QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4)),
    )
    condition, text, options = Condition(RopeSpec("yarn", 2.0), quant), ids(2, 60), {"dtype": torch.float64}
    expected = measure(tiny(**options), condition, text, 50, chunk=16).nll
    there = replace(kernel, device="meta", dtypes=(FP64,), usable=None)
    monkeypatch.setattr(attention_kernels, "KERNELS", (there,))
    called = []
    with placed() as machine:
        loaded = tiny(**options)
        put(loaded.model, ONE)
        loaded.device = ONE
        machine.stand_ins[f"aten.{name}.default"] = lambda *a, **b: called.append(a) or stand_in(name)(*a, **b)
        found = measure(loaded, condition, text, 50, chunk=16).nll
    assert len(called) == loaded.geometry.n_layers * 3 * 2  # chunks behind the first, and two parts each
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_gradient_takes_no_join():
    """`causal_block` of a whole sequence is torch's own attention, which has one."""
    q, k, v = (x.requires_grad_() for x in tensors(4, 2, 20, 16))
    causal_block(q, k, v, 0, 0.3, USUAL_SOFTMAX).sum().backward()
    assert q.grad is not None
    assert bool((q.grad != 0).any())
