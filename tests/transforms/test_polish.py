"""A polish of tied pairs: folded as it says, before all other kinds; undone, kept, refused where it has no place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2

from qroar_core.errors import BadScales, BadSpec
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file, to_file
from qroar_core.transforms.refusals import why_not
from qroar_core.transforms.scales import Scales, identity, require_scales_alone
from tests.models.families.scaled import EXACT, Taps, bands_of, random_g, streamed
from tests.models.families_table import CASES, WIDE, plain_logits
from tests.transforms.test_kinds import drawn_offset, drawn_polish
from tests.transforms.test_maps import tied, with_maps

NONE = QuantSpec()
LAYOUTS = ("llama, 1 KV head", "gpt_neox", "phi3", "glm4", "smollm3", "qwen2")


def names(*wanted):
    return [next(name for name in CASES if name.startswith(start)) for start in wanted]


def alone(loaded, case, rope):
    """A polish and nothing else."""
    none = identity(case.layers, case.kv_heads, bands_of(case), granularity=case.finest)
    return replace(none, polish=drawn_polish(loaded, rope))


def in_one(scales, layer, heads, side, head_dim):
    """What one layer's heads do to q or k before RoPE, P first, then g, angles and map, by loops; pairs in halves."""
    half, out = head_dim // 2, []
    band_of = {pair: b for b, (first, last) in enumerate(scales.bands) for pair in range(first, last + 1)}

    def put(groups, matrices, at):
        whole = torch.eye(head_dim, dtype=torch.float64)
        for group, matrix in zip(groups, matrices, strict=True):
            pairs = range(group.first, group.last + 1)
            channels = [*pairs, *(pair + half for pair in pairs)]
            for i, row in enumerate(channels):
                for j, column in enumerate(channels):
                    whole[row, column] = matrix[layer, at][i, j]
        return whole

    for head in range(heads):
        kv = head // (heads // scales.g.shape[1])
        polish = put(scales.polish.groups, getattr(scales.polish, side), head)
        gain, turn = torch.eye(head_dim, dtype=torch.float64), torch.eye(head_dim, dtype=torch.float64)
        for pair in range(half):
            g = float(scales.g[layer, kv, band_of[pair]])
            a, b = pair, pair + half
            gain[a, a] = gain[b, b] = g if side == "q" else 1 / g
            angle = scales.angles[layer, kv, pair]
            turn[a, a] = turn[b, b] = angle.cos()
            turn[a, b], turn[b, a] = -angle.sin(), angle.sin()
        mixed = put(scales.groups, scales.maps, kv)
        mixed = torch.linalg.inv(mixed).mT if side == "q" else mixed
        out.append(mixed @ turn @ gain @ polish)
    return torch.stack(out)


@pytest.mark.parametrize(("name", "module"), zip(names("llama, 1 KV head", "qwen2"), (modeling_llama, modeling_qwen2)))
def test_the_fold_is_matrices_on_q_and_k_in_transformers_own_attention(build, tokens, name, module, monkeypatch):
    """float64: every head's matrix put between projection and RoPE by hand, against the rows and biases."""
    loaded, case = build(name), CASES[name]
    rope = tied(case)
    scales = replace(with_maps(loaded, case, rope), polish=drawn_polish(loaded, rope))
    own, calls = module.apply_rotary_pos_emb, []

    def by_hand(q, k, cos, sin, *rest, **named):
        layer = len(calls)
        calls.append(layer)
        q, k = (
            torch.einsum("hij,bhtj->bhti", in_one(scales, layer, x.shape[1], side, case.head_dim), x)
            for x, side in ((q, "q"), (k, "k"))
        )
        return own(q, k, cos, sin, *rest, **named)

    with WIDE():
        rotary = loaded.model.model.rotary_emb
        monkeypatch.setattr(rotary, "inv_freq", rope_of(loaded, rope, tokens.shape[1]).inv_freq.double())
        plain = plain_logits(loaded.model, tokens)
        with monkeypatch.context() as patched:
            patched.setattr(module, "apply_rotary_pos_emb", by_hand)
            wanted = plain_logits(loaded.model, tokens)
        apply_scales(loaded, scales)
        torch.testing.assert_close(plain_logits(loaded.model, tokens), wanted, **EXACT)
        undo_scales(loaded)
    assert calls == [*range(case.layers)]
    assert float((wanted - plain).abs().max()) > 1e-2  # it is not exact: another model


