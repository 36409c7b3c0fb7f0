"""Pair angles on every family that can take them: exact, turned by what they say, exported, else refused."""

from __future__ import annotations

import cmath
from dataclasses import replace

import pytest
import torch

from qroar_core.errors import BadScales, BadSpec
from qroar_core.exporters import hf
from qroar_core.maths.attention_error import ErrorSetup, attention_error
from qroar_core.models.capture import capture
from qroar_core.models.patch import apply_scales, scaled_parameters, substituted_weights, undo_scales
from qroar_core.models.stream import Condition
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file, to_file
from qroar_core.transforms.scales import Scales, turned
from tests.models.families.scaled import EXACT, Taps, bands_of, pair_of, scales_of, streamed
from tests.models.families_table import CASES, WIDE, plain_logits

ON_WEIGHTS = [
    name
    for name, case in CASES.items()
    if case.family
    not in {
        "qwen3",
        "qwen3_moe",
        "gemma3",
        "olmo2",
        "cohere",
        "qwen3_next",
        "qwen3_5",
        "qwen3_5_moe",
        "lfm2",
        "lfm2_moe",
    }
    and "qk_layernorm" not in case.options
    and not case.options.get("use_qk_norm")
]
TURNED = pytest.mark.parametrize("name", ON_WEIGHTS)


