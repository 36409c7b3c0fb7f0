"""The verdict against what really happens to a quantized pair of logits when scales change."""

import pytest
import torch

from qroar_core.quantizers.applicability import verdict
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.specs import QuantizerSpec, QuantSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales, channel_gains, turned

D, BANDS4 = 64, tuple((8 * b, 8 * b + 7) for b in range(4))
SHAPE = {"head_dim": D, "rotary_dim": D, "pairing": "half"}


def asked(quant, mode="symmetric", bands=BANDS4):
    return verdict(quant, mode, bands=bands, **SHAPE).acts


def cache_moves(spec, bands=BANDS4):
    """Largest change of float64 logits under the quantizer when powers of two scale the bands."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 256, D, generator=generator, dtype=torch.float64) for _ in range(2))
    g = torch.tensor([0.25, 1.0, 4.0, 2.0][: len(bands)], dtype=torch.float64).reshape(1, 1, -1)
    up, down = channel_gains(Scales("symmetric", "kv_head", bands, g), D, D, "half", 1)
    absmax = k.abs().max() if spec.needs_calibration else None
    small = (k * down[0][:, None]).abs().max() if spec.needs_calibration else None
    plain = q @ fake_quantize(k, spec, absmax=absmax).mT
    scaled = (q * up[0][:, None]) @ fake_quantize(k * down[0][:, None], spec, absmax=small).mT
    return float((plain - scaled).abs().max())


@pytest.mark.parametrize(
    ("spec", "acts"),
    [
        (QuantizerSpec(4), "yes"),
        (QuantizerSpec(4, scale="tensor"), "yes"),
        (QuantizerSpec(4, rotation="hadamard"), "yes"),
        (QuantizerSpec(4, scale="channel", group_size=32), "no"),
        (QuantizerSpec(4, scale="block", group_size=32), "yes"),
        (QuantizerSpec(4, scale="block", group_size=16, channel_order="interleaved"), "no"),
    ],
    ids=["token", "tensor", "rotated", "channel", "block", "block-inside-band"],
)
def test_the_verdict_on_k_is_what_the_logits_do(spec, acts):
    assert asked(QuantSpec(k=spec)) == acts
    moved = cache_moves(spec)
    assert moved > 0.1 if acts == "yes" else moved < 1e-12


def test_one_band_over_the_whole_head_cannot_act():
    one = ((0, 31),)
    assert asked(QuantSpec(k=QuantizerSpec(4)), bands=one) == "no"
    assert cache_moves(QuantizerSpec(4), bands=one) < 1e-12


@pytest.mark.parametrize(("scale", "acts"), [("tensor", "yes"), ("channel", "no"), ("group", "no")])
def test_the_verdict_on_weights_is_row_equivariance(scale, acts):
    spec = WeightQuantSpec(4, scale, group_size=16)
    assert asked(QuantSpec(weights=spec)) == acts
    w = torch.randn(D, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    g = torch.linspace(0.5, 2, D, dtype=torch.float64)[:, None]
    moved = float((fake_quantize_weight(g * w, spec) - g * fake_quantize_weight(w, spec)).abs().max())
    assert moved > 0.05 if acts == "yes" else moved < 1e-12


def test_shared_scales_are_a_temperature_where_symmetric_is_a_no_op():
    assert asked(QuantSpec(weights=WeightQuantSpec(4)), "shared") == "temperature"
    assert asked(QuantSpec(k=QuantizerSpec(4)), "shared") == "yes"


def test_v_alone_and_nothing_at_all_say_so():
    nothing = verdict(QuantSpec(), "symmetric", bands=BANDS4, **SHAPE)
    only_v = verdict(QuantSpec(v=QuantizerSpec(4)), "symmetric", bands=BANDS4, **SHAPE)
    assert (nothing.acts, only_v.acts) == ("no", "no")
    assert "nothing is quantized" in nothing.reason
    assert "never touch V" in only_v.reason


@pytest.mark.parametrize(
    ("preset", "acts"),
    [("q4_0", "yes"), ("q4_0-norot", "yes"), ("mlx4", "yes"), ("quanto4", "yes"), ("kivi2", "no"), ("fp8", "yes")],
)
def test_presets(preset, acts):
    assert asked(QuantSpec(k=KV_PRESETS[preset].k)) == acts


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_a_latent_cache_leaves_nothing_to_act_on(mode):
    """MLA: whatever Diagnose and the search refuse is not promised before; weights and activations are as ever."""
    for quant in (
        QuantSpec(k=QuantizerSpec(4)),
        QuantSpec(v=QuantizerSpec(4)),
        QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(8)),
    ):
        said = verdict(quant, mode, bands=BANDS4, latent=True, **SHAPE)
        assert said.acts == "no"
        assert said.reason.startswith("Scales cannot act here: this model's cache holds a latent")
        assert verdict(quant, mode, bands=BANDS4, **SHAPE).acts != "no" or quant.k is None
    active = QuantSpec(qk=QuantizerSpec(8))
    assert verdict(active, mode, bands=BANDS4, latent=True, **SHAPE).acts == "yes"


@pytest.mark.parametrize(
    "spec", [QuantizerSpec(4, "channel", group_size=8), QuantizerSpec(4)], ids=["channel", "token"]
)
def test_angles_act_on_whatever_rounds_k(spec):
    """Oracle: q and k of each pair turned by one angle have the same logits, and other ones once k is rounded."""
    draw = torch.Generator().manual_seed(3)
    q, k = (torch.randn(2, 24, D, generator=draw, dtype=torch.float64) for _ in range(2))
    angles = torch.rand(2, D // 2, generator=draw, dtype=torch.float64)
    logits = [a @ b.mT for a, b in ((q, k), (turned(q, angles, "half"), turned(k, angles, "half")))]
    assert torch.allclose(*logits, atol=1e-12)
    rounded = [
        a @ fake_quantize(b, spec).mT for a, b in ((q, k), (turned(q, angles, "half"), turned(k, angles, "half")))
    ]
    assert (rounded[0] - rounded[1]).abs().max() > 0.1
    said = verdict(QuantSpec(k=spec), "symmetric", bands=BANDS4, **SHAPE, angles=True)
    assert said.acts == "yes"
    assert said.reason.endswith("Angles can act: the two channels of a turned pair have other ranges.") == (
        spec.scale == "channel"
    )


def test_angles_do_not_act_where_nothing_of_q_and_k_is_rounded():
    for quant in (QuantSpec(), QuantSpec(v=QuantizerSpec(4)), QuantSpec(weights=WeightQuantSpec(4))):
        assert verdict(quant, "symmetric", bands=BANDS4, **SHAPE, angles=True).acts == "no"
