"""Cache quantizers against oracles that share no code with them.

A search over listed levels in Python floats; gguf's own quantize and dequantize, bit for bit; the 256
codes of a float8 decoded by hand; optimum-quanto where installed; finite differences for gradients.
"""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as GGML
from hypothesis import given, settings
from hypothesis import strategies as st

from qroar_core.errors import BadSpec
from qroar_core.quantizers.fake_quantize import calibrated_coordinates, fake_quantize, fake_quantize_ste
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.specs import QuantizerSpec as Spec

EVERY = {
    "int4-token": Spec(4),
    "int8-token": Spec(8),
    "int2-token": Spec(2),
    "int4-token-fp16": Spec(4, scale_dtype="float16"),
    "int4-token-hadamard": Spec(4, rotation="hadamard"),
    "int4-block": Spec(4, scale="block", group_size=32),
    "int4-block-interleaved": Spec(4, scale="block", group_size=32, channel_order="interleaved"),
    "int4-channel": Spec(4, scale="channel", group_size=16),
    "int4-tensor": Spec(4, scale="tensor", static_scale=0.4),
    "affine4-token": Spec(4, levels="affine"),
    "e4m3-token": Spec(8, levels="e4m3"),
    "e5m2-token": Spec(8, levels="e5m2"),
    "q8_0": KV_PRESETS["q8_0"].k,
    "q4_0": KV_PRESETS["q4_0"].k,
    "q4_0-v": KV_PRESETS["q4_0"].v,
    "q4_0-norot": KV_PRESETS["q4_0-norot"].k,
    "mlx4": KV_PRESETS["mlx4"].k,
    "quanto4": KV_PRESETS["quanto4"].k,
    "fp8": KV_PRESETS["fp8"].k,
    "kivi2-k": KV_PRESETS["kivi2"].k,
    "kivi2-v": KV_PRESETS["kivi2"].v,
    "turboquant-v": KV_PRESETS["turboquant_3bit_nc"].v,
    **{
        name: KV_PRESETS[name].k
        for name in (
            *("q4_1", "iq4_nl", "bf16", "int8_per_token_head", "turboquant_4bit_nc", "exl3", "hqq3"),
            *("nvfp4", "mxfp4", "sglang_fp4"),
        )
    },
}
UNSETTLED = {  # a second pass finds another range, or an optimum of what the first one left
    *("mlx_affine", "iq4_nl", "lloyd_max", "midpoints", "hqq"),
}
every = pytest.mark.parametrize("spec", EVERY.values(), ids=EVERY)


