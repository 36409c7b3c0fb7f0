"""W4A16 folders: packed by the compressed-tensors library, loaded by transformers, codes against numpy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qroar_core.__main__ import main
from qroar_core.errors import BadSpec, UnsupportedModel
from qroar_core.exporters import verify, w4a16
from qroar_core.exporters.folder import write_note
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import quantized_parameters, replaced_parameters, scaled_parameters
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.window_losses import last_hidden, measure
from qroar_core.specs import QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales

BANDS = ((0, 2), (3, 7))
GROUP = 32
INT4 = QuantSpec(weights=WeightQuantSpec(4, "group", GROUP, full_range=True))
K1 = "model.layers.1.self_attn.k_proj"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tiny):
    """Every layer's inputs are 64: two groups of 32."""
    return lambda family="llama", **options: tiny(family, hidden_size=64, **options)


def scales(mode="symmetric", power_of_two=False):
    generator = torch.Generator().manual_seed(3)
    log2_g = torch.rand(2, 2, 2, generator=generator, dtype=torch.float64) * 3 - 1.5
    return Scales(mode, "kv_head", BANDS, (log2_g.round() if power_of_two else log2_g).exp2())


def codes(words):
    """int32 words -> codes -8..7, eight a word, lowest bits first; by numpy."""
    raw = words.numpy().view(np.uint32)
    return np.stack([raw >> (4 * i) & 15 for i in range(8)], axis=-1).reshape(len(raw), -1).astype(int) - 8


def logits_under(loaded, condition, ids):
    with open_stream(loaded, condition, ids.shape[1]) as stream:
        return logits_of(loaded, last_hidden(stream.run(ids), ids.shape[1], ids.shape[1] - 1)[0])


def test_codes_and_steps_are_those_of_round_to_nearest(model, tmp_path):
    """Oracle in numpy float64: step absmax / 7.5, a group's negative extreme on the lowest level."""
    loaded = model("qwen2")
    files = load_file(w4a16.run(loaded, RopeSpec(), None, tmp_path / "out", group_size=GROUP) / "model.safetensors")
    weights = {n.removesuffix(".weight"): p for n, p in loaded.model.named_parameters()}
    packed = [name.removesuffix(".weight_packed") for name in files if name.endswith("weight_packed")]
    assert len(packed) == 14
    for stem in packed:
        wide = weights[stem].numpy().astype(np.float64)
        groups = wide.reshape(len(wide), -1, GROUP)
        step = np.abs(groups).max(-1) / 7.5
        wanted = np.clip(np.rint(groups / step[..., None]), -8, 7)
        lowest = groups == -np.abs(groups).max(-1, keepdims=True)
        wanted[lowest] = -8
        assert lowest.any()
        assert (codes(files[f"{stem}.weight_packed"]) == wanted.reshape(wide.shape)).all()
        assert files[f"{stem}.weight_scale"].dtype == torch.bfloat16
        stored = files[f"{stem}.weight_scale"].double().numpy()
        assert (np.abs(stored - step) <= 2.0**-8 * step).all()
        assert files[f"{stem}.weight_shape"].tolist() == list(wide.shape)
    whole = {name for name in files if ".layers." not in name}
    assert whole == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert {files[name].dtype for name in whole} == {torch.bfloat16}
    assert files[f"{K1}.bias"].dtype == torch.bfloat16


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_transformers_gives_the_fake_quant_references_logits(model, ids, tmp_path, family, mode):
    """To bfloat16: no further off than twice what rounding the reference's own weights to bfloat16 does."""
    from transformers import AutoModelForCausalLM

    loaded, tokens, rope, s = model(family), ids(1, 40), RopeSpec("yarn", 2.0), scales(mode)
    out = w4a16.run(loaded, rope, s, tmp_path / "out", group_size=GROUP)
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    with torch.inference_mode():
        found = theirs(tokens).logits[0, :-1]
    wanted = logits_under(loaded, Condition(rope, INT4, s), tokens)
    reference = dict(loaded.model.named_parameters()) | scaled_parameters(loaded, s)
    reference = quantized_parameters(loaded, INT4.weights, reference)
    with replaced_parameters(
        loaded.model, {name: value.detach().bfloat16().float() for name, value in reference.items()}
    ):
        bfloat16 = float((logits_under(loaded, Condition(rope), tokens) - wanted).square().mean().sqrt())
    off = float((found - wanted).square().mean().sqrt())
    assert off < 2 * bfloat16
    wrong = [Condition(rope, scales=s), Condition(RopeSpec(), INT4, s)]
    wrong += [Condition(rope, INT4)] if mode == "shared" else []  # symmetric scales move no logit
    for condition in wrong:
        assert float((found - logits_under(loaded, condition, tokens)).square().mean().sqrt()) > 5 * bfloat16


