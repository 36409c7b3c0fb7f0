"""bitsandbytes folders (NF4, LLM.int8()): what their layout refuses, and that the library writes the bytes we read.

How they are read and scaled is asked with all formats in test_quantized_copy.py.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.exporters import quantized_copy
from qroar_core.models.formats.bitsandbytes import int4_weight, int8_weight
from qroar_core.models.load import run as load_model
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.quantized_folders import nf4, write_quantized

BANDS = ((0, 2), (3, 7))
K1 = "model.layers.1.self_attn.k_proj.weight"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def scales(mode="symmetric"):
    generator = torch.Generator().manual_seed(3)
    return Scales(mode, "kv_head", BANDS, (torch.rand(2, 2, 2, generator=generator).double() * 3 - 1.5).exp2())


def test_what_cannot_be_scaled_exactly_is_refused_with_its_reason(tiny, folder, tmp_path):
    write_quantized(folder, tiny(hidden_size=64), "nf4 double")
    with pytest.raises(UnsupportedModel, match="double quantization rounds its block scales again") as caught:
        quantized_copy.run(load_model(str(folder), device="cpu"), RopeSpec(), scales(), tmp_path / "out")
    assert str(caught.value).endswith("scale the full-precision checkpoint and quantize it again")
    (tmp_path / "odd").mkdir()
    write_quantized(tmp_path / "odd", tiny(hidden_size=96), "nf4")
    loaded = load_model(str(tmp_path / "odd"), device="cpu")
    with pytest.raises(UnsupportedModel, match="blocks of 64 values run across rows of 96"):
        quantized_copy.run(loaded, RopeSpec(), scales(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


STATE = K1 + ".quant_state.bitsandbytes__nf4"


def stated(**changes):
    def damage(tensors):
        state = json.loads(bytes(tensors[STATE].tolist())) | changes
        tensors[STATE] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    return damage


DAMAGES = {
    "an absmax below 0": lambda t: t[K1 + ".absmax"][:1].neg_(),
    "absmax short": lambda t: t.update({K1 + ".absmax": t[K1 + ".absmax"][:-1].clone()}),
    "codes short": lambda t: t.update({K1: t[K1][:-1].clone()}),
    "codes of floats": lambda t: t.update({K1: t[K1].float()}),
    "a table of eight": lambda t: t.update({K1 + ".quant_map": torch.ones(8)}),
    "no table": lambda t: t.pop(K1 + ".quant_map"),
    "no state": lambda t: t.pop(STATE),
    "a state that is no JSON": lambda t: t.update({STATE: torch.zeros(5, dtype=torch.uint8)}),
    "a hostile shape": stated(shape=[1 << 40, 1 << 40]),
    "a negative shape": stated(shape=[-32, -64]),
    "a shape of words": stated(shape=["x"]),
    "blocks of 128": stated(blocksize=128),
    "no shape": stated(shape=None),
    "other sizes": stated(shape=[64, 64]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_layers_are_one_line(tiny, folder, tmp_path, name):
    write_quantized(folder, tiny(hidden_size=64), "nf4")
    tensors = load_file(folder / "model.safetensors")
    DAMAGES[name](tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    line = r"self_attn\.k_proj (is no bitsandbytes nf4 layer|has no weight\.)"
    with pytest.raises(BadCheckpoint, match=line) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_row_maximum_below_zero_is_refused():
    parts = {"weight": torch.ones(2, 4, dtype=torch.int8), "SCB": torch.tensor([1.0, 127.0])}
    assert torch.equal(int8_weight(parts), torch.tensor([[1 / 127] * 4, [1.0] * 4]))
    with pytest.raises(ValueError, match="SCB holds 1 of 2 scales, first -1, where a positive, finite number belongs"):
        int8_weight(parts | {"SCB": torch.tensor([1.0, -1.0])})


def test_flat_scales_that_are_no_whole_rows_are_refused(tiny, folder, tmp_path):
    """Where the block scales changed under a loaded model, no entry is taken for a row's."""
    write_quantized(folder, tiny(hidden_size=64), "nf4")
    loaded = load_model(str(folder), device="cpu")
    tensors = load_file(folder / "model.safetensors")
    for wrong in (torch.ones(16, 2), torch.ones(33)):
        save_file(tensors | {K1 + ".absmax": wrong}, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BadCheckpoint, match=r"k_proj.*(absmax is float32 \[|is \[16, 2\])"):
            quantized_copy.run(loaded, RopeSpec(), scales(), tmp_path / "out")
    wide = torch.ones(32, 96)  # 48 bytes a row and 1.5 blocks: the head of the row is in its neighbour's block
    parts, _ = nf4(wide)
    tensors = {n: t for n, t in tensors.items() if not n.startswith(K1)}
    save_file(tensors | {f"{K1[:-7]}.{s}": t for s, t in parts.items()}, folder / "model.safetensors")
    with pytest.raises(UnsupportedModel, match=r"k_proj: blocks of 64 values run across rows of 96"):
        quantized_copy.run(loaded, RopeSpec(), scales(), tmp_path / "out")


def test_bitsandbytes_itself_writes_these_bytes():
    """Run by hand with the 43 MB wheel on the path; it is no requirement, since importing it changes transformers."""
    functional = pytest.importorskip("bitsandbytes").functional
    weight = torch.randn(32, 128, generator=torch.Generator().manual_seed(1))
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            codes, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type=kind)
            theirs = {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()} | {"weight": codes}
            torch.testing.assert_close(
                int4_weight(theirs, kind), functional.dequantize_4bit(codes, state), rtol=1e-6, atol=1e-7
            )
            if kind == "nf4" and not nested:
                for suffix, part in nf4(weight)[0].items():
                    if "state" not in suffix:
                        torch.testing.assert_close(theirs[suffix], part, rtol=0, atol=0)
    codes, largest, _ = functional.int8_vectorwise_quant(weight.half())
    near = int8_weight({"weight": codes, "SCB": largest}) - weight
    assert float((near.abs() / weight.abs().amax(1, keepdim=True)).max()) < 0.6 / 127
