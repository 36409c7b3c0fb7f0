"""The diagnosis on accelerators: the numbers of the CPU, sums beside their layers, and no wait before all is read."""

import math
from collections import Counter

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.maths.meters import accumulator_device, tally
from qroar_core.maths.positions import Sampled
from qroar_core.models import sensitivity
from qroar_core.models.condition import Condition
from qroar_core.models.device_map import spread
from qroar_core.models.key_range import key_absmax
from qroar_core.models.linear_inputs import linear_inputs
from qroar_core.quantizers.fake_quantize import fake_quantize, fake_quantize_ste
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from tests.models.families_table import CASES, loaded_of
from tests.models.placed import ONE, TWO, placed, put
from tests.models.small_specs import TEXT

pytestmark = pytest.mark.slow

YARN, INT4 = RopeSpec("yarn", 2.0), QuantizerSpec(4)
QUANTS = {
    "K int4": QuantSpec(k=INT4),
    "weights and K int4": QuantSpec(k=INT4, weights=WeightQuantSpec(4)),
    "q and k, calibrated": QuantSpec(qk=QuantizerSpec(8, "tensor")),
    "K before RoPE by channel, V": QuantSpec(k=QuantizerSpec(4, "channel", group_size=8, before_rope=True), v=INT4),
}


def placed_on(loaded, devices):
    """The model there, its layers shared out; called inside `placed()`."""
    if len(devices) == 1:
        put(loaded.model, devices[0])
    else:
        spread(loaded.model, devices)
    assert set(loaded.devices()) == set(devices)
    loaded.device = devices[0]
    return loaded


def diagnosed(loaded, quant, chunk):
    """The result's fields."""
    spec = DiagnosisSpec(
        length=64,
        short_length=8,
        paired_tokens=8,
        windows=2,
        eps=0.05,
        bands=BandSpec(2),
        chunk=chunk,
        position_bins=4,
        query_rows=6,
    )
    return diagnose.run(loaded, Setting(YARN, quant, diagnosis=spec), TEXT).model_dump(mode="json")


def differing(found, expected, at=""):
    """Where two results disagree; the seconds they took do not count."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), at
        return [d for k in expected if k != "seconds" for d in differing(found[k], expected[k], f"{at}/{k}")]
    if isinstance(expected, list):
        assert len(found) == len(expected), at
        return [d for i, pair in enumerate(zip(found, expected)) for d in differing(*pair, f"{at}/{i}")]
    if isinstance(expected, float) and isinstance(found, float):
        return [] if math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-7) else [(at, found, expected)]
    return [] if found == expected else [(at, found, expected)]


@pytest.fixture
def wide(tiny):
    """A float64 model: no rounding to a level hangs on the order of a sum."""
    return lambda: tiny(dtype=torch.float64)


@pytest.fixture
def before_assembly(monkeypatch):
    """`before_assembly(machine)` -> a list that gets a copy of the machine's waits when all passes are over."""

    def watch(machine):
        seen, assemble = [], diagnose.assemble

        def noting(*args):
            seen.append(Counter(machine.waits))
            return assemble(*args)

        monkeypatch.setattr(diagnose, "assemble", noting)
        return seen

    return watch


@pytest.mark.parametrize("name", QUANTS)
def test_the_diagnosis_of_layers_on_two_devices_is_that_of_the_cpu(wide, name):
    expected = diagnosed(wide(), QUANTS[name], 32)
    with placed():
        found = diagnosed(placed_on(wide(), [ONE, TWO]), QUANTS[name], 32)
    assert differing(found, expected) == []


@pytest.mark.parametrize("family", ["mistral, window", "gemma2", "gpt_oss", "smollm3"])
def test_so_is_that_of_windows_caps_sinks_and_layers_without_rope(byte_tokenizer, tokenizer_folder, family):
    def build():
        return loaded_of(CASES[family], byte_tokenizer, tokenizer_folder)

    expected = diagnosed(build(), QUANTS["K int4"], 32)
    with placed():
        found = diagnosed(placed_on(build(), [ONE, TWO]), QUANTS["K int4"], 32)
    assert differing(found, expected) == []


@pytest.mark.parametrize("name", list(QUANTS)[:3])
def test_nothing_waits_before_all_is_read_whatever_the_chunks(wide, before_assembly, name):
    waits = []
    for chunk in (32, 8):
        with placed() as machine:
            passes = before_assembly(machine)
            diagnosed(placed_on(wide(), [ONE]), QUANTS[name], chunk)
        calibrating = {line: n for line, n in passes[0].items() if "scatter_gather.py" in line}
        assert sum(calibrating.values()) == (2 if QUANTS[name].qk else 0)  # the ranges of q and of k
        asking = {line: n for line, n in passes[0].items() if "finite.py" in line}  # was it finite? once a pass
        assert passes[0] == calibrating | asking
        assert sum(asking.values()) == (5 if QUANTS[name].qk else 4)  # runs, that of the calibration among them
        waits.append(machine.waits)
    assert waits[0] == waits[1]