@pytest.mark.parametrize("name", names(*LAYOUTS))
def test_on_every_layout_pairs_that_stand_still_are_mixed_head_by_head(build, tokens, name):
    """Of the first layer with RoPE: q' = P_q q and k' = P_k k on still channels by loops, turning ones as before."""
    loaded, case = build(name), CASES[name]
    rope = tied(case, "yarn")
    rope = replace(rope, tie=rope.tie[-1:])
    scales, before, after = alone(loaded, case, rope), Taps(), Taps()
    layer = next(i for i in range(case.layers) if i not in loaded.geometry.without_rope)
    with WIDE():
        streamed(loaded, tokens, Condition(rope), taps=before)
        streamed(loaded, tokens, Condition(rope, scales=scales), taps=after)
    (group,) = scales.polish.groups
    half, pairs = case.rotary_dim // 2, range(group.first, group.last + 1)
    channels = [2 * p for p in pairs] + [2 * p + 1 for p in pairs]
    if case.pairing == "half":
        channels = [*pairs, *(p + half for p in pairs)]
    for side, matrices in (("q", scales.polish.q[0]), ("k", scales.polish.k[0])):
        was, now = getattr(before, side)[layer], getattr(after, side)[layer]
        for head in range(len(was)):
            for i, channel in enumerate(channels):
                expected = sum(matrices[layer, head, i, j] * was[head][:, other] for j, other in enumerate(channels))
                torch.testing.assert_close(now[head][:, channel], expected, rtol=1e-9, atol=1e-9)
        others = [channel for channel in range(case.head_dim) if channel not in channels]
        assert torch.equal(now[..., others], was[..., others])


@pytest.mark.parametrize("name", names("llama, 1 KV head", "gpt_neox"))
def test_what_follows_a_polish_leaves_its_logits(build, tokens, name):
    """Scales, angles, maps and an offset on top of it are as exact as without it."""
    loaded, case = build(name), CASES[name]
    rope = tied(case, "yarn")
    polish = alone(loaded, case, rope)
    beside = replace(drawn_offset(loaded, case, rope, with_maps(loaded, case, rope)), polish=polish.polish)
    with WIDE():
        wanted = streamed(loaded, tokens, Condition(rope, scales=polish))
        torch.testing.assert_close(streamed(loaded, tokens, Condition(rope, scales=beside)), wanted, **EXACT)


@pytest.mark.parametrize("name", names("llama, 1 KV head", "phi3", "qwen2"))
def test_an_applied_polish_is_undone_bit_for_bit(build, name):
    loaded, case = build(name), CASES[name]
    kept = {key: p.detach().clone() for key, p in loaded.model.named_parameters()}
    apply_scales(loaded, alone(loaded, case, tied(case)))
    changed = {key for key, p in loaded.model.named_parameters() if not torch.equal(p, kept[key])}
    slots = [slot for pair in loaded.slots() for slot in pair]
    assert changed == {key for slot in slots for key in (slot.weight, slot.bias) if key}
    assert all(p.dtype == kept[key].dtype for key, p in loaded.model.named_parameters())
    undo_scales(loaded)
    assert all(torch.equal(p, kept[key]) for key, p in loaded.model.named_parameters())


