"""GPTQ and AWQ by their own libraries' code: our files are what their packers write, and scaled ones read as g times.

Neither library installs beside this transformers, but the two modules that pack and unpack need nothing but torch.
They are imported from wheels of the package index; nothing of them lies in this repository.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from qroar_core.exporters import quantized_copy
from qroar_core.models.load import run as load_model
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.quantized_folders import GROUP, awq, gptq, rtn, write_quantized

WHEELS = {  # import name: requirement, SHA-256 of its wheel
    "auto_gptq": ("auto-gptq==0.6.0", "f7b61f26484454b41238cf64eae467b928a621abfc9217474c88aac9c08470e6"),
    "awq": ("autoawq==0.2.7.post3", "02e09d71ca961ca131ac9963a2635fe8c34eb52d6b6a104b8574056aef8f2efe"),
}
PATIENCE = 25  # seconds for a download


def wheel_of(package, folder):
    """Path of the pinned wheel; skips where the index does not answer. pip keeps what it once fetched in its cache."""
    requirement, digest = WHEELS[package]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--quiet",
        "--platform",
        "manylinux2014_x86_64",
        "--python-version",
        "3.11",
        "--retries",
        "0",
        "--timeout",
        "5",
        "--disable-pip-version-check",
        "--dest",
        str(folder),
        requirement,
    ]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the package index gave no {requirement} in {PATIENCE} s")
    if ran.returncode:
        pytest.skip(f"the package index gave no {requirement}: {' '.join(ran.stderr.split())[-200:]}")
    (found,) = folder.glob("*.whl")
    assert hashlib.sha256(found.read_bytes()).hexdigest() == digest, f"{found} is not the wheel this test was made for"
    return found


def module_in(wheel, name, **stubs):
    """One module of a wheel, read from the archive without its parents' own __init__ files; nothing stays imported.

    Args:
        stubs: what stands in for modules it imports, dots in their names as double underscores.
    """
    parts = name.split(".")
    for depth in range(1, len(parts)):
        package = ModuleType(".".join(parts[:depth]))
        package.__path__ = [f"{wheel}/{'/'.join(parts[:depth])}"]
        sys.modules[package.__name__] = package
    sys.modules.update({stub.replace("__", "."): module for stub, module in stubs.items()})
    try:
        return importlib.import_module(name)
    finally:
        for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == parts[0]]:
            del sys.modules[loaded]


@pytest.fixture(scope="module")
def gptq_wheel(tmp_path_factory):
    return wheel_of("auto_gptq", tmp_path_factory.mktemp("auto_gptq"))


@pytest.fixture(scope="module")
def awq_wheel(tmp_path_factory):
    return wheel_of("awq", tmp_path_factory.mktemp("awq"))


@pytest.fixture
def gptq_linear(gptq_wheel):
    return module_in(gptq_wheel, "auto_gptq.nn_modules.qlinear.qlinear_cuda_old").QuantLinear


@pytest.fixture
def awq_modules(awq_wheel):
    """WQLinear_GEMM and dequantize_gemm."""
    device = ModuleType("awq.utils.utils")  # the real one wants accelerate; of it only the name of a device is asked
    device.get_best_device = lambda: "cpu"
    gemm = module_in(awq_wheel, "awq.modules.linear.gemm", awq__utils__utils=device)
    return gemm.WQLinear_GEMM, gemm.dequantize_gemm


def linear_of(weight):
    """A float16 layer that holds what the codes stand for: what both libraries give their packers."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.half()
    return layer


def assert_same_bytes(ours, theirs):
    """Every buffer of their layer is ours, bit for bit."""
    assert set(ours) == set(dict(theirs.named_buffers()))
    for name, packed in theirs.named_buffers():
        assert (ours[name].dtype, ours[name].shape) == (packed.dtype, packed.shape), name
        assert torch.equal(ours[name], packed), name


def read_gptq(quant_linear, parts, bits):
    """(out, in), float32: the layer's own forward of a unit matrix."""
    inputs, outputs = parts["g_idx"].numel(), parts["scales"].shape[1]
    layer = quant_linear(bits, GROUP, inputs, outputs, bias=False, weight_dtype=torch.float32)
    layer.load_state_dict(dict(parts))  # scales widened to float32, so that their half-precision product is not in it
    return layer(torch.eye(inputs)).T


