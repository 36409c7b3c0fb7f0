"""A K offset on every family that can take it: folded as it says, undone, kept, refused where a softmax sees it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from qroar_core.errors import BadScales, BadSpec
from qroar_core.exporters import hf
from qroar_core.models.families import family_of
from qroar_core.models.number_format import in_format
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file, to_file
from qroar_core.transforms.groups import still_channels
from qroar_core.transforms.refusals import why_not
from qroar_core.transforms.scales import identity
from tests.models.families.scaled import EXACT, Taps, bands_of, streamed
from tests.models.families_table import CASES, WIDE, config_of, plain_logits
from tests.transforms.test_kinds import drawn_offset
from tests.transforms.test_maps import tied

NONE = QuantSpec()
BARE = ["llama, 1 KV head", "phi3", "smollm3"]  # no bias of W_K
BIASED = ["qwen2", "gpt_neox", "starcoder2"]


def names(*wanted):
    return [next(name for name in CASES if name.startswith(start)) for start in wanted]


def shifted(loaded, case, rope):
    """An offset and nothing else."""
    none = identity(case.layers, case.kv_heads, bands_of(case), granularity=case.finest)
    return drawn_offset(loaded, case, rope, none)


@pytest.mark.parametrize("name", names(*BARE, *BIASED, "falcon_h1"))
def test_k_is_less_by_it_where_channels_stand_still_and_the_logits_stay(build, tokens, name):
    """Channel by channel: k' = k - a b on tied pairs under YaRN's factor a, k - b past the rotated ones and without
    RoPE. In Falcon-H1 the bias is multiplied behind the projection, and b is of what comes out."""
    loaded, case = build(name), CASES[name]
    rope = tied(case, "yarn")
    scales, before, after = shifted(loaded, case, rope), Taps(), Taps()
    with WIDE():
        plain = streamed(loaded, tokens, Condition(rope), taps=before)
        moved = streamed(loaded, tokens, Condition(rope, scales=scales), taps=after)
    torch.testing.assert_close(moved, plain, **EXACT)
    a = 0.1 * torch.log(torch.tensor(2.0, dtype=torch.float64)) + 1
    layer = case.layers - 1
    turned = layer not in loaded.geometry.without_rope
    for head in range(case.kv_heads):
        for channel in range(case.head_dim):
            factor = a if turned and channel < case.rotary_dim else 1.0
            expected = before.k[layer][head][:, channel] - factor * scales.k_offset[layer, head, channel]
            torch.testing.assert_close(after.k[layer][head][:, channel], expected, rtol=1e-6, atol=1e-6)
    assert all(torch.equal(before.q[i], after.q[i]) for i in before.q if i == 0)


@pytest.mark.parametrize("name", names("llama, 1 KV head", "gpt_neox"))
def test_on_a_channel_that_turns_it_is_another_model_and_is_refused(build, tokens, name, monkeypatch):
    loaded, case = build(name), CASES[name]
    rope = replace(tied(case), tie=()) if name == "gpt_neox" else tied(case)
    scales = shifted(loaded, case, rope)
    scales.k_offset[..., 0] = 1.0  # of pair 0, which turns
    with pytest.raises(BadScales, match="take a constant off channels of K that turn under this interpolation"):
        streamed(loaded, tokens, Condition(rope, scales=scales))
    monkeypatch.setattr("qroar_core.models.stream.require_alike", lambda *_: None)
    with WIDE():
        plain = streamed(loaded, tokens, Condition(rope))
        assert float((streamed(loaded, tokens, Condition(rope, scales=scales)) - plain).abs().max()) > 1e-3


def test_still_channels_are_tied_pairs_what_is_past_them_and_layers_without_rope(build):
    geo = build("gpt_neox").geometry
    assert not still_channels(geo, RopeSpec())[0, : geo.rotary_dim].any()
    assert still_channels(geo, RopeSpec())[:, geo.rotary_dim :].all()
    (smollm3,) = names("smollm3")
    loaded, case = build(smollm3), CASES[smollm3]
    found = still_channels(loaded.geometry, RopeSpec())
    assert [bool(row.all()) for row in found] == [i in case.unrotated for i in range(case.layers)]
    assert not found[[i for i in range(case.layers) if i not in case.unrotated]].any()


@pytest.mark.parametrize("name", names(*BARE, *BIASED))
def test_an_applied_offset_is_undone_bit_for_bit_and_a_bias_that_came_with_it_is_gone(build, tokens, name):
    loaded, case = build(name), CASES[name]
    rope = tied(case)
    scales = shifted(loaded, case, rope)
    kept = {key: p.detach().clone() for key, p in loaded.model.named_parameters()}
    modules = {key: [*module._parameters] for key, module in loaded.model.named_modules()}
    with WIDE():
        plain = streamed(loaded, tokens, Condition(rope))
        apply_scales(loaded, scales)
        there = dict(loaded.model.named_parameters())
        assert {key for key in there if key not in kept} == (
            {key.removesuffix("weight") + "bias" for key in {slots[1].weight for slots in loaded.slots()}} - {*kept}
        )
        torch.testing.assert_close(streamed(loaded, tokens, Condition(rope)), plain, **EXACT)  # lifted for the while
        torch.testing.assert_close(streamed(loaded, tokens, Condition(rope, scales=scales)), plain, **EXACT)
        assert {*dict(loaded.model.named_parameters())} == {*there}  # a measurement puts back what was applied
        with in_format(loaded, torch.float32) as narrow:
            assert {*narrow.parameter_names()} == {*kept}
        undo_scales(loaded)
    now = dict(loaded.model.named_parameters())
    assert {*now} == {*kept}
    assert all(torch.equal(now[key], kept[key]) for key in kept)
    assert {key: [*module._parameters] for key, module in loaded.model.named_modules()} == modules


def test_scales_and_maps_go_over_a_bias_that_is_applied_without_reading_it(build, tokens):
    """Each time from the checkpoint's own: applying again is not applying twice."""
    loaded, case = build("llama, 1 KV head"), CASES["llama, 1 KV head"]
    rope = tied(case)
    scales = shifted(loaded, case, rope)
    apply_scales(loaded, scales)
    once = {key: p.detach().clone() for key, p in loaded.model.named_parameters()}
    apply_scales(loaded, scales)
    assert all(torch.equal(p, once[key]) for key, p in loaded.model.named_parameters())
    apply_scales(loaded, replace(scales, k_offset=None))
    assert not any(key.endswith("bias") for key, _ in loaded.model.named_parameters())
    undo_scales(loaded)


