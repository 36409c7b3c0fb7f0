"""Maps on channels that turn alike, on every family that can take them: exact, folded as they say, kept, refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadScales, BadSpec
from qroar_core.interpolations.tie import Tie
from qroar_core.maths.channel_groups import ChannelGroup
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.baselines import spread_axes_evenly, spread_evenly
from qroar_core.transforms.file import from_file, to_file
from qroar_core.transforms.groups import groups_of
from qroar_core.transforms.refusals import require
from tests.models.families.scaled import EXACT, Taps, streamed
from tests.models.families_table import CASES, WIDE
from tests.transforms.test_angles import ON_WEIGHTS, with_angles

TAKING = [name for name in ON_WEIGHTS if not name.startswith("deepseek")]


def tied(case, method="linear"):
    """An interpolation under which two groups of pairs turn alike: one turning, the slowest still."""
    pairs = case.rotary_dim // 2
    ties = (Tie(0, 1), Tie(pairs - 2, pairs - 1, 0.0)) if pairs >= 4 else (Tie(0, pairs - 1, 0.0),)
    return RopeSpec(method, 2.0, tie=ties)


def with_maps(loaded, case, rope, seed=0):
    """Random scales, angles and maps as fine as the family takes them."""
    generator = torch.Generator().manual_seed(seed + 7)
    groups = groups_of(loaded.geometry, rope)
    maps = []
    for group in groups:
        shape = (case.layers, case.kv_heads, group.numbers)
        drawn = group.matrix(torch.randn(shape, generator=generator, dtype=torch.float64) / 2)
        maps.append(drawn if case.finest == "kv_head" else drawn[:, :1].expand_as(drawn).contiguous())
    return replace(with_angles(case, seed=seed), groups=groups, maps=tuple(maps))


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKING)
def test_maps_leave_all_logits_and_a_neighbour_outside_the_rule_does_not(build, tokens, name):
    loaded, case = build(name), CASES[name]
    rope = tied(case, "yarn")  # YaRN's factor is on rotated channels alone
    scales = with_maps(loaded, case, rope)
    with WIDE():
        plain = streamed(loaded, tokens, Condition(rope))
        torch.testing.assert_close(streamed(loaded, tokens, Condition(rope, QuantSpec(), scales)), plain, **EXACT)
        with pytest.raises(BadScales, match="which they do not under this interpolation"):
            streamed(loaded, tokens, Condition(replace(rope, tie=()), QuantSpec(), scales))
        monkey = pytest.MonkeyPatch()
        with monkey.context() as patched:  # the same maps where the pairs turn at frequencies of their own
            patched.setattr("qroar_core.models.stream.require_alike", lambda *_: None)
            untied = Condition(replace(rope, tie=()))
            outside = streamed(loaded, tokens, replace(untied, scales=scales))
            without = streamed(loaded, tokens, untied)
    assert float((outside - without).abs().max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama, 1 KV head", "gpt_neox", "phi3", "stablelm", "glm4"])
def test_k_is_mixed_by_the_matrix_and_q_by_its_inverse(build, tokens, name):
    """Channel by channel in loops: the map of scales and angles first, then the matrix."""
    loaded, case = build(name), CASES[name]
    rope = tied(case)
    scales = with_maps(loaded, case, rope)
    before, after = Taps(), Taps()
    with WIDE():
        streamed(loaded, tokens, Condition(rope, QuantSpec(), replace(scales, groups=(), maps=())), taps=before)
        streamed(loaded, tokens, Condition(rope, QuantSpec(), scales), taps=after)
    half = case.rotary_dim // 2
    for group, maps in zip(scales.groups, scales.maps, strict=True):
        pairs = range(group.first, group.last + 1)
        if loaded.geometry.pairing == "half":
            at = [*pairs, *(half + p for p in pairs)]
        else:
            at = [*(2 * p for p in pairs), *(2 * p + 1 for p in pairs)]
        at += [case.rotary_dim + r for r in range(group.rest)]
        for head in range(case.kv_heads):
            matrix, inverse = maps[0, head], torch.linalg.inv(maps[0, head])
            k, was = after.k[0][head], before.k[0][head]
            q, q_was = after.q[0][head * case.group], before.q[0][head * case.group]
            for row, to in enumerate(at):
                expected = sum(float(matrix[row, column]) * was[:, frm] for column, frm in enumerate(at))
                torch.testing.assert_close(k[:, to], expected, rtol=1e-8, atol=1e-8)
                expected = sum(float(inverse[column, row]) * q_was[:, frm] for column, frm in enumerate(at))
                torch.testing.assert_close(q[:, to], expected, rtol=1e-8, atol=1e-8)


def test_applied_maps_are_undone_bit_for_bit(build):
    loaded = build("llama, 1 KV head")
    case = CASES["llama, 1 KV head"]
    kept = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    apply_scales(loaded, with_maps(loaded, case, tied(case)))
    changed = [name for name, p in loaded.model.named_parameters() if not torch.equal(p, kept[name])]
    assert changed
    assert all("q_proj" in name or "k_proj" in name for name in changed)
    undo_scales(loaded)
    assert all(torch.equal(p, kept[name]) for name, p in loaded.model.named_parameters())


def test_a_file_keeps_every_digit_and_older_versions_open(build, tmp_path):
    name = "gpt_neox"
    loaded, case = build(name), CASES[name]
    rope = tied(case)
    scales = with_maps(loaded, case, rope)
    content = to_file(loaded, rope, QuantSpec(), scales)
    (tmp_path / "scales.json").write_text(content.to_json())
    again, read = from_file(tmp_path / "scales.json", loaded)
    assert read.version == 3
    assert again.groups == scales.groups
    assert all(torch.equal(a, b) for a, b in zip(again.maps, scales.maps, strict=True))
    assert again.digest == scales.digest
    bare = json.loads(content.to_json())
    del bare["maps"]
    (tmp_path / "two.json").write_text(json.dumps(bare))
    with pytest.raises(BadScales, match="says version 3, and what it has is of version 2"):
        from_file(tmp_path / "two.json", loaded)
    bare["version"] = 2
    (tmp_path / "two.json").write_text(json.dumps(bare))
    assert from_file(tmp_path / "two.json", loaded)[0].maps == ()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda m: m | {"last": 99}, "are not of this model"),
        (lambda m: m | {"matrix": m["matrix"][:1]}, "no table of"),
        (lambda m: m | {"rest": 1, "still": False}, "not of this model|do not turn"),
    ],
)
def test_a_file_whose_maps_contradict_it_is_refused(build, tmp_path, broken, words):
    loaded, case = build("gpt_neox"), CASES["gpt_neox"]
    raw = json.loads(to_file(loaded, tied(case), QuantSpec(), with_maps(loaded, case, tied(case))).to_json())
    raw["maps"][0] = broken(raw["maps"][0])
    (tmp_path / "scales.json").write_text(json.dumps(raw))
    with pytest.raises(BadScales, match=words):
        from_file(tmp_path / "scales.json", loaded)


def test_matrices_that_cannot_be_undone_or_do_not_commute_are_refused(build):
    loaded, case = build("llama, 1 KV head"), CASES["llama, 1 KV head"]
    scales = with_maps(loaded, case, tied(case))
    with pytest.raises(BadScales, match="cannot be undone"):
        replace(scales, maps=(torch.zeros_like(scales.maps[0]), *scales.maps[1:]))
    with pytest.raises(BadScales, match="does not commute"):
        replace(scales, maps=(scales.maps[0] + torch.rand_like(scales.maps[0]), *scales.maps[1:]))


@pytest.mark.parametrize(("group", "still"), [(ChannelGroup(2, 5), False), (ChannelGroup(2, 5, True, 3), True)])
def test_a_spreading_start_is_orthonormal_and_even(group, still):
    matrix = spread_evenly(group)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(group.size, dtype=torch.float64))
    assert group.commutes(matrix)
    if not still:
        size = matrix[:4, :4].square() + matrix[4:, :4].square()
        torch.testing.assert_close(size, torch.full((4, 4), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("still", [False, True], ids=["turning", "still"])
def test_principal_axes_are_what_is_spread(still):
    """K lies along one direction but for a little noise: after the map no channel holds more of it than others do."""
    group, drawn = ChannelGroup(2, 5, still), torch.Generator().manual_seed(1)
    axis = torch.randn(4, dtype=torch.complex128, generator=drawn)
    common = torch.randn(500, 1, dtype=torch.complex128, generator=drawn)  # what turns all pairs of a token alike
    k = common * axis + 0.01 * torch.randn(500, 4, dtype=torch.complex128, generator=drawn)
    real = torch.cat((k.real, k.imag), -1)
    matrix = spread_axes_evenly(group, real.mT @ real)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(8, dtype=torch.float64))
    assert group.commutes(matrix)
    mixed = real @ matrix.mT
    if still:
        axes = torch.linalg.eigh(real.mT @ real).eigenvectors.flip(-1)
        torch.testing.assert_close((mixed @ spread_evenly(group)).abs(), (real @ axes).abs())
    else:
        held = (mixed[:, :4].square() + mixed[:, 4:].square()).sum(0)
        torch.testing.assert_close(held / held.sum(), torch.full((4,), 0.25, dtype=torch.float64), atol=1e-3, rtol=0)
        torch.testing.assert_close(
            spread_axes_evenly(group, _turned(real).mT @ _turned(real)), matrix, atol=1e-8, rtol=0
        )


def _turned(real):
    """Every token turned by an angle of its own, all pairs alike."""
    angle = torch.arange(len(real), dtype=torch.float64)[:, None]
    x, y = real[:, :4], real[:, 4:]
    return torch.cat((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), -1)


@pytest.mark.parametrize(("name", "words"), [("qwen3", "cannot mix channels"), ("llama, 1 KV head", "no map commutes")])
def test_a_search_of_maps_is_refused_where_there_can_be_none(build, name, words):
    with pytest.raises(BadSpec, match=words):
        require("maps", build(name).geometry, RopeSpec("linear", 2.0), QuantSpec())


def test_channels_past_the_rotated_ones_are_a_group_without_any_tie(build):
    geo = build("gpt_neox").geometry
    (group,) = groups_of(geo, RopeSpec("linear", 2.0))
    assert (group.pairs, group.rest, group.still) == (0, geo.head_dim - geo.rotary_dim, True)
    assert group.channels(geo.rotary_dim, geo.pairing).tolist() == list(range(geo.rotary_dim, geo.head_dim))
