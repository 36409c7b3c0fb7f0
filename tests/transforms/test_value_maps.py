"""Value maps on every family that can take them: exact, folded as they say, kept, undone; elsewhere refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadScales, BadSpec
from qroar_core.models.patch import apply_scales, scaled_parameters, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file, to_file
from qroar_core.transforms.scales import identity
from tests.models.families.scaled import EXACT, bands_of, scales_of, streamed
from tests.models.families_table import CASES, WIDE
from tests.transforms.test_angles import ON_WEIGHTS, with_angles

GATED = [name for name, case in CASES.items() if case.family in {"qwen3_next", "qwen3_5", "qwen3_5_moe"}]
TAKING = [name for name in CASES if name not in GATED]


def random_maps(loaded, seed=0):
    """Invertible and far from orthonormal, another for each layer and KV head; float64."""
    geo = loaded.geometry
    shape = geo.n_layers, geo.n_kv_heads, geo.value_dim, geo.value_dim
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 30), dtype=torch.float64)
    left, right = torch.linalg.qr(drawn).Q, torch.linalg.qr(drawn.mT).Q
    sizes = torch.linspace(0.25, 4.0, geo.value_dim, dtype=torch.float64)
    return left * sizes @ right


def with_value_maps(loaded, case, seed=0):
    """Every other transform that the family takes besides."""
    base = with_angles(case, seed=seed) if any(CASES[name] is case for name in ON_WEIGHTS) else scales_of(case)
    return replace(base, value_maps=random_maps(loaded, seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKING)
def test_value_maps_leave_all_logits_and_one_without_its_inverse_does_not(build, tokens, name, monkeypatch):
    loaded, case = build(name), CASES[name]
    scales = with_value_maps(loaded, case)
    with WIDE():
        plain = streamed(loaded, tokens)
        torch.testing.assert_close(streamed(loaded, tokens, Condition(scales=scales)), plain, **EXACT)
        from qroar_core.models import value_fold

        monkeypatch.setattr(value_fold, "_mapped_columns", lambda source, _inverse: source.clone())
        only_v = streamed(loaded, tokens, Condition(scales=scales))
    assert float((only_v - plain).abs().max()) > 1e-2


class Values:
    """v of every layer, (kv_heads, T, value_dim)."""

    def __init__(self):
        self.v = {}

    def on_attention(self, tap):
        self.v[tap.layer] = tap.v.clone()

    def on_layer(self, layer, row, start, hidden):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKING)
def test_v_is_mixed_by_the_matrix_of_its_head(build, tokens, name):
    """Channel by channel in loops: v'_i = sum over j of M_ij v_j."""
    loaded, case = build(name), CASES[name]
    scales = with_value_maps(loaded, case)
    before, after = Values(), Values()
    with WIDE():
        streamed(loaded, tokens, taps=before, chunk=tokens.shape[1])
        streamed(loaded, tokens, Condition(scales=scales), taps=after, chunk=tokens.shape[1])
    for layer, was in before.v.items():
        for head in range(case.kv_heads):
            matrix = scales.value_maps[layer, head]
            for row in range(loaded.geometry.value_dim):
                expected = sum(float(matrix[row, j]) * was[head, :, j] for j in range(loaded.geometry.value_dim))
                torch.testing.assert_close(after.v[layer][head, :, row], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["qwen2", "phi3", "gpt_neox", "starcoder2", "deepseek_v3"])
def test_applied_value_maps_are_undone_bit_for_bit(build, name):
    loaded = build(name)
    case = CASES[name]
    kept = {key: p.detach().clone() for key, p in loaded.model.named_parameters()}
    none = identity(case.layers, case.kv_heads, bands_of(case), granularity=case.finest)
    apply_scales(loaded, replace(none, value_maps=random_maps(loaded)))
    changed = {key for key, p in loaded.model.named_parameters() if not torch.equal(p, kept[key])}
    outputs = {output for _, output in loaded.value_slots()}
    values = {key for slot, _ in loaded.value_slots() for key in (slot.weight, slot.bias) if key}
    assert changed == outputs | values  # W_O's bias, q and k stay
    undo_scales(loaded)
    assert all(torch.equal(p, kept[key]) for key, p in loaded.model.named_parameters())


