"""Quantized folders whose scale goes elsewhere than into quantized rows: a QK-norm's gain, gpt-oss's bfloat16 rows.

Oracles: the gain written out channel by channel; transformers' own loader of MXFP4 folders.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadScales, BadSpec, QRoarError
from qroar_core.exporters import quantized_copy, verify
from qroar_core.models.formats import mxfp4
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import replaced_parameters, scaled_parameters
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.window_losses import last_hidden
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.families_table import CASES, loaded_of
from tests.models.quantized_folders import write_quantized

pytestmark = pytest.mark.slow

pytest.importorskip("compressed_tensors")
BANDS = ((0, 2), (3, 7))  # of 8 pairs: 16 channels, half pairing
HALF_STEP = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
G = {  # [layer][kv_head][band]
    "layer": [[[0.6, 1.7]] * 2, [[1.3, 0.8]] * 2],
    "kv_head": [[[0.6, 1.7], [1.2, 0.7]], [[1.3, 0.8], [0.9, 1.1]]],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    """A small model of a family in sizes that groups of 16 and words of 8 codes divide."""

    def one(name, dtype=torch.float32, **changes):
        case = replace(CASES[name], heads=4, kv_heads=2, head_dim=16, rotary_dim=16)
        sizes = {"hidden_size": 64, "intermediate_size": 96} | changes
        return loaded_of(case, byte_tokenizer, tokenizer_folder, dtype=dtype, **sizes)

    return one


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def scales(finest, mode="symmetric"):
    return Scales(mode, finest, BANDS, torch.tensor(G[finest], dtype=torch.float64))


def gain_by_hand(size, layer, which, finest, mode):
    """Factor of every channel of a norm's gain: one head's 16 channels, or those of all heads."""
    out = []
    for channel in range(size):
        head, inside = divmod(channel, 16)
        heads = size // 16
        g = G[finest][layer][head * 2 // heads if heads > 1 else 0][0 if inside % 8 <= 2 else 1]
        out.append(g if which == "q" or mode == "shared" else 1 / g)
    return torch.tensor(out, dtype=torch.float64)


FAMILIES = {"qwen3": ("layer", 0.0), "olmo2": ("kv_head", 0.0), "gemma3": ("layer", 1.0)}


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("form", ["gptq4", "awq", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_scale_goes_into_the_gain_and_no_code_or_quantizer_scale_moves(build, folder, tmp_path, family, form, mode):
    finest, offset = FAMILIES[family]
    write_quantized(folder, build(family), form)
    loaded, s = load_model(str(folder), device="cpu"), scales(finest, mode)
    out = quantized_copy.run(loaded, RopeSpec(), s, tmp_path / "out")
    old, new = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert (out / "model.safetensors").stat().st_size == (folder / "model.safetensors").stat().st_size
    gains = {f"model.layers.{i}.self_attn.{x}_norm.weight" for i in (0, 1) for x in "qk"}
    assert {n for n in old if old[n].view(torch.uint8).ne(new[n].view(torch.uint8)).any()} == gains
    for name in gains:
        _, _, layer, _, stem, _ = name.split(".")
        wanted = (old[name].double() + offset) * gain_by_hand(old[name].numel(), int(layer), stem[0], finest, mode)
        apart = (new[name].double() + offset - wanted).abs()
        assert bool((apart <= HALF_STEP[torch.float32] * (wanted.abs() + offset) * (1 + 1e-9)).all())
    again, tokens = load_model(str(out), device="cpu"), torch.arange(40)[None] * 7 % 256
    with torch.inference_mode():
        plain, found = loaded.model(tokens).logits, again.model(tokens).logits
        with replaced_parameters(loaded.model, scaled_parameters(loaded, s)):
            patched = loaded.model(tokens).logits
    assert float((found - patched).abs().max()) < 1e-4
    moved = float((found - plain).abs().max())
    assert moved > 0.05 if mode == "shared" else moved < 1e-4
    last = verify.run(out)[-1]
    assert (last.question, last.passed) == ("logits against the source model", True)
    assert "q_norm.weight" in (out / "README.md").read_text()


def test_gains_in_bfloat16_are_rounded_once(build, folder, tmp_path):
    write_quantized(folder, build("gemma3"), "int8")
    tensors = {n: t.bfloat16() if "norm" in n else t for n, t in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    out = quantized_copy.run(load_model(str(folder), device="cpu"), RopeSpec(), scales("layer"), tmp_path / "out")
    new = load_file(out / "model.safetensors")
    name = "model.layers.1.self_attn.k_norm.weight"
    wanted = (tensors[name].double() + 1) * gain_by_hand(16, 1, "k", "layer", "symmetric") - 1
    assert new[name].dtype == torch.bfloat16
    assert torch.equal(new[name], wanted.bfloat16())


def test_what_a_gain_cannot_take_is_refused(build, folder, tmp_path):
    write_quantized(folder, build("qwen3"), "awq")
    loaded = load_model(str(folder), device="cpu")
    with pytest.raises(BadSpec, match="shares its QK-norm gain between all 2 KV heads"):
        quantized_copy.run(loaded, RopeSpec(), scales("kv_head"), tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    tensors = {n: t.half() if "norm" in n else t for n, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(str(folder), device="cpu")
    wide = Scales("shared", "layer", BANDS, torch.full((2, 2, 2), 1e6, dtype=torch.float64))
    with pytest.raises(BadScales, match=r"[qk]_norm.weight: row \d+ times 1e\+06 cannot be held in float16"):
        quantized_copy.run(loaded, RopeSpec(), wide, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_phi3_keeps_its_second_native_window_and_takes_no_rope_that_it_could_not_load(build, folder, tmp_path):
    write_quantized(folder, build("phi3"), "int8")
    raw = json.loads((folder / "config.json").read_text())
    raw.pop("original_max_position_embeddings", None)  # Phi-3's own class adds 4096
    (folder / "config.json").write_text(json.dumps(raw))
    loaded = load_model(str(folder), device="cpu")
    with pytest.raises(BadSpec, match="phi3 configuration takes no yarn RoPE: none could load it"):
        quantized_copy.run(loaded, RopeSpec("yarn", 2.0), None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    rope = RopeSpec("longrope", 2.0, original_context=32, long_factor=(3.0,) * 8, short_factor=(1.0,) * 8)
    out = quantized_copy.run(loaded, rope, None, tmp_path / "out")
    written = json.loads((out / "config.json").read_text())
    assert (written["original_max_position_embeddings"], written["max_position_embeddings"]) == (32, 64)
    again, tokens = load_model(str(out), device="cpu"), torch.arange(48)[None] * 7 % 256
    with open_stream(loaded, Condition(rope), 48) as stream:
        wanted = logits_of(loaded, last_hidden(stream.run(tokens), 48, 47)[0])
    with torch.inference_mode():
        found = again.model(tokens).logits[0, :-1]
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
        assert float((found - loaded.model(tokens).logits[0, :-1]).abs().max()) > 0.01


# gpt-oss: experts in MXFP4, attention in bfloat16

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
EXPERTS = ("gate_up_proj", "down_proj")


def packed(weight):
    """blocks, scales and what they stand for, of (experts, in, out): nearest code, by loops over the bytes."""
    rows = weight.float().transpose(1, 2).unflatten(-1, (-1, 32))  # (experts, out, groups, 32)
    exponent = rows.abs().amax(-1).log2().floor().int() - 2
    table = torch.tensor([*E2M1, *(-x for x in E2M1)])
    codes = (rows / 2.0 ** exponent[..., None] - table.view(-1, 1, 1, 1, 1)).abs().argmin(0)
    whole = (table[codes] * 2.0 ** exponent[..., None]).flatten(-2).transpose(1, 2)
    blocks = torch.stack([codes[..., 2 * i] + 16 * codes[..., 2 * i + 1] for i in range(16)], dim=-1)
    return blocks.to(torch.uint8), (exponent + 127).to(torch.uint8), whole


def write_mxfp4(folder, loaded):
    """As openai/gpt-oss ships: bfloat16, but for blocks and scales of the experts; {name: what they stand for}."""
    tensors, oracle = {}, {}
    for name, parameter in loaded.model.named_parameters():
        if name.endswith(EXPERTS):
            tensors[f"{name}_blocks"], tensors[f"{name}_scales"], oracle[name] = packed(parameter.data)
        else:
            tensors[name] = parameter.data.bfloat16()
    loaded.model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    (folder / "config.json").write_text(json.dumps(config))
    loaded.tokenizer.save_pretrained(folder)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return oracle


def by_transformers(folder, dtype=torch.float32):
    from transformers import AutoModelForCausalLM, Mxfp4Config

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, quantization_config=Mxfp4Config(dequantize=True), attn_implementation="eager"
    ).eval()


def test_an_mxfp4_folder_is_read_as_transformers_reads_it(build, folder):
    oracle = write_mxfp4(folder, build("gpt_oss"))
    loaded, theirs = load_model(str(folder), device="cpu"), by_transformers(folder)
    assert loaded.note == "dequantized from MXFP4 experts"
    own = dict(loaded.model.named_parameters())
    assert len(oracle) == 4
    for name, wanted in oracle.items():
        assert torch.equal(own[name].data, wanted)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(own[name].data, parameter.data.float()), name


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_scales_of_an_mxfp4_folder_touch_rows_of_q_and_k_alone(build, folder, tmp_path, mode):
    write_mxfp4(folder, build("gpt_oss"))
    loaded, s = load_model(str(folder), device="cpu"), scales("kv_head", mode)
    out = quantized_copy.run(loaded, RopeSpec(), s, tmp_path / "out")
    old, new = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    changed = {f"model.layers.{i}.self_attn.{x}_proj.{p}" for i in (0, 1) for x in "qk" for p in ("weight", "bias")}
    assert {n for n in old if old[n].view(torch.uint8).ne(new[n].view(torch.uint8)).any()} == changed
    for name in changed:
        _, _, layer, _, stem, _ = name.split(".")
        gains = gain_by_hand(len(old[name]), int(layer), stem[0], "kv_head", mode)
        wanted = old[name].double() * gains.view(-1, *[1] * (old[name].ndim - 1))
        assert torch.equal(new[name], wanted.bfloat16()), name
    tokens = torch.arange(40)[None] * 7 % 256
    with torch.inference_mode():
        found = load_model(str(out), device="cpu").model(tokens).logits
        torch.testing.assert_close(by_transformers(out)(tokens).logits.float(), found, rtol=0, atol=1e-4)
        apart = float((found - loaded.model(tokens).logits).abs().max())
    assert apart > 0.3 if mode == "shared" else apart < 0.1  # rows rounded to bfloat16 again
    assert verify.run(out)[0].passed is True


DAMAGES = {
    "scales of floats": lambda t, n: t.update({f"{n}_scales": t[f"{n}_scales"].float()}),
    "blocks short": lambda t, n: t.update({f"{n}_blocks": t[f"{n}_blocks"][..., :-1].contiguous()}),
    "three axes": lambda t, n: t.update({f"{n}_{p}": t[f"{n}_{p}"][0].contiguous() for p in ("blocks", "scales")}),
    "no scales": lambda t, n: t.pop(f"{n}_scales"),
    "no blocks": lambda t, n: t.pop(f"{n}_blocks"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_experts_are_one_line(build, folder, name):
    write_mxfp4(folder, build("gpt_oss"))
    tensors = load_file(folder / "model.safetensors")
    DAMAGES[name](tensors, "model.layers.1.mlp.experts.down_proj")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QRoarError, match="down_proj") as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_every_code_and_exponent_is_its_value():
    """All 16 codes at the ends and the middle of the exponents, from the standard's table."""
    codes = torch.arange(16)
    blocks = (codes + 16 * codes.flip(0)).to(torch.uint8).view(1, 1, 1, 16).expand(1, 3, 1, 16)
    exponents = torch.tensor([1, 127, 252], dtype=torch.uint8).view(1, 3, 1)
    found = mxfp4.experts({"blocks": blocks, "scales": exponents})[0]
    assert (found.dtype, found.shape) == (torch.bfloat16, (32, 3))
    for row, exponent in enumerate((1, 127, 252)):
        for place in range(16):
            for code, value in ((place, found[2 * place, row]), (15 - place, found[2 * place + 1, row])):
                wanted = E2M1[code % 8] * (-1 if code > 7 else 1) * 2.0 ** (exponent - 127)
                assert float(value) == wanted


def test_another_familys_mxfp4_is_refused(build, folder):
    write_quantized(folder, build("qwen3"), "awq")
    raw = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(QRoarError, match=r"(has no|has scales but no|holds no MXFP4)"):
        load_model(str(folder), device="cpu")