def with_angles(case, mode="symmetric", seed=0):
    """Random scales and angles as fine as the family takes them."""
    generator = torch.Generator().manual_seed(seed + 100)
    angles = 3 * torch.randn(case.layers, case.kv_heads, case.rotary_dim // 2, generator=generator, dtype=torch.float64)
    if case.finest != "kv_head":
        angles = angles[:, :1].expand_as(angles).contiguous()
    return replace(scales_of(case, mode, seed), angles=angles)


@pytest.mark.slow
@TURNED
def test_turned_pairs_leave_all_logits_and_a_one_sided_turn_does_not(build, tokens, name, monkeypatch):
    loaded, scales = build(name), with_angles(CASES[name])
    assert not loaded.geometry.scaled_gain
    with WIDE():
        plain = streamed(loaded, tokens)
        torch.testing.assert_close(streamed(loaded, tokens, Condition(scales=scales)), plain, **EXACT)
        from qroar_core.models import patch

        rows, sides = patch.turned_rows, []

        def one_side(here, slot, heads, angles, pairing):
            sides.append(slot.weight)
            wanted = len(sides) % 2 == 1 and slot.bias is None
            return rows(here, slot, heads, angles if wanted else torch.zeros_like(angles), pairing)

        monkeypatch.setattr(patch, "turned_rows", one_side)
        only_q = streamed(loaded, tokens, Condition(scales=scales))
    if not any("bias" in key for key, _ in loaded.model.named_parameters()):  # a bias is a call of its own
        assert float((only_q - plain).abs().max()) > 1e-2


@pytest.mark.slow
@TURNED
def test_q_and_k_are_turned_by_the_angle_of_their_pair(build, tokens, name):
    """Complex numbers, spelled out: z -> z g e^(i alpha) for q, z / g e^(i alpha) for k, after RoPE as before."""
    loaded, case, scales = build(name), CASES[name], with_angles(CASES[name])
    before, after = Taps(), Taps()
    with WIDE():
        streamed(loaded, tokens, taps=before)
        streamed(loaded, tokens, Condition(scales=scales), taps=after)
    layer = next(i for i in range(case.layers) if i not in case.unrotated)
    band_of = {p: b for b, (first, last) in enumerate(bands_of(case)) for p in range(first, last + 1)}
    for head in range(case.kv_heads):
        for pair in range(case.rotary_dim // 2):
            first, second = (c for c in range(case.head_dim) if pair_of(case, c) == pair)
            turn = cmath.exp(1j * float(scales.angles[layer, head, pair]))
            g = float(scales.g[layer, head, band_of[pair]])
            for taps, gain, x in ((after.q, g, head * case.group), (after.k, 1 / g, head)):
                own = (before.q if taps is after.q else before.k)[layer][x]
                z = torch.complex(own[:, first], own[:, second]) * turn * gain
                here = torch.complex(taps[layer][x][:, first], taps[layer][x][:, second])
                torch.testing.assert_close(here, z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["llama, 1 KV head", "gpt_neox", "glm4", "phi3", "deepseek_v3", "stablelm"])
def test_an_export_with_angles_reloads_in_plain_transformers(build, tokens, name, tmp_path):
    from transformers import AutoModelForCausalLM

    loaded, scales = build(name), with_angles(CASES[name], "shared", seed=3)
    with WIDE():
        patched = streamed(loaded, tokens, Condition(scales=scales))
        folder = hf.run(loaded, RopeSpec(), scales, tmp_path / "out")
        again = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
        )
        torch.testing.assert_close(plain_logits(again.eval(), tokens), patched, **EXACT)


def test_a_file_keeps_the_angles_and_says_so_by_its_version(build, tmp_path):
    loaded, scales = build("llama, 1 KV head"), with_angles(CASES["llama, 1 KV head"])
    path = tmp_path / "scales.json"
    content = to_file(loaded, RopeSpec(), QuantSpec(), scales)
    path.write_text(content.to_json())
    again, read = from_file(path, loaded)
    assert read.version == 2
    assert torch.equal(again.angles, scales.angles)
    assert torch.equal(again.g, scales.g)
    alone = to_file(loaded, RopeSpec(), QuantSpec(), replace(scales, angles=None))
    assert alone.version == 1
    assert "angles" not in alone.to_json()


def test_a_file_with_angles_of_another_shape_is_refused_in_one_line(build, tmp_path):
    loaded, scales = build("llama, 1 KV head"), with_angles(CASES["llama, 1 KV head"])
    content = to_file(loaded, RopeSpec(), QuantSpec(), scales)
    path = tmp_path / "scales.json"
    path.write_text(content.model_copy(update={"angles": [row[:-1] for row in content.angles]}).to_json())
    with pytest.raises(BadScales, match="angles") as error:
        from_file(path, loaded)
    assert "\n" not in str(error.value)


def test_a_norms_gain_takes_no_turn(build):
    loaded = build("qwen3")
    held = {name: p.clone() for name, p in loaded.model.named_parameters()}
    with pytest.raises(BadSpec, match="gain cannot turn a pair") as error:
        apply_scales(loaded, with_angles(CASES["qwen3"]))
    assert "\n" not in str(error.value)
    assert all(torch.equal(p, held[name]) for name, p in loaded.model.named_parameters())


def test_angles_come_off_bit_for_bit(build):
    loaded = build("llama, 1 KV head")
    held = {name: (p.data_ptr(), p.clone()) for name, p in loaded.model.named_parameters()}
    apply_scales(loaded, with_angles(CASES["llama, 1 KV head"]))
    assert any(p.data_ptr() != held[name][0] for name, p in loaded.model.named_parameters())
    undo_scales(loaded)
    for name, p in loaded.model.named_parameters():
        assert p.data_ptr() == held[name][0]
        assert torch.equal(p, held[name][1])


@pytest.mark.parametrize("name", ["llama, 1 KV head", "glm4", "stablelm"])
def test_the_cached_error_turns_as_the_weights_do(build, tokens, name):
    """The cached error of captured q and k at a point is that of q and k captured from the patched model at none."""
    from qroar_core.interpolations.bands import band_of_channel
    from qroar_core.specs import QuantizerSpec

    loaded, case, scales = build(name), CASES[name], with_angles(CASES[name])
    band = band_of_channel(scales.bands, case.head_dim, case.rotary_dim, case.pairing)
    with WIDE():
        plain = capture(loaded, RopeSpec(), tokens, 30)
        with substituted_weights(loaded, scaled_parameters(loaded, scales)):
            moved = capture(loaded, RopeSpec(), tokens, 30)
    int4, pairing = QuantSpec(k=QuantizerSpec(4)), case.pairing
    setup = ErrorSetup(int4, "symmetric", band, plain.scaling, pairing, plain.cos, plain.sin, "rows")
    here = attention_error(plain.windows[0][0], scales.point[0].float(), plain.metric[0], setup)
    nothing = torch.zeros(case.kv_heads, len(scales.bands))
    there = attention_error(moved.windows[0][0], nothing, plain.metric[0], setup)
    assert float(here.sum()) > 0
    torch.testing.assert_close(here.sum(), there.sum(), rtol=0.05, atol=0)  # float32: a code may round the other way


def test_finished_codes_take_no_turn_and_nothing_is_written(tmp_path):
    """A GGUF file and a packed folder: one line, before anything is written."""
    from qroar_core.exporters import gguf_copy
    from qroar_core.transforms.result import ScalesFile
    from tests.exporters.scales_file import write_scales
    from tests.models.gguf_files import Q, write_model

    source = write_model(tmp_path / "m.gguf", Q.Q6_K)
    path, _ = write_scales(tmp_path / "s.json", source)
    content = ScalesFile.from_file(path)
    pairs = content.model.rotary_dim // 2
    angles = [[[0.1] * pairs] * content.model.kv_heads] * content.model.layers
    path.write_text(content.model_copy(update={"version": 2, "angles": angles}).to_json())
    with pytest.raises(BadScales, match="finished codes stay as they are") as error:
        gguf_copy.run(source, path, None, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_half_the_way_to_identity():
    scales = Scales(
        "symmetric",
        "kv_head",
        ((0, 1),),
        torch.full((1, 1, 1), 4.0, dtype=torch.float64),
        torch.tensor([[[0.4, -0.2]]], dtype=torch.float64),
    )
    half = scales.toward_identity(0.5)
    assert half.g.item() == 2.0
    assert half.angles.flatten().tolist() == [0.2, -0.1]
    assert not half.is_identity
    assert scales.toward_identity(0.0).is_identity
    assert scales.point.flatten().tolist() == [2.0, 0.4, -0.2]


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_a_quarter_turn_moves_the_first_channel_onto_the_second(pairing):
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]], dtype=torch.float64)  # two pairs and one plain channel
    quarter = torch.tensor([[cmath.pi / 2, 0.0]], dtype=torch.float64)
    expected = [-3.0, 2.0, 1.0, 4.0, 5.0] if pairing == "half" else [-2.0, 1.0, 3.0, 4.0, 5.0]
    torch.testing.assert_close(turned(x, quarter, pairing).flatten(), torch.tensor(expected, dtype=torch.float64))