def test_rows_of_q_and_k_in_a_fused_projection_stay_bit_for_bit(build):
    """Phi-3's one projection: q's and k's rows first, v's last."""
    loaded, case = build("phi3"), CASES["phi3"]
    none = identity(case.layers, case.kv_heads, bands_of(case))
    new = scaled_parameters(loaded, replace(none, value_maps=random_maps(loaded)))
    before = (case.heads + case.kv_heads) * case.head_dim
    own = dict(loaded.model.named_parameters())
    for name, tensor in new.items():
        if "qkv_proj" in name:
            assert torch.equal(tensor[:before], own[name][:before])
            assert not torch.equal(tensor[before:], own[name][before:])


def test_a_file_keeps_every_digit_and_older_versions_open(build, tmp_path):
    loaded, case = build("qwen2"), CASES["qwen2"]
    scales = with_value_maps(loaded, case)
    content = to_file(loaded, RopeSpec("linear", 2.0), QuantSpec(), scales)
    (tmp_path / "scales.json").write_text(content.to_json())
    again, read = from_file(tmp_path / "scales.json", loaded)
    assert read.version == 4
    assert torch.equal(again.value_maps, scales.value_maps)
    assert again.digest == scales.digest != replace(scales, value_maps=None).digest
    assert not read.is_identity
    bare = json.loads(content.to_json())
    del bare["value_maps"]
    (tmp_path / "two.json").write_text(json.dumps(bare))
    with pytest.raises(BadScales, match="says version 4, and what it has is of version 2"):
        from_file(tmp_path / "two.json", loaded)
    bare["version"] = 2
    (tmp_path / "two.json").write_text(json.dumps(bare))
    assert from_file(tmp_path / "two.json", loaded)[0].value_maps is None


def test_value_maps_alone_are_no_identity(build):
    loaded, case = build("qwen3"), CASES["qwen3"]  # with QK-norm, which takes no maps of K
    none = identity(case.layers, case.kv_heads, bands_of(case), granularity=case.finest)
    assert replace(none, value_maps=torch.eye(12).double().expand(2, 3, -1, -1)).is_identity
    scales = replace(none, value_maps=random_maps(loaded))
    assert not scales.is_identity
    assert scales.keeps_keys
    assert {name.split(".")[-2] for name in scaled_parameters(loaded, scales)} >= {"v_proj", "o_proj"}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda maps: maps[:1], "no square table for each layer and KV head"),
        (lambda maps: [[head[:-1] for head in layer] for layer in maps], "no square table"),
        (
            lambda maps: [[[row[:2] for row in head[:2]] for head in layer] for layer in maps],
            "values need",
        ),
        (lambda maps: [[[[0.0] * 6] * 6] * 5] * 2, "cannot be undone"),
    ],
)
def test_a_file_whose_value_maps_contradict_it_is_refused(build, tmp_path, broken, words):
    loaded, case = build("qwen2"), CASES["qwen2"]
    raw = json.loads(to_file(loaded, RopeSpec(), QuantSpec(), with_value_maps(loaded, case)).to_json())
    raw["value_maps"] = broken(raw["value_maps"])
    (tmp_path / "scales.json").write_text(json.dumps(raw))
    with pytest.raises(BadScales, match=words):
        from_file(tmp_path / "scales.json", loaded)


@pytest.mark.parametrize("name", GATED)
def test_gates_behind_the_values_are_the_reason_of_a_refusal(build, name):
    loaded, case = build(name), CASES[name]
    none = identity(case.layers, case.kv_heads, bands_of(case), granularity=case.finest)
    with pytest.raises(BadSpec, match="gates multiply each channel of the attention output between V and W_O"):
        apply_scales(loaded, replace(none, value_maps=random_maps(loaded)))
    assert not loaded.originals