def test_the_noise_of_long_rows_comes_to_the_host_once():
    """Many blocks of keys and of rows; a second update goes on where the first one was."""
    generator = torch.Generator().manual_seed(0)
    q, k, e = (torch.randn(4 // group, 200, 8, generator=generator) for group in (1, 2, 2))
    band, rows = torch.arange(8) // 4, torch.tensor([199, 3, 60, 61])

    def run(device, key_block):
        meter = LogitNoiseMeter(band, 200, 0.3)
        for some in (rows[:2], rows[2:]):
            there = [x.to(device) for x in (q[:, some], k, k + 0.1 * e)]
            meter.update(there[0], some, *there[1:], key_block=key_block)
        return meter

    expected = run("cpu", 200).result()
    with placed() as machine:
        meter = run(ONE, 7)
        assert not machine.waits
        found = meter.result()
    for name in ("position", "rms", "rms_by_band", "kl", "rms_by_distance", "band_rms_by_distance"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-8, equal_nan=True)


def test_a_tally_is_the_same_on_every_device():
    cell = torch.randint(0, 9, (500,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    weight = torch.rand(500, generator=torch.Generator().manual_seed(1))
    counts = [sum(1 for c in cell.tolist() if c == i) for i in range(12)]
    sums = [math.fsum(w for c, w in zip(cell.tolist(), weight.tolist()) if c == i) for i in range(12)]
    with placed() as machine:
        for device in ("cpu", ONE):
            found = tally(cell.to(device), 12), tally(cell.to(device), 12, weight.to(device))
            assert found[0].tolist() == counts
            assert found[1].tolist() == pytest.approx(sums, rel=1e-6)
        assert not machine.waits
    assert (accumulator_device(ONE), accumulator_device(torch.device("mps"))) == (ONE, torch.device("cpu"))


@pytest.mark.parametrize("absmax", [0.8, 9.0])
def test_a_static_scale_is_a_number_to_every_device(absmax):
    """Rounding, and its straight-through gradient inside the clamp and out of it."""
    spec, x = QuantizerSpec(4, "tensor"), torch.linspace(-1.5, 1.0, 24).view(3, 8)

    def run(device):
        leaf = x.to(device).requires_grad_(True)
        rounded = fake_quantize_ste(leaf, spec, absmax=torch.tensor(absmax))
        assert torch.equal(fake_quantize(leaf, spec, absmax=torch.tensor(absmax)).cpu(), rounded.detach().cpu())
        return rounded.detach(), torch.autograd.grad(rounded.square().sum(), leaf)[0]

    expected = run("cpu")
    with placed() as machine:
        found = run(ONE)
        assert not machine.waits
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


def test_sampled_positions_are_found_in_every_chunk():
    rows = Sampled(torch.tensor([0, 3, 4, 9]))
    with placed() as machine:
        found = [rows.index(a, b, ONE) for a, b in ((0, 4), (4, 9), (9, 12), (5, 9))]
        assert not machine.waits
        assert [x.tolist() for x in found] == [[0, 3], [0], [0], []]
    assert rows.listed[rows.inside(3, 9)] == [3, 4]


def test_ranges_of_k_and_inputs_of_linears_are_those_of_the_cpu(wide, ids):
    text = ids(2, 40)
    reach = key_absmax(wide(), YARN, text)
    inputs = list(linear_inputs(wide(), YARN, text, chunk=16))
    waits = []
    with placed() as machine:
        loaded = placed_on(wide(), [ONE, TWO])
        for chunk in (40, 8):
            machine.waits.clear()
            found = key_absmax(loaded, YARN, text, chunk=chunk)
            heard = list(linear_inputs(loaded, YARN, text, chunk=chunk))
            waits.append(sum(machine.waits.values()))
            assert torch.allclose(found, reach, rtol=1e-5)
            for a, b in zip(heard, inputs, strict=True):
                assert (a.weights, a.tokens) == (b.weights, b.tokens)
                for name in ("hessian", "mean_abs", "absmax"):
                    assert torch.allclose(getattr(a, name).cpu(), getattr(b, name))
    runs = 2 * len(text)  # a window each, for K's range and for the inputs; each asks once a device if all was finite
    assert waits == [2 + 2 * runs, 2 + 2 * runs]  # K's range, once a device


def test_the_sensitivity_of_a_placed_model_is_that_of_the_cpu(wide, ids, monkeypatch):
    monkeypatch.setattr(sensitivity, "_drawn", lambda p, generator: p.argmax(-1, keepdim=True))
    parts = (torch.arange(16) % 8 // 4).repeat(2, 1)
    condition, text = Condition(YARN, QuantSpec(k=QuantizerSpec(6, before_rope=True))), ids(3, 37)
    expected = sensitivity.second_order_kl(wide(), condition, text, parts)
    for devices in ([ONE], [ONE, TWO]):
        with placed() as machine:
            loaded = placed_on(wide(), devices)
            found = sensitivity.second_order_kl(loaded, condition, text, parts)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
        assert sum(machine.waits.values()) == len(devices)


def test_tokens_are_drawn_from_their_probabilities_without_a_copy():
    p = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0]).repeat(20_000, 1)
    with placed() as machine:
        there = p.to(ONE)
        drawn = sensitivity._drawn(there, torch.Generator().manual_seed(0))
        assert not machine.waits
        drawn = drawn.cpu()
    assert drawn.shape == (20_000, 1)
    share = torch.bincount(drawn[:, 0], minlength=6) / 20_000
    assert torch.allclose(share, p[0], atol=0.015)  # four standard errors
    assert not share[[0, 2, 5]].any()