def read_awq(dequantize, parts):
    """(out, in), float32."""
    return dequantize(parts["qweight"], parts["qzeros"], parts["scales"].float(), 4, GROUP).T


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_our_gptq_layers_are_what_autogptq_packs(gptq_linear, bits):
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(bits))
    parts, whole = gptq(weight, bits)
    _, zeros, scale = rtn(weight, bits, GROUP)
    theirs = gptq_linear(bits, GROUP, 96, 64, bias=False)
    theirs.pack(linear_of(whole), scale, zeros.float(), None)
    assert_same_bytes(parts, theirs)
    torch.testing.assert_close(read_gptq(gptq_linear, parts, bits), whole.float(), rtol=1e-6, atol=1e-7)


def test_our_awq_layers_are_what_autoawq_packs(awq_modules):
    linear, dequantize = awq_modules
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(5))
    parts, whole = awq(weight)
    _, zeros, scale = rtn(weight, 4, GROUP)
    theirs = linear.from_linear(linear_of(whole), 4, GROUP, scales=scale.T.contiguous(), zeros=zeros.T.contiguous())
    assert_same_bytes(parts, theirs)
    torch.testing.assert_close(read_awq(dequantize, parts), whole.float(), rtol=1e-6, atol=1e-7)


def scaled(tiny, tmp_path, monkeypatch, form):
    """Parts of every q and k projection before and after our scaling, and the g of each row: 4 heads, 2 KV heads."""
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    write_quantized(folder, tiny(hidden_size=64), form)
    g = (torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3 - 1.5).exp2()
    scales = Scales("symmetric", "kv_head", ((0, 2), (3, 7)), g)
    out = quantized_copy.run(load_model(str(folder), device="cpu"), RopeSpec(), scales, tmp_path / "out")
    old, new = (load_file(path / "model.safetensors") for path in (folder, out))
    for layer in (0, 1):
        for which, heads in (("q", 4), ("k", 2)):
            stem = f"model.layers.{layer}.self_attn.{which}_proj."
            band = torch.tensor([0 if c % 8 <= 2 else 1 for c in range(16)])
            gains = torch.cat([g[layer, head // 2 if which == "q" else head][band] for head in range(heads)])
            was, now = ({n.removeprefix(stem): t for n, t in x.items() if n.startswith(stem)} for x in (old, new))
            yield was, now, gains if which == "q" else 1 / gains


def assert_rows_times_g(before, after, gains):
    wanted = before.double() * gains[:, None]
    apart = (after.double() - wanted).abs() / wanted.abs().clamp(min=1e-30)
    assert float(apart.max()) <= 2.0**-11 * (1 + 1e-6)  # half a float16 step of the scale
    assert float((after - before).abs().max()) > 0.1 * float(before.abs().max())


@pytest.mark.parametrize("bits", [4, 8])
def test_autogptq_reads_the_scaled_rows_as_g_times_the_old(tiny, tmp_path, monkeypatch, gptq_linear, bits):
    seen = 0
    for was, now, gains in scaled(tiny, tmp_path, monkeypatch, f"gptq{bits}"):
        assert all(torch.equal(was[name], now[name]) for name in ("qweight", "qzeros", "g_idx"))
        assert_rows_times_g(read_gptq(gptq_linear, was, bits), read_gptq(gptq_linear, now, bits), gains)
        seen += 1
    assert seen == 4


def test_autoawq_reads_the_scaled_rows_as_g_times_the_old(tiny, tmp_path, monkeypatch, awq_modules):
    seen = 0
    for was, now, gains in scaled(tiny, tmp_path, monkeypatch, "awq"):
        assert all(torch.equal(was[name], now[name]) for name in ("qweight", "qzeros"))
        assert_rows_times_g(read_awq(awq_modules[1], was), read_awq(awq_modules[1], now), gains)
        seen += 1
    assert seen == 4
