"""bitsandbytes folders (NF4, LLM.int8()): read by their layout, scaled in their absmax, or refused with the reason.

The writers here are loops over the published layout; `bitsandbytes` 0.50.2 itself writes the same bytes (last test).
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.exporting import quantized_copy, verify
from qroar_core.maths.rescale import Scales
from qroar_core.models.formats.bitsandbytes import int4_weight, int8_weight
from qroar_core.models.loading import load_model
from qroar_core.models.patch import replaced, scaled_parameters
from qroar_core.specs import RopeSpec

BANDS = ((0, 2), (3, 7))
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]  # fmt: skip
K1 = "model.layers.1.self_attn.k_proj.weight"
FORMS = ("nf4", "nf4 double", "int8")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


def nf4(weight):
    """{suffix of `weight.`: tensor}, and the weight it stands for."""
    blocks = weight.float().flatten().unflatten(0, (-1, 64))
    absmax = blocks.abs().amax(1)
    table = torch.tensor(NF4)
    codes = ((blocks / absmax[:, None])[..., None] - table).abs().argmin(-1).flatten()
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
    parts = {
        "": (codes[::2] * 16 + codes[1::2]).to(torch.uint8)[:, None],
        ".absmax": absmax,
        ".quant_map": table,
        ".quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }
    return parts, (table[codes].unflatten(0, (-1, 64)) * absmax[:, None]).view(weight.shape)


def doubled(parts, weight):
    """The same with its absmax rounded to 8 bits, less their mean, in blocks of 256."""
    absmax, table = parts[".absmax"], torch.linspace(-1, 1, 256)
    offset = absmax.mean()
    padded = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % 256)).unflatten(0, (-1, 256))
    outer = padded.abs().amax(1)
    inner = ((padded / outer[:, None])[..., None] - table).abs().argmin(-1).flatten()[: len(absmax)]
    state = json.loads(bytes(parts[".quant_state.bitsandbytes__nf4"].tolist()))
    state |= {"nested_blocksize": 256, "nested_offset": float(offset), "nested_dtype": "float32"}
    again = table[inner] * outer.repeat_interleave(256)[: len(absmax)] + offset
    codes = torch.stack((parts[""][:, 0] >> 4, parts[""][:, 0] & 15), 1).flatten().long()
    whole = (torch.tensor(NF4)[codes].unflatten(0, (-1, 64)) * again[:, None]).view(weight.shape)
    return parts | {
        ".absmax": inner.to(torch.uint8), ".nested_absmax": outer, ".nested_quant_map": table,
        ".quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }, whole  # fmt: skip


def write(folder, loaded, form):
    """`loaded`'s decoder layers quantized into `folder`; {name: the weight the codes stand for}."""
    tensors, oracle = {}, {}
    for name, p in loaded.model.named_parameters():
        if p.ndim != 2 or ".layers." not in name:
            tensors[name] = p.detach().clone()
            continue
        if form == "int8":
            largest = p.detach().abs().amax(1)
            codes = (p.detach() * 127 / largest[:, None]).round()
            stem = name.removesuffix("weight")
            tensors |= {name: codes.to(torch.int8), f"{stem}SCB": largest,
                        f"{stem}weight_format": torch.tensor(0, dtype=torch.uint8)}  # fmt: skip
            oracle[name] = codes * largest[:, None] / 127
            continue
        parts, oracle[name] = nf4(p.detach())
        if form == "nf4 double":
            parts, oracle[name] = doubled(parts, p)
        tensors |= {name + suffix: value for suffix, value in parts.items()}
    loaded.model.config.save_pretrained(folder)
    block = {"quant_method": "bitsandbytes", "load_in_8bit": form == "int8", "load_in_4bit": form != "int8",
             "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": form == "nf4 double"}  # fmt: skip
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": block}
    (folder / "config.json").write_text(json.dumps(config))
    loaded.tokenizer.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return oracle


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def scales(mode="symmetric"):
    generator = torch.Generator().manual_seed(3)
    return Scales(mode, "kv_head", BANDS, (torch.rand(2, 2, 2, generator=generator).double() * 3 - 1.5).exp2())