def test_symmetric_scales_move_no_code(model, tmp_path):
    """Q(g w) = g Q(w): by powers of two every word is the same and every step g times as large, to the bit."""
    loaded, s = model(), scales(power_of_two=True)
    files = [
        load_file(w4a16.run(loaded, RopeSpec(), given, tmp_path / name, group_size=GROUP) / "model.safetensors")
        for name, given in (("plain", None), ("scaled", s))
    ]
    plain, scaled = files
    assert plain.keys() == scaled.keys()
    changed = {name for name in plain if not torch.equal(plain[name], scaled[name])}
    assert changed == {f"model.layers.{i}.self_attn.{x}_proj.weight_scale" for i in (0, 1) for x in "qk"}
    for row in range(32):
        head, channel = divmod(row, 16)
        g = float(s.g[1, head, 0 if channel % 8 <= 2 else 1])
        assert torch.equal(scaled[f"{K1}.weight_scale"][row], plain[f"{K1}.weight_scale"][row] / g)
    assert {float(x) for x in s.g.flatten()} != {1.0}


def test_our_own_loader_reads_it_too(model, ids, tmp_path):
    from transformers import AutoModelForCausalLM

    out = w4a16.run(model(), RopeSpec("linear", 2.0), scales("shared"), tmp_path / "out", group_size=GROUP)
    again, tokens = load_model(str(out), device="cpu", dtype="float32"), ids(1, 40)
    assert again.note == "dequantized from compressed-tensors int4 pack-quantized"
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(again.model(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-3)


def test_the_config_says_what_it_is(model, tmp_path):
    out = w4a16.run(model(), RopeSpec("yarn", 2.0), None, tmp_path / "out", group_size=GROUP)
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert (config["rope_parameters"]["rope_type"], config["rope_parameters"]["factor"]) == ("yarn", 2.0)
    block = config["quantization_config"]
    assert (block["quant_method"], block["format"]) == ("compressed-tensors", "pack-quantized")
    assert (block["quantization_status"], block["ignore"]) == ("compressed", ["lm_head"])
    (group,) = block["config_groups"].values()
    weights = group["weights"]
    assert (weights["num_bits"], weights["type"], weights["strategy"]) == (4, "int", "group")
    assert (weights["group_size"], weights["symmetric"], group["targets"]) == (GROUP, True, ["Linear"])
    assert group["input_activations"] is None


def test_a_float16_model_stays_float16_and_tied_weights_are_written_once(model, tmp_path):
    loaded = model(dtype=torch.float16, tie_word_embeddings=True)
    files = load_file(w4a16.run(loaded, RopeSpec(), None, tmp_path / "out", group_size=GROUP) / "model.safetensors")
    assert "lm_head.weight" not in files
    assert {t.dtype for t in files.values()} == {torch.float16, torch.int32, torch.int64}


def test_verify_compares_with_the_rounded_source(demo, tmp_path):
    s = Scales("shared", "kv_head", ((0, 9), (10, 31)), torch.full((4, 2, 2), 1.25, dtype=torch.float64))
    out = w4a16.run(demo, RopeSpec("yarn", 2.0), s, tmp_path / "out", group_size=64)
    last = verify.run(out)[-1]
    assert (last.question, last.passed) == ("logits against the source model", True)
    note = json.loads((out / "qroar.json").read_text())
    assert note["weights"]["group_size"] == 64
    note.pop("files")
    for wrong in ({"weights": None}, {"scales": None}):
        write_note(out, note | wrong)
        assert verify.run(out)[-1].passed is False


def test_the_demo_reads_held_out_text_as_its_fake_quant_reference(demo, tmp_path):
    """Through the loader: 200 held-out tokens to 0.02 nats each in the mean, where int4 weights move them by 0.1."""
    from qroar_core.models.text import encode, split

    out = w4a16.run(demo, RopeSpec(), None, tmp_path / "out", group_size=64)
    tokens = encode(demo.tokenizer, split("heldout")[0])[:256][None]
    again = load_model(str(out), device="cpu", dtype="float32")
    int4 = QuantSpec(weights=WeightQuantSpec(4, "group", 64, full_range=True))
    found = measure(again, Condition(RopeSpec()), tokens, 200).nll
    wanted, whole = (measure(demo, Condition(RopeSpec(), quant), tokens, 200).nll for quant in (int4, QuantSpec()))
    assert float((found - wanted).abs().mean()) < 0.02
    assert float((whole - wanted).abs().mean()) > 0.1


def test_refusals_are_one_line_and_write_nothing(model, tiny, tmp_path):
    with pytest.raises(
        BadSpec, match=r"^--group-size: groups of 128 do not divide the 64 inputs of model.layers.0"
    ) as e:
        w4a16.run(model(), RopeSpec(), None, tmp_path / "out")
    assert str(e.value).endswith("; add --group-size 64")
    for size in (16, 2, 48, 256):
        with pytest.raises(BadSpec, match=rf"no kernel serves groups of {size}; choose 128, 64 or 32"):
            w4a16.run(model(), RopeSpec(), None, tmp_path / "out", group_size=size)
    with pytest.raises(BadSpec, match=r"the 48 inputs .* choose --format hf"):
        w4a16.run(tiny(), RopeSpec(), None, tmp_path / "out", group_size=GROUP)
    experts = model()
    experts.model.model.layers[1].mlp.register_parameter("experts", torch.nn.Parameter(torch.ones(2, 4, 4)))
    with pytest.raises(UnsupportedModel, match="experts are kept in one tensor"):
        w4a16.run(experts, RopeSpec(), None, tmp_path / "out", group_size=GROUP)
    hybrid = model()
    hybrid.model.model.layers[1].mlp.register_module("conv", torch.nn.Conv1d(4, 4, 3, groups=4))
    with pytest.raises(UnsupportedModel, match="its layers convolve, W4A16 packs linear layers"):
        w4a16.run(hybrid, RopeSpec(), None, tmp_path / "out", group_size=GROUP)
    assert list(tmp_path.iterdir()) == []


def test_on_the_command_line(capfd, tmp_path):
    words = ["export", "demo", "--format", "w4a16", "--rope", "yarn", "--factor", "2", "--out", str(tmp_path / "out")]
    assert main([*words, "--group-size", "64"]) == 0
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 0
    checks = json.loads(capfd.readouterr().out.partition("\n")[2])
    assert [check["passed"] for check in checks] == [True] * len(checks)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "rounded to int4, one scale per 64 inputs of an output row" in card
    assert "Q(g w) = g Q(w): symmetric scales change nothing here" in card
    assert main(["export", "demo", "--group-size", "64", "--out", str(tmp_path / "no")]) == 2
    line = capfd.readouterr().err
    assert line == "qroar: --group-size: --format hf has no group size; drop it, or --format w4a16\n"
