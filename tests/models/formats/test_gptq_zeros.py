"""GPTQ zero points: read by their numbers where they are symmetric, refused where readers of the format disagree.

Oracle: a loop over words and bits in Python integers, which shares no code with the reader.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gptq import packing
from qroar_core.models.formats.quantized_folder import stored_tensors
from qroar_core.models.load import run as load_model
from tests.models.hub_configs import HUB
from tests.models.hub_folders import IDS, random_model
from tests.models.quantized_folders import GROUP, gptq, words

OUT, INPUTS = 32, 96


def block(bits=4, **changes):
    return {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "sym": True, "desc_act": False} | changes


def parts_of(bits, stored, seed=1):
    """A layer of random codes whose zero points are stored as `stored`: a number, or one a (group, output)."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (OUT, INPUTS), generator=generator)
    zeros = torch.full((INPUTS // GROUP, OUT), stored) if isinstance(stored, int) else stored
    scales = torch.rand(INPUTS // GROUP, OUT, generator=generator).half() + 0.5
    return {"qweight": words(codes, bits).T.contiguous(), "qzeros": words(zeros, bits), "scales": scales}


def code_at(matrix, bits, place, column):
    """Code number `place` down a column of int32 words, from single bits."""
    value = 0
    for bit in range(bits):
        word, at = divmod(place * bits + bit, 32)
        value |= (int(matrix[word][column]) >> at & 1) << bit
    return value


def by_hand(parts, bits, zero, group=None):
    """(out, in) in float64: `zero(stored)` is the zero point that a stored one stands for."""
    down, across = parts["qweight"].tolist(), parts["qzeros"].T.tolist()
    whole = torch.zeros(OUT, INPUTS, dtype=torch.float64)
    for i in range(INPUTS):
        g = i // GROUP if group is None else int(group[i])
        for o in range(OUT):
            code, stored = code_at(down, bits, i, o), code_at(across, bits, o, g)
            whole[o, i] = (code - zero(stored)) * float(parts["scales"][g, o])
    return whole


def read(parts, settings):
    form = packing(settings, "x")
    assert form.shape(parts) == (OUT, INPUTS)
    return form.dequantize(parts).double()


@pytest.mark.parametrize("said", [None, "gptq", "gptq_v2"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_zero_points_are_the_middle_whatever_the_config_calls_them(bits, version, said):
    half = 1 << (bits - 1)
    parts = parts_of(bits, half - 2 + version)
    wanted = by_hand(parts, bits, lambda stored: half)
    assert torch.equal(read(parts, block(bits, checkpoint_format=said)), wanted)
    assert torch.equal(read(parts, block(bits, checkpoint_format=said, sym=None)), wanted)


@pytest.mark.parametrize("stored", [0, 6, 9, 15])
def test_other_symmetric_zero_points_are_refused(stored):
    with pytest.raises(ValueError, match=f"says sym, zero points are stored as {stored} to {stored}"):
        read(parts_of(4, stored), block())
    mixed = torch.full((INPUTS // GROUP, OUT), 8)
    mixed[1, 5] = 7
    with pytest.raises(ValueError, match="stored as 7 to 8, not all as 7"):
        read(parts_of(4, mixed), block())
    with pytest.raises(ValueError, match="does not say sym"):
        read(parts_of(4, mixed), block(sym=None))


def random_zeros(bits, top):
    return torch.randint(0, top + 1, (INPUTS // GROUP, OUT), generator=torch.Generator().manual_seed(bits))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_asymmetric_zero_points_go_by_the_config(bits):
    top = (1 << bits) - 1
    parts = parts_of(bits, random_zeros(bits, top - 1))
    v1, v2 = by_hand(parts, bits, lambda z: z + 1), by_hand(parts, bits, lambda z: z)
    assert torch.equal(read(parts, block(bits, sym=False)), v1)
    assert torch.equal(read(parts, block(bits, sym=False, checkpoint_format="gptq")), v1)
    assert torch.equal(read(parts, block(bits, sym=False, checkpoint_format="gptq_v2")), v2)
    assert float((v1 - v2).abs().min()) > 0.4


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_wrapped_zero_point_is_refused_and_read_where_nothing_wraps(bits):
    """v1 stores z - 1: a stored 2^bits - 1 is a z of 0 that wrapped, or 2^bits to kernels that do not mask."""
    top = (1 << bits) - 1
    zeros = random_zeros(bits, top - 1)
    zeros[2, 3] = zeros[0, 31] = top
    parts = parts_of(bits, zeros)
    line = rf"2 zero points are stored as {top}, which readers of GPTQ v1 take as {top + 1}"
    with pytest.raises(ValueError, match=line):
        read(parts, block(bits, sym=False))
    v2 = read(parts, block(bits, sym=False, checkpoint_format="gptq_v2"))
    assert torch.equal(v2, by_hand(parts, bits, lambda z: z))


@pytest.mark.parametrize(("stored", "said"), [(8, None), (8, "gptq"), (7, "gptq_v2")])
def test_a_symmetric_file_that_says_neither_is_refused(stored, said):
    with pytest.raises(ValueError, match=f"every zero point is stored as {stored}, which is symmetric in v"):
        read(parts_of(4, stored), block(sym=False, checkpoint_format=said))


def test_inputs_in_another_order_follow_their_index():
    order = torch.randperm(INPUTS, generator=torch.Generator().manual_seed(4))
    group = (order // GROUP).to(torch.int32)
    parts = parts_of(4, random_zeros(4, 14)) | {"g_idx": group}
    wanted = by_hand(parts, 4, lambda z: z + 1, group)
    assert torch.equal(read(parts, block(sym=False, desc_act=True)), wanted)
    assert float((wanted - by_hand(parts, 4, lambda z: z + 1)).abs().max()) > 1
    with pytest.raises(ValueError, match="another order than the config, which says desc_act false"):
        read(parts, block(sym=False))
    uneven = group.clone()
    uneven[group == 2] = 1
    with pytest.raises(ValueError, match="g_idx makes groups of 0 to 32 inputs, not of 16"):
        read(parts | {"g_idx": uneven}, block(sym=False, desc_act=True))
    with pytest.raises(ValueError, match="g_idx names groups -1 to 5, there are 6"):
        read(parts | {"g_idx": group - (group == 0).int()}, block(sym=False, desc_act=True))
    with pytest.raises(ValueError, match="has no g_idx, and the config says desc_act true"):
        read({k: v for k, v in parts.items() if k != "g_idx"}, block(sym=False, desc_act=True))


def test_a_last_group_may_be_short_and_a_row_may_be_one_group():
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(2))
    parts, _ = gptq(weight)
    parts = {k: v for k, v in parts.items() if k != "g_idx"}
    short = {"qweight": parts["qweight"][:7].contiguous(), "qzeros": parts["qzeros"], "scales": parts["scales"]}
    form, whole = packing(block(sym=False), "x"), packing(block(sym=False), "x").dequantize(parts)
    assert form.shape(short) == (32, 56)
    assert torch.equal(form.dequantize(short), whole[:, :56])
    one = {"qweight": parts["qweight"], "qzeros": parts["qzeros"][:1], "scales": parts["scales"][:1]}
    found = packing(block(sym=False, group_size=-1), "x").dequantize(one)
    assert torch.equal(found[:, :16], whole[:, :16])
    assert not torch.equal(found[:, 16:], whole[:, 16:])


def folder_of(path, tensors, **files):
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_a_folder_with_autogptqs_own_file_alone_is_read(tmp_path):
    parts = parts_of(4, 7)
    tensors = {f"a.{name}": value for name, value in parts.items()}
    old = block() | {"damp_percent": 0.01, "true_sequential": True, "model_file_base_name": "model"}
    old.pop("quant_method")
    found, label = stored_tensors(folder_of(tmp_path / "old", tensors, config={}, quantize_config=old))
    assert label == "GPTQ int4"
    assert torch.equal(found["a.weight"][...].double(), by_hand(parts, 4, lambda z: 8))
    for missing in ("bits", "group_size", "sym", "desc_act"):
        less = {k: v for k, v in old.items() if k != missing}
        with pytest.raises(BadCheckpoint, match=rf"quantize_config.json: it does not say {missing}; fetch it again"):
            stored_tensors(folder_of(tmp_path / "old", tensors, config={}, quantize_config=less))
    both = {"quantization_config": block(bits=8)}
    with pytest.raises(BadCheckpoint, match=r"quantization_config says bits = 8, quantize_config\.json says 4; remove"):
        stored_tensors(folder_of(tmp_path / "old", tensors, config=both, quantize_config=old))


BIASED = {  # models of the hub whose own layers have a bias, and where; the others have none
    "Qwen2": ("q_proj", "k_proj", "v_proj"),
    "Qwen2-MoE": ("q_proj", "k_proj", "v_proj"),
    "Mixtral": (),
    "SmolLM2": (),
    "StarCoder2-3b": ("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"),
}


def written_with_a_bias_everywhere(folder, name, tokenizer, made_up=0.0):
    """A model of the hub in GPTQ as old AutoGPTQ writes it, and in `folder`/whole what its parts stand for."""
    raw, whole = HUB[name], folder / "whole"
    whole.mkdir(parents=True)
    for place in (folder, whole):
        (place / "config.json").write_text(json.dumps(raw))
        tokenizer.save_pretrained(place)
    random_model(transformers.AutoConfig.from_pretrained(whole)).save_pretrained(whole)
    parts, dense = {}, {}
    for key, value in load_file(whole / "model.safetensors").items():
        stem = key.removesuffix(".weight")
        if value.ndim == 2 and ".layers." in key and not key.endswith(("gate.weight", "shared_expert_gate.weight")):
            of_layer, dense[key] = gptq(value.float())
            parts |= {f"{stem}.{suffix}": part for suffix, part in of_layer.items()}
            if not key.endswith(tuple(f"{one}.weight" for one in BIASED[name])):
                parts[f"{stem}.bias"] = torch.full((len(value),), made_up, dtype=torch.float16)
        else:
            parts[key] = dense[key] = value.float()
    save_file({key: value.contiguous() for key, value in parts.items()}, folder / "model.safetensors")
    save_file({key: value.float().contiguous() for key, value in dense.items()}, whole / "model.safetensors")
    said = {"quantization_config": block(sym=False)}
    (folder / "config.json").write_text(json.dumps(raw | said))
    return whole


@pytest.mark.parametrize("name", BIASED)
def test_a_bias_of_zeros_that_old_autogptq_made_up_adds_nothing(name, tmp_path, byte_tokenizer):
    """As Qwen publishes them (QwenLM/Qwen3 issue 714): real biases beside made-up ones."""
    whole = written_with_a_bias_everywhere(tmp_path / "x", name, byte_tokenizer)
    loaded = load_model(str(tmp_path / "x"), device="cpu", dtype="float32")
    oracle = transformers.AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32).eval()
    with torch.no_grad():
        got, expected = loaded.model(IDS, use_cache=False).logits, oracle(IDS, use_cache=False).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert sum(key.endswith(".bias") for key in load_file(tmp_path / "x" / "model.safetensors")) >= 7 * 4 - 4


def test_a_bias_that_is_not_zero_needs_its_place_in_the_model(tmp_path, byte_tokenizer):
    written_with_a_bias_everywhere(tmp_path / "x", "Qwen2", byte_tokenizer, made_up=0.25)
    with pytest.raises(BadCheckpoint, match=r"16 weights have no place in .*, first model.layers.0.mlp.down_proj.bias"):
        load_model(str(tmp_path / "x"), device="cpu", dtype="float32")


def test_a_real_bias_of_zeros_is_no_missing_one(tmp_path, byte_tokenizer):
    folder = tmp_path / "x"
    written_with_a_bias_everywhere(folder, "Qwen2", byte_tokenizer)
    tensors = load_file(folder / "model.safetensors")
    zeros = {key: torch.zeros_like(value) if key.endswith(".bias") else value for key, value in tensors.items()}
    save_file(zeros, folder / "model.safetensors")
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    assert not bool(loaded.model.model.layers[0].self_attn.q_proj.bias.any())


def test_settings_of_single_modules_are_refused_unless_they_leave_them_whole(tmp_path):
    tensors = {f"a.{name}": value for name, value in parts_of(4, 7).items()} | {"b.weight": torch.ones(4, 4)}
    fine = block(dynamic={"-:.*b": {}, "+:.*a": {"bits": 4, "group_size": GROUP}})
    found, _ = stored_tensors(folder_of(tmp_path / "x", tensors, config={"quantization_config": fine}))
    assert found.keys() == {"a.weight", "b.weight"}
    folder = folder_of(tmp_path / "x", tensors, config={"quantization_config": block(dynamic={"+:.*a": {"bits": 8}})})
    with pytest.raises(UnsupportedModel, match=r"settings of their own for \+:\.\*a: \{'bits': 8\}"):
        stored_tensors(folder)


@pytest.mark.parametrize("name", ["gptq_sym_zero8_says_v1", "modelopt_fp8"])
def test_the_cases_read_as_brute_force_reads_them(name, tmp_path, monkeypatch, demo):
    """shared/cases: weights by loops, the demo's own NLL on held-out text within what four and eight bits cost."""
    cases = Path(__file__).parents[4] / "shared" / "cases"
    if not cases.is_dir():
        pytest.skip("shared/cases lies beside the repository only where it is built")
    monkeypatch.syspath_prepend(str(cases))
    monkeypatch.delitem(sys.modules, "build", raising=False)
    import build

    from qroar_core.models.load import run as load_model
    from qroar_core.models.stream import Condition
    from qroar_core.models.text import encode, split
    from qroar_core.models.window_losses import measure
    from qroar_core.specs import RopeSpec

    if name == "modelopt_fp8":
        folder = build.folder(
            demo.template,
            tmp_path,
            name,
            tensors=build.fp8,
            **{"hf_quant_config.json": {"quantization": {"quant_algo": "FP8"}}},
        )
    else:
        says = block(group_size=32, checkpoint_format="gptq")
        config = {"config": lambda c: c | {"quantization_config": says}}
        folder = build.folder(demo.template, tmp_path, name, tensors=build.gptq, **config)
    loaded, stored = load_model(str(folder), device="cpu"), load_file(folder / "model.safetensors")
    key = "model.layers.2.self_attn.k_proj"
    if name == "modelopt_fp8":
        wanted = stored[f"{key}.weight"].double() * float(stored[f"{key}.weight_scale"])
        assert loaded.note == "dequantized from ModelOpt FP8 (its activation scales are not applied)"
    else:
        words_, scales = stored[f"{key}.qweight"].tolist(), stored[f"{key}.scales"].double()
        wanted = torch.tensor(
            [
                [(code_at(words_, 4, i, o) - 8) * float(scales[i // 32, o]) for i in range(256)]
                for o in range(scales.shape[1])
            ],
            dtype=torch.float64,
        )
    found = loaded.model.get_submodule(key).weight.double()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)
    tokens = encode(demo.tokenizer, split("heldout")[0])[:512][None]
    nll = [float(measure(m, Condition(RopeSpec()), tokens, 400).nll.mean()) for m in (demo, loaded)]
    assert abs(nll[1] - nll[0]) < 0.02