def test_a_file_keeps_every_digit_and_older_versions_open(build, tmp_path):
    loaded, case = build("gpt_neox"), CASES["gpt_neox"]
    rope = tied(case)
    scales = shifted(loaded, case, rope)
    content = to_file(loaded, rope, NONE, scales)
    (tmp_path / "scales.json").write_text(content.to_json())
    again, read = from_file(tmp_path / "scales.json", loaded)
    assert (read.version, read.kinds, read.is_identity) == (5, ("k_offset",), False)
    assert torch.equal(again.k_offset, scales.k_offset)
    assert again.digest == scales.digest != replace(scales, k_offset=None).digest
    bare = json.loads(content.to_json())
    del bare["k_offset"]
    (tmp_path / "older.json").write_text(json.dumps(bare | {"version": 1}))
    assert from_file(tmp_path / "older.json", loaded)[0].k_offset is None
    bare["k_offset"] = [rows[:-1] for rows in json.loads(content.to_json())["k_offset"]]
    (tmp_path / "wrong.json").write_text(json.dumps(bare))
    with pytest.raises(BadScales, match=r"k_offset: no table of .* numbers, one per layer, KV head and channel"):
        from_file(tmp_path / "wrong.json", loaded)
    with pytest.raises(BadScales, match="must be finite"):
        replace(scales, k_offset=scales.k_offset * float("nan"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3", "cannot be folded"),
        ("deepseek_v3", "a latent that the cache holds"),
        ("gemma2", "caps its attention logits, so that its softmax sees a constant"),
        ("gpt_oss", "has a sink beside the keys of each softmax"),
        ("llama, 1 KV head", "every channel of K turns"),
    ],
)
def test_where_it_cannot_be_free_it_is_refused_with_the_reason(build, tokens, name, words, monkeypatch):
    (name,) = names(name)
    loaded, case = build(name), CASES[name]
    assert words in why_not(loaded.geometry, RopeSpec(), NONE)["k_offset"]
    if name.startswith("llama"):
        return
    none = identity(case.layers, case.kv_heads, bands_of(case), granularity=case.finest)
    wide = torch.ones(case.layers, case.kv_heads, case.head_dim, dtype=torch.float64)
    with pytest.raises(BadSpec, match="search without a K offset"):
        apply_scales(loaded, replace(none, k_offset=wide))
    assert not loaded.originals
    if name.startswith(("gemma2", "gpt_oss")):  # and the reason is one: there it is another model
        rope = tied(case)
        monkeypatch.setattr("qroar_core.models.key_offset.Geometry.require_k_offset", lambda _: None)
        scales = replace(none, k_offset=2 * wide * still_channels(loaded.geometry, rope)[:, None])
        with WIDE():
            plain = streamed(loaded, tokens, Condition(rope))
            moved = streamed(loaded, tokens, Condition(rope, scales=scales))
        assert float((moved - plain).abs().max()) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    names("llama, 1 KV head", "smollm3", "stablelm, parallel", "falcon", "falcon_h1", "gemma2, no caps", "qwen2"),
)
def test_an_export_reloads_in_plain_transformers_with_the_biases_that_its_config_brings(build, tokens, name, tmp_path):
    loaded, case = build(name), CASES[name]
    rope = tied(case)
    if still_channels(loaded.geometry, RopeSpec()).any():  # without a tie, which not every family's config can say
        rope = RopeSpec()
    scales = shifted(loaded, case, rope)
    with WIDE():
        plain = streamed(loaded, tokens, Condition(rope))
        folder = hf.run(loaded, rope, scales, tmp_path / "out")
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
        near = 1e-4 if rope.tie else 1e-9  # a list of divisors has float32 frequencies, none of them 0
        torch.testing.assert_close(plain_logits(again, tokens), plain, rtol=0, atol=near)
    key = loaded.slots()[-1][1].weight.removesuffix("weight") + "bias"
    assert again.state_dict()[key].any()


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].rotary_dim])
def test_the_family_says_whether_transformers_code_of_it_reads_a_bias_of_k(name):
    """Against transformers' own module: its parameters under the config, and with the family's switch on."""
    case = CASES[name]
    config = config_of(case)
    family = family_of([f"{case.stem}ForCausalLM"], name)
    geometry = family.geometry(config, 0)
    if geometry.latent_dim or geometry.scaled_gain:
        return  # no offset whatever it has
    switches = [
        one for one in vars(config) if one in ("attention_bias", "use_bias", "use_qkv_bias", "qkv_bias", "bias")
    ]
    on = copy.deepcopy(config)
    for switch in switches:
        setattr(on, switch, True)
    with torch.device("meta"):
        module = getattr(transformers, f"{case.stem}ForCausalLM")(on)
    keys = ("k_proj.bias", "qkv_proj.bias", "query_key_value.bias")
    biased = any(leaf.endswith(keys) for leaf, _ in module.named_parameters())
    assert bool(geometry.key_bias) == biased
    assert geometry.key_bias in ("", "always", *switches)


def test_where_no_file_could_hold_it_no_search_begins(build):
    """Phi-3 and Mixtral: no bias in transformers' code, no GGUF. Mistral goes into a GGUF alone."""
    for name in names("phi3", "mixtral"):
        loaded = build(name)
        line = why_not(loaded.geometry, tied(CASES[name]), NONE)["k_offset"]
        assert f"transformers' code of {CASES[name].family} reads none, nor is a GGUF of it written" in line
        assert "it applies only inside this tool; search without a K offset" in line
    (name,) = names("mistral")
    geometry = build(name).geometry
    assert "k_offset" not in why_not(geometry, tied(CASES[name]), NONE)
    assert geometry.bare_keys.endswith("code of mistral reads none")
    assert not build(names("llama, 1 KV head")[0]).geometry.bare_keys