def test_a_file_keeps_every_digit_and_older_versions_open(build, tmp_path):
    loaded, case = build("gpt_neox"), CASES["gpt_neox"]
    rope = tied(case)
    scales = alone(loaded, case, rope)
    content = to_file(loaded, rope, NONE, scales)
    (tmp_path / "scales.json").write_text(content.to_json())
    again, read = from_file(tmp_path / "scales.json", loaded)
    assert (read.version, read.kinds, read.is_identity) == (6, ("polish",), False)
    assert again.polish.groups == scales.polish.groups
    for side in "qk":
        for mine, other in zip(getattr(again.polish, side), getattr(scales.polish, side), strict=True):
            assert torch.equal(mine, other)
    assert again.digest == scales.digest != replace(scales, polish=None).digest
    assert [scales.keeps_keys, scales.is_identity, scales.turns] == [False, False, False]
    assert scales.toward_identity(0.25).polish is scales.polish
    bare = json.loads(content.to_json())
    assert '"polish": [{"first"' in content.to_json()  # one line, not one a number
    del bare["polish"]
    (tmp_path / "older.json").write_text(json.dumps(bare | {"version": 1}))
    assert from_file(tmp_path / "older.json", loaded)[0].polish is None
    (tmp_path / "wrong.json").write_text(json.dumps(json.loads(content.to_json()) | {"version": 5}))
    with pytest.raises(BadScales, match="says version 5, and what it has is of version 6"):
        from_file(tmp_path / "wrong.json", loaded)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda one: one | {"last": 99}, r"polish\[0\]: pairs 0 to 99 are not of this model"),
        (lambda one: one | {"k": one["k"][:-1]}, r"polish\[0\]: k: no table of 2 x 1 x 4 x 4 numbers"),
        (lambda one: one | {"q": [[row[:-1] for row in layer] for layer in one["q"]]}, r"q: no table of 2 x 3 x 4 x 4"),
        (lambda one: one | {"q": [[] for _ in one["q"]]}, "polish.0.: q: 0 query heads, the model has 1 KV heads"),
        (lambda one: one | {"first": 3, "last": 4}, "two groups hold the same pairs"),
    ],
)
def test_a_file_whose_polish_contradicts_it_is_refused(build, tmp_path, broken, words):
    name = "llama, 1 KV head"
    loaded, case = build(name), CASES[name]
    raw = json.loads(to_file(loaded, tied(case), NONE, alone(loaded, case, tied(case))).to_json())
    raw["polish"][0] = broken(raw["polish"][0])
    (tmp_path / "wrong.json").write_text(json.dumps(raw))
    with pytest.raises(BadScales, match=words):
        from_file(tmp_path / "wrong.json", loaded)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3", "normalises q and k before RoPE, and the norm's gain cannot mix channels"),
        ("deepseek_v3", "one rotated key for all heads of a layer"),
        ("gemma3", "before RoPE"),
        ("llama, 1 KV head", "a polish takes back what tied pairs cost, and no pairs are tied; tie neighbouring"),
    ],
)
def test_where_it_has_no_place_it_is_refused_with_the_reason(build, name, words):
    (name,) = names(name)
    loaded, case = build(name), CASES[name]
    assert words in why_not(loaded.geometry, RopeSpec(), NONE)["polish"]
    if name.startswith("llama"):
        return
    with pytest.raises(BadSpec, match="search without a polish"):
        apply_scales(loaded, alone(loaded, case, tied(case)))
    assert not loaded.originals


def test_under_another_tie_of_another_model_or_on_finished_codes_it_is_refused(build, tokens):
    loaded, case = build("llama, 1 KV head"), CASES["llama, 1 KV head"]
    rope = tied(case)
    scales = alone(loaded, case, rope)
    for other in ((), rope.tie[:1], (rope.tie[0], replace(rope.tie[1], turn=1.0))):
        with pytest.raises(
            BadScales, match=r"polish pairs \d+ to \d+ as if they (stood still|shared one frequency), w"
        ):
            streamed(loaded, tokens, Condition(replace(rope, tie=other), scales=scales))
    half = replace(scales.polish, q=tuple(one[:, :1] for one in scales.polish.q))
    with pytest.raises(BadScales, match=r"a polish is of \(layers, query heads, KV heads\) \(\d, 1, 1\), this model"):
        apply_scales(loaded, replace(scales, polish=half))
    with pytest.raises(BadScales, match="mix rows of W_Q and W_K, as a polish does") as caught:
        require_scales_alone(scales)
    assert "--polish" in caught.value.do
    with pytest.raises(BadScales, match="must be finite"):
        replace(scales.polish, k=tuple(one * float("nan") for one in scales.polish.k))
    with pytest.raises(BadScales, match=r"a polish of \d layers, \d query heads and 1 KV heads beside scales"):
        Scales("symmetric", "kv_head", bands_of(case), random_g(case)[:1], polish=scales.polish)