@pytest.mark.parametrize("form", FORMS)
def test_it_is_read_as_what_its_codes_stand_for(tiny, folder, form):
    original = tiny(hidden_size=64)
    oracle = write(folder, original, form)
    loaded = load_model(str(folder), device="cpu")
    own = dict(loaded.model.named_parameters())
    assert len(oracle) == 14
    for name, wanted in oracle.items():
        torch.testing.assert_close(own[name].data, wanted.float(), rtol=1e-5, atol=1e-6)
        assert float((wanted - dict(original.model.named_parameters())[name]).abs().max()) > 1e-3  # it was rounded
    assert loaded.note == f"dequantized from bitsandbytes {form.removesuffix(' double')}"


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize(("form", "suffix"), [("nf4", "weight.absmax"), ("int8", "SCB")])
def test_only_the_scales_of_q_and_k_change(tiny, ids, folder, tmp_path, form, suffix, mode):
    write(folder, tiny("qwen2", hidden_size=64), form)
    loaded, s = load_model(str(folder), device="cpu"), scales(mode)
    out = quantized_copy.run(loaded, RopeSpec(), s, tmp_path / "out")
    old, new = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert (out / "model.safetensors").stat().st_size == (folder / "model.safetensors").stat().st_size
    changed = {n for n in old if not torch.equal(old[n], new[n])}
    parts = (suffix, "bias")
    assert changed == {f"model.layers.{i}.self_attn.{x}_proj.{p}" for i in (0, 1) for x in "qk" for p in parts}
    stem = K1.removesuffix("weight")
    for row in range(32):  # hidden_size 64: one block a row
        head, channel = divmod(row, 16)
        g = float(s.g[1, head, 0 if channel % 8 <= 2 else 1])
        wanted = float(old[stem + suffix][row]) * (g if mode == "shared" else 1 / g)
        assert abs(float(new[stem + suffix][row]) - wanted) <= 2.0**-24 * wanted
    again, tokens = load_model(str(out), device="cpu"), ids(1, 40)
    with torch.inference_mode():
        with replaced(loaded.model, scaled_parameters(loaded, s)):
            patched = loaded.model(tokens).logits
        found, plain = again.model(tokens).logits, loaded.model(tokens).logits
    assert float((found - patched).abs().max()) < 1e-3
    moved = float((found - plain).abs().max())
    assert moved > 0.5 if mode == "shared" else moved < 1e-3
    assert verify.run(out)[-1].passed is True


def test_what_cannot_be_scaled_exactly_is_refused_with_its_reason(tiny, folder, tmp_path):
    write(folder, tiny(hidden_size=64), "nf4 double")
    with pytest.raises(UnsupportedModel, match="double quantization rounds its block scales again") as caught:
        quantized_copy.run(load_model(str(folder), device="cpu"), RopeSpec(), scales(), tmp_path / "out")
    assert str(caught.value).endswith("scale the full-precision checkpoint and quantize it again")
    (tmp_path / "odd").mkdir()
    write(tmp_path / "odd", tiny(hidden_size=96), "nf4")
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
    write(folder, tiny(hidden_size=64), "nf4")
    tensors = load_file(folder / "model.safetensors")
    DAMAGES[name](tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match=r"self_attn\.k_proj is no bitsandbytes nf4 layer") as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "converted").iterdir())


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
                        torch.testing.assert_close(theirs[f"weight{suffix}"], part, rtol=0, atol=0)
    codes, largest, _ = functional.int8_vectorwise_quant(weight.half())
    near = int8_weight({"weight": codes, "SCB": largest}) - weight
    assert float((near.abs() / weight.abs().amax(1, keepdim=True)).max()) < 0.6 / 127