def keys(heads=2, tokens=32, head_dim=64, seed=0, dtype=torch.float32):
    """Keys with outlier channels, an offset and one all-zero token."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(heads, tokens, head_dim, generator=gen, dtype=torch.float64)
    x[..., 3] *= 8
    x[..., 20] += 5
    x[0, 5] = 0
    return x.to(dtype)


def nearest(values, levels):
    return [min(levels, key=lambda level: abs(level - v)) for v in values]


def symmetric_levels(values, bits):
    qmax = 2 ** (bits - 1) - 1
    step = max(abs(v) for v in values) / qmax
    return [q * step for q in range(-qmax, qmax + 1)]


def affine_levels(values, bits):
    lo, hi, n = min(values), max(values), 2**bits - 1
    return [lo + (hi - lo) * q / n for q in range(n + 1)]


# --- levels and scale axes, by search ---------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("levels", "listed"), [("absmax", symmetric_levels), ("affine", affine_levels)])
@pytest.mark.parametrize(("scale", "group"), [("token", None), ("block", 16), ("channel", 8)])
def test_nearest_level_of_the_set_that_shares_a_scale(bits, levels, listed, scale, group):
    x = keys(2, 20, 32, seed=1, dtype=torch.float64) if bits < 8 else keys(1, 8, 32, 1, torch.float64)
    got = fake_quantize(x, Spec(bits, scale=scale, levels=levels, group_size=group))
    expected = x.clone()
    heads, tokens, head_dim = x.shape
    for h in range(heads):
        if scale == "channel":
            whole = tokens - tokens % group  # the tokens of the open group stay as they are
            sets = [(h, slice(t, t + group), c) for t in range(0, whole, group) for c in range(head_dim)]
        else:
            width = group or head_dim
            sets = [(h, t, slice(c, c + width)) for t in range(tokens) for c in range(0, head_dim, width)]
        for at in sets:
            values = x[at].tolist()
            expected[at] = torch.tensor(nearest(values, listed(values, bits)), dtype=torch.float64)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)
    if scale == "channel" and tokens % group:
        assert torch.equal(got[:, whole:], x[:, whole:])


@pytest.mark.parametrize("given_as", ["absmax", "static_scale"])
def test_tensor_scale_is_static_and_clamps(given_as):
    x = torch.linspace(-3, 3.1, 64, dtype=torch.float64).view(1, 1, 64)
    levels = [q * 2.0 / 7 for q in range(-7, 8)]
    if given_as == "absmax":
        got = fake_quantize(x, Spec(4, scale="tensor"), absmax=torch.tensor(2.0))
    else:
        got = fake_quantize(x, Spec(4, scale="tensor", static_scale=2.0 / 7))
    assert torch.allclose(got, torch.tensor(nearest(x.flatten().tolist(), levels), dtype=x.dtype).view_as(x))
    per_head = fake_quantize(x.expand(2, 1, 64), Spec(4, scale="tensor"), absmax=torch.tensor([[[2.0]], [[0.1]]]))
    assert torch.allclose(per_head[0], got[0])
    assert per_head[1].abs().max().item() == pytest.approx(0.1)


# --- llama.cpp, bit for bit ------------------------------------------------------------------------


def by_gguf(x: torch.Tensor, qtype: GGML) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1]).numpy()
    back = gguf.quants.dequantize(gguf.quants.quantize(rows, qtype), qtype)
    return torch.from_numpy(np.ascontiguousarray(back)).view_as(x)


def interleave(x):
    order = [i for pair in range(x.shape[-1] // 2) for i in (pair, pair + x.shape[-1] // 2)]
    return x[..., order], order


GGUF_TYPES = [("q8_0-norot", GGML.Q8_0), ("q4_0-norot", GGML.Q4_0)]


@pytest.mark.parametrize("scale", [1.0, 1e-4, 3e3, 1e-9])
@pytest.mark.parametrize("integers", [False, True], ids=["real", "integer"])
@pytest.mark.parametrize(("preset", "qtype"), [*GGUF_TYPES, ("q5_0", GGML.Q5_0)])
def test_ggml_blocks_are_bit_equal_with_gguf(preset, qtype, integers, scale):
    if preset == "q5_0":
        spec = Spec(5, scale="block", levels="ggml_signed", group_size=32, scale_dtype="float16")
    else:
        spec = KV_PRESETS[preset].v
    x = keys(3, 41, 96, seed=2)
    x = (x * 3).round() if integers else x * scale  # integers: many ties, and +-extremes in one block
    assert torch.equal(fake_quantize(x, spec), by_gguf(x, qtype))


def test_q8_0_rounds_ties_away_from_zero_as_roundf():
    """absmax 254 makes d = 2: every odd integer is a tie, and half of them differ from round-to-even."""
    x = torch.arange(-127.0, 129.0).view(1, 8, 32)
    x[..., 0] = 254.0
    got = fake_quantize(x, KV_PRESETS["q8_0-norot"].v)
    assert torch.equal(got, by_gguf(x, GGML.Q8_0))
    assert got[0, 7, 2].item() == 100.0  # 99 / 2 = 49.5 -> 50
    assert got[0, 4, 2].item() == 4.0  # 3 / 2 = 1.5 -> 2
    assert got[0, 4, 4].item() == 6.0  # 5 / 2 = 2.5 -> 3, where round-to-even gives 2


@pytest.mark.parametrize(("preset", "qtype"), GGUF_TYPES)
def test_k_blocks_are_cut_in_llama_cpps_channel_order(preset, qtype):
    x = keys(2, 9, 64, seed=3)
    reordered, order = interleave(x)
    expected = torch.empty_like(x)
    expected[..., order] = by_gguf(reordered, qtype)
    got = fake_quantize(x, KV_PRESETS[preset].k)
    assert torch.equal(got, expected)
    assert not torch.equal(got, by_gguf(x, qtype))  # the model's own order is another quantizer


@pytest.mark.parametrize("head_dim", [64, 96, 128, 192])
@pytest.mark.parametrize("tensor", ["k", "v"])
def test_q4_0_rotates_as_pull_request_21038(head_dim, tensor):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    x = keys(2, 7, head_dim, seed=4)
    y, order = interleave(x) if tensor == "k" else (x, list(range(head_dim)))
    width = 1 if head_dim % 64 else 64 if tensor == "v" else head_dim & -head_dim
    one = scipy_linalg.hadamard(width) / width**0.5
    h = torch.from_numpy(scipy_linalg.block_diag(*[one] * (head_dim // width))).float()
    stored = by_gguf((y @ h).contiguous(), GGML.Q4_0)
    expected = torch.empty_like(x)
    expected[..., order] = stored @ h
    got = fake_quantize(x, getattr(KV_PRESETS["q4_0"], tensor))
    assert torch.allclose(got, expected, atol=2e-5)


# --- float8 ------------------------------------------------------------------------------------------


def float8_values(exponent_bits: int, mantissa_bits: int, top: float) -> list[float]:
    """Every finite number of a float8, from the definition of its bits."""
    bias = 2 ** (exponent_bits - 1) - 1
    values = []
    for exponent in range(2**exponent_bits):
        for mantissa in range(2**mantissa_bits):
            fraction = mantissa / 2**mantissa_bits
            number = (1 + fraction) * 2.0 ** (exponent - bias) if exponent else fraction * 2.0 ** (1 - bias)
            values += [number, -number] if number <= top else []
    return sorted(set(values))


@pytest.mark.parametrize(
    ("levels", "numbers"), [("e4m3", float8_values(4, 3, 448.0)), ("e5m2", float8_values(5, 2, 57344.0))]
)
def test_float8_takes_the_nearest_of_its_256_codes_and_saturates(levels, numbers):
    gen = torch.Generator().manual_seed(5)
    x = torch.randn(1, 8, 32, generator=gen) * torch.logspace(-4, 3, 8)[:, None]
    x[0, 0, 0], x[0, 0, 1] = 1e6, -1e6
    got = fake_quantize(x, Spec(8, scale="tensor", levels=levels, static_scale=1.0))
    assert got.flatten().tolist() == nearest(x.flatten().tolist(), numbers)
    assert got[0, 0, 0].item() == max(numbers)
    per_token = fake_quantize(x[:, 1:], Spec(8, levels=levels))
    peak = x[:, 1:].abs().amax(-1)
    assert torch.allclose(per_token.abs().amax(-1), peak, rtol=1e-6)  # the extreme is the largest code


def test_fp8_preset_is_torchs_cast_inside_its_range():
    x = keys(seed=6) * 20
    assert torch.equal(fake_quantize(x, KV_PRESETS["fp8"].k), x.to(torch.float8_e4m3fn).float())


# --- MLX, quanto, KIVI --------------------------------------------------------------------------------


def mlx_quantize(values: list[float], bits: int) -> list[float]:
    """mlx/backend/cpu/quantized.cpp, quantize(), one group, in Python floats."""
    n = 2**bits - 1
    lo, hi = min(values), max(values)
    positive = abs(lo) > abs(hi)
    step = max((hi - lo) / n, 1e-7) * (1 if positive else -1)
    edge, bias = (lo if positive else hi), 0.0
    if round(edge / step) != 0:
        step, bias = edge / round(edge / step), edge
    return [step * min(max(round((v - bias) / step), 0), n) + bias for v in values]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mlx_affine_is_mlx(bits):
    x = keys(2, 16, 128, seed=7, dtype=torch.float64)
    got = fake_quantize(x, Spec(bits, scale="block", levels="mlx_affine", group_size=64))
    groups = x.reshape(-1, 64).tolist()
    expected = torch.tensor([mlx_quantize(g, bits) for g in groups], dtype=torch.float64).view_as(x)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)
    edge = x.reshape(-1, 64).gather(1, x.reshape(-1, 64).abs().argmax(1, keepdim=True))
    assert torch.allclose(got.reshape(-1, 64).gather(1, x.reshape(-1, 64).abs().argmax(1, keepdim=True)), edge)


@pytest.mark.parametrize(("head_dim", "bits"), [(64, 4), (128, 4), (128, 2)])
def test_quanto_is_optimum_quanto_on_a_batch_of_one(head_dim, bits):
    """Its optimizer, grouping and quantize op; not its packed tensor, which compiles C++ on first use."""
    quanto = pytest.importorskip("optimum.quanto")
    from optimum.quanto.tensor import ungroup

    x = keys(2, 32, head_dim, seed=8)
    x[0, 5] = 1.0 / 3 + torch.arange(head_dim) % 2  # quanto divides 0 by 0 on a constant set
    scale, shift = quanto.MaxOptimizer()(x[None], {4: quanto.qint4, 2: quanto.qint2}[bits], 0, 64)
    codes = torch.ops.quanto.quantize_affine(x[None], bits, 0, 64, scale, shift)
    expected = ungroup(scale * codes - shift, 0, x[None].shape)[0]
    assert torch.allclose(fake_quantize(x, KV_PRESETS[f"quanto{bits}"].k), expected, atol=1e-5)


def test_kivi_rounds_k_along_tokens_and_v_along_channels():
    x = keys(1, 64, 64, seed=9, dtype=torch.float64)
    got_k, got_v = (fake_quantize(x, s) for s in (KV_PRESETS["kivi2"].k, KV_PRESETS["kivi2"].v))
    assert all(len(set(got_k[0, 32:64, c].tolist())) <= 4 for c in range(64))
    assert all(len(set(got_v[0, t, 32:64].tolist())) <= 4 for t in range(64))
    assert len(set(got_k[0, 40].tolist())) > 4
    column = x[0, :32, 3].tolist()
    assert np.allclose(got_k[0, :32, 3], nearest(column, affine_levels(column, 2)), rtol=1e-12)


# --- properties every quantizer has --------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_zero_stays_zero_and_nothing_is_nan(spec, dtype):
    zero = torch.zeros(2, 32, 64, dtype=dtype)
    assert torch.equal(fake_quantize(zero, spec), zero)
    x = keys(dtype=dtype)
    before = x.clone()
    got = fake_quantize(x, spec)
    assert got.dtype == dtype
    assert got.shape == x.shape
    assert torch.isfinite(got).all()
    assert torch.equal(x, before)  # not written to
    if spec.scale != "channel":
        assert torch.equal(got[0, 5], zero[0, 5])
    tiny = x.double().mul(1e-42).to(dtype)  # steps below the normal range
    assert torch.isfinite(fake_quantize(tiny, spec)).all()


@every
def test_idempotent(spec):
    """Levels are fixed points. The rounded set keeps its extremes, so its grid is the same again.

    Not MLX's: moving zero onto the grid stretches or cuts the far end, and a second pass finds another range.
    """
    if spec.levels in UNSETTLED:
        pytest.skip(f"{spec.levels} is not idempotent")
    x = keys(seed=10, dtype=torch.float64)
    if spec.scale_dtype == "float16":  # the stored step is not the one the codes came from
        x = fake_quantize(x, spec)
    once = fake_quantize(x, spec)
    tolerance = 2e-3 * x.abs().amax().item() if spec.scale_dtype == "float16" else 1e-9
    assert torch.allclose(fake_quantize(once, spec), once, atol=tolerance, rtol=0)


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=16, max_size=16),
    bits=st.integers(2, 8),
    levels=st.sampled_from(["absmax", "affine", "ggml_absmax"]),
)
def test_error_is_at_most_half_a_step(values, bits, levels):
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 16)
    got = fake_quantize(x, Spec(bits, levels=levels))
    span = (x.max() - x.min()) / (2**bits - 1) if levels == "affine" else x.abs().max() / (2 ** (bits - 1) - 1)
    assert ((got - x).abs() <= span / 2 * (1 + 1e-9) + 1e-300).all()


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(3, 8),
    data=st.data(),
    rotation=st.sampled_from(["none", "hadamard"]),
    power=st.integers(-8, 8),
)
def test_representable_numbers_come_back_bit_equal(bits, data, rotation, power):
    qmax = 2 ** (bits - 1) - 1
    codes = data.draw(st.lists(st.integers(-qmax, qmax), min_size=16, max_size=16))
    codes[data.draw(st.integers(0, 15))] = qmax
    x = torch.tensor(codes).float().view(1, 1, 16) * 2.0**power
    if rotation == "hadamard":  # H_16 has entries +-1/4: the rotated integers are exact in float32
        spec = Spec(bits, rotation="hadamard")
        signs = torch.tensor([[(-1.0) ** bin(i & j).count("1") for j in range(16)] for i in range(16)])
        x = x @ signs / 4
    else:
        spec = Spec(bits)
    assert torch.equal(fake_quantize(x, spec), x)


def test_codes_come_from_the_stored_scale_in_the_generic_levels_only():
    """fp16 steps: `absmax` rounds by the stored step (error <= half of it), ggml by the exact one."""
    x = keys(4, 64, 64, seed=11)
    stored = (x.abs().amax(-1, keepdim=True) / 127).half().float()
    generic = fake_quantize(x, Spec(8, scale_dtype="float16"))
    assert ((generic - x).abs() <= stored * 0.5001 + 1e-12).all()
    ggml = fake_quantize(x, Spec(8, levels="ggml_absmax", scale_dtype="float16"))
    assert not torch.equal(generic, ggml)


def test_scale_dtype_input_follows_the_tensor():
    x = keys(seed=12).to(torch.bfloat16)
    as_input, as_named = (fake_quantize(x, Spec(4, levels="affine", scale_dtype=d)) for d in ("input", "bfloat16"))
    assert torch.equal(as_input, as_named)
    wide = x.float()
    assert torch.equal(
        fake_quantize(wide, Spec(4, levels="affine", scale_dtype="input")),
        fake_quantize(wide, Spec(4, levels="affine")),
    )
    assert not torch.equal(fake_quantize(wide, Spec(4, scale_dtype="bfloat16")), fake_quantize(wide, Spec(4)))


def test_rotation_lowers_the_error_that_one_outlier_channel_causes():
    x = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(13))
    x[..., 9] = 30.0
    plain, rotated = ((fake_quantize(x, s) - x).square().mean() for s in (Spec(4), Spec(4, rotation="hadamard")))
    assert rotated < plain / 4


# --- refusals -------------------------------------------------------------------------------------------


def test_refusals_say_what_to_do():
    x = keys(1, 8, 48)
    with pytest.raises(BadSpec, match="blocks of 32 channels do not divide head_dim 48; choose"):
        fake_quantize(x, KV_PRESETS["q4_0"].v)
    with pytest.raises(BadSpec, match="calibrate it"):
        fake_quantize(x, Spec(8, scale="tensor"))
    with pytest.raises(BadSpec, match="goes with scale tensor"):
        fake_quantize(x, Spec(8), absmax=torch.tensor(1.0))
    with pytest.raises(BadSpec, match="odd"):
        fake_quantize(torch.ones(1, 1, 5), Spec(8, channel_order="interleaved"))
    with pytest.raises(BadSpec, match="takes its scale from each block"):
        Spec(4, scale="tensor", levels="ggml_signed")
    with pytest.raises(BadSpec, match="power of two"):
        Spec(4, rotation="hadamard", rotation_block=48)
    with pytest.raises(BadSpec, match="static_scale goes with"):
        Spec(4, static_scale=1.0)


def test_empty_and_short_inputs():
    assert fake_quantize(torch.zeros(2, 0, 64), Spec(4)).shape == (2, 0, 64)
    assert fake_quantize_ste(torch.zeros(2, 0, 64, requires_grad=True), Spec(4)).shape == (2, 0, 64)
    x = keys(1, 7, 64)
    assert torch.equal(fake_quantize(x, KV_PRESETS["kivi2"].k), x)  # no group of 32 tokens is complete


# --- straight-through gradient ----------------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_ste_forward_is_fake_quantize(spec, dtype):
    x = keys(seed=14, dtype=dtype)
    got = fake_quantize_ste(x.clone().requires_grad_(), spec)
    assert got.requires_grad
    assert torch.equal(got.detach(), fake_quantize(x, spec))


@every
def test_ste_gradient_is_finite_even_for_zero_tokens(spec):
    x = keys(seed=14).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(15))
    (grad,) = torch.autograd.grad((fake_quantize_ste(x, spec) * weights).sum(), x)
    assert torch.isfinite(grad).all()


def grid_of(values: torch.Tensor, levels: str, bits: int):
    """Oracle for one set (n,): step, zero, and the lowest and highest code."""
    if levels == "affine":
        return (values.max() - values.min()) / (2**bits - 1), values.min(), 0, 2**bits - 1
    if levels == "ggml_signed":
        half = 2 ** (bits - 1)
        return values[values.abs().argmax()] / -half, values.new_zeros(()), -half, half - 1
    qmax = 2 ** (bits - 1) - 1
    return values.abs().max() / qmax, values.new_zeros(()), -qmax, qmax


def surrogate(x: torch.Tensor, at: torch.Tensor, levels: str, bits: int) -> torch.Tensor:
    """The smooth function whose derivative the straight-through rule is: codes frozen as they are `at`."""
    out = torch.empty_like(x)
    for row, frozen, put in zip(x, at, out, strict=True):
        step, zero, low, high = grid_of(frozen, levels, bits)
        u = (frozen - zero) / step
        code = (torch.floor(u + 0.5) if levels == "ggml_signed" else torch.round(u)).clamp(low, high)
        inside = (u >= low - 0.5) & (u <= high + 0.5)
        step, zero, _, _ = grid_of(row, levels, bits)
        put[:] = torch.where(inside, row + step * (code - u), zero + step * code)
    return out


@pytest.mark.parametrize("levels", ["absmax", "affine", "ggml_signed"])
@pytest.mark.parametrize("bits", [2, 4])
def test_ste_gradient_against_finite_differences(levels, bits):
    gen = torch.Generator().manual_seed(16)
    x, w = (torch.randn(3, 16, generator=gen, dtype=torch.float64) for _ in range(2))
    spec = Spec(bits, levels=levels)
    leaf = x.clone().requires_grad_()
    (got,) = torch.autograd.grad((fake_quantize_ste(leaf, spec) * w).sum(), leaf)
    expected = torch.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            nudge = torch.zeros_like(x)
            nudge[i, j] = 1e-5
            up, down = (surrogate(x + s * nudge, x, levels, bits) for s in (1, -1))
            expected[i, j] = ((up - down) * w).sum() / 2e-5
    assert torch.allclose(got, expected, atol=1e-8)
    assert not torch.allclose(got, w, atol=1e-4)  # identity alone misses the step's part


@pytest.mark.parametrize(
    "name",
    ["int4-block-interleaved", "int4-token-hadamard", "int4-channel", "q4_0", "q4_0-v", "kivi2-k", "mlx4"],
)
def test_ste_gradient_obeys_eulers_rule_through_every_reordering(name):
    """Along x itself, x -> (1 + t) x, every grid scales with x and so does x^: d/dt sum(w x^) = sum(w x^).

    Identity alone would give sum(w x): only the step's part makes up the difference.
    """
    x = keys(seed=17, dtype=torch.float64)
    x[0, 5] = 1.5
    spec = EVERY[name]
    w = torch.randn(x.shape, generator=torch.Generator().manual_seed(18), dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    rounded = fake_quantize_ste(leaf, spec)
    (grad,) = torch.autograd.grad((rounded * w).sum(), leaf)
    # fp16 storage makes the stored step differ from the one differentiated by 2^-11
    tolerance = 1e-2 if spec.scale_dtype == "float16" else 1e-9
    assert (grad * x).sum().item() == pytest.approx((rounded * w).sum().item(), rel=tolerance)


def test_ste_outside_a_static_range_passes_no_gradient():
    x = torch.tensor([[-3.0, -1.0, 0.4, 1.07, 1.2]], requires_grad=True)
    for spec in (
        Spec(4, scale="tensor", static_scale=1 / 7),
        Spec(8, "tensor", "e4m3", static_scale=1 / 448),
    ):
        (grad,) = torch.autograd.grad(fake_quantize_ste(x, spec).sum(), x)
        inside = x.detach().abs() <= (1 + 0.5 / 7 if spec.bits == 4 else 1)
        assert torch.equal(grad, inside.float())


def test_ste_without_a_gradient_to_take_is_the_plain_path():
    x = keys(seed=19)
    assert not fake_quantize_ste(x, Spec(4)).requires_grad
    with torch.no_grad():
        assert torch.equal(fake_quantize_ste(x.clone().requires_grad_(), Spec(4)), fake_quantize(x, Spec(4)))


def test_calibrated_coordinates_are_the_rounded_axes():
    """A static absmax measured on them clips nothing, under a rotation too."""
    x = keys(seed=20, dtype=torch.float64)
    spec = Spec(8, scale="tensor", rotation="hadamard")
    absmax = calibrated_coordinates(x, spec).abs().amax()
    got = fake_quantize(x, spec, absmax=absmax)
    error = (calibrated_coordinates(got, spec) - calibrated_coordinates(x, spec)).abs().max()
    assert error <= absmax / 127 / 2 * (1 + 1e-9)
