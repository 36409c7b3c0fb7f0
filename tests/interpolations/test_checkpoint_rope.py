"""A checkpoint's own interpolation under `--rope default`: as the same asked for, and as transformers itself moves.

The oracle is a finite difference, in the factor of the checkpoint's own block, of the frequencies and attention factor
that transformers' initialisers make of that block.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadSpec
from qroar_core.interpolations.checkpoint_rope import own_spec, promised_length, without_interpolation
from qroar_core.interpolations.frequencies import layer_group_ropes
from qroar_core.interpolations.pressure import attention_factor_slope, frequency_slope
from qroar_core.interpolations.pressure_of_methods import pressures
from qroar_core.models.text import Document
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantSpec, RopeSpec, SearchSpec
from tests.models.test_own_rope import loaded_gemma3

THETA, L0, S, L = 10_000.0, 32, 4.0, 112
STEP = 5e-3  # in ln s: float32 frequencies leave 2e-5 of noise
LONG = [1 + 0.4 * i for i in range(8)]
WINDOW = {"original_max_position_embeddings": L0}
BLOCKS = {
    "linear": {},
    "dynamic": {},
    "yarn": WINDOW,
    "llama3": WINDOW | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": WINDOW | {"long_factor": LONG, "short_factor": [1.0] * 8},
}
OTHER = {  # what an explicit setting has no option for, or another value than its own
    "yarn whole borders": ("yarn", WINDOW | {"beta_fast": 3.0, "beta_slow": 0.5}),
    "yarn between pairs": ("yarn", WINDOW | {"beta_fast": 3.0, "beta_slow": 0.5, "truncate": False}),
    "yarn fixed": ("yarn", WINDOW | {"attention_factor": 1.3}),
    "yarn mscale": ("yarn", WINDOW | {"mscale": 0.7, "mscale_all_dim": 0.4}),
    "llama3 borders": ("llama3", WINDOW | {"low_freq_factor": 0.5, "high_freq_factor": 6.0}),
    "longrope fixed": ("longrope", BLOCKS["longrope"] | {"attention_factor": 1.2}),
}
TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
SPEC = DiagnosisSpec(length=L, short_length=16, paired_tokens=16, windows=2, eps=0.05, bands=BandSpec(4), chunk=40)


def shipped(tiny, name, more, factor=S, **options):
    """A tiny Llama whose config asks for this interpolation."""
    block = {"rope_type": name, "rope_theta": THETA, "factor": factor} | more
    longest = L0 if name in ("linear", "dynamic") else int(L0 * S)
    return tiny(rope_parameters=block, max_position_embeddings=longest, **options)


def by_transformers(loaded, name, factor):
    """inv_freq and attention factor of the checkpoint's own block at another factor."""
    config = copy.deepcopy(loaded.model.config)
    config.rope_parameters["factor"] = factor
    if name == "longrope":  # the documented geometric path through the list, which holds at S
        part = math.log(factor) / math.log(S)
        config.rope_parameters["long_factor"] = [x**part for x in LONG]
    inv_freq, attention = ROPE_INIT_FUNCTIONS[name](config, None, seq_len=L)
    return inv_freq.double(), attention


@pytest.mark.parametrize(
    ("name", "more"), [*BLOCKS.items(), *OTHER.values()], ids=[*BLOCKS, *(name.replace(" ", "-") for name in OTHER)]
)
def test_the_own_interpolation_moves_as_transformers_moves_it(tiny, name, more):
    loaded = shipped(tiny, name, more)
    (turning,) = layer_group_ropes(loaded, RopeSpec(), L)
    (up, above), (down, below) = (by_transformers(loaded, name, S * math.exp(e)) for e in (STEP, -STEP))
    expected = (up - down) / (2 * STEP)
    assert bool((expected < -1e-4).any())
    slope = frequency_slope(turning.at)
    assert torch.allclose(slope, expected, rtol=5e-4, atol=3e-5 * float(expected.abs().max()))
    moved = (math.log(above) - math.log(below)) / (2 * STEP)
    assert attention_factor_slope(turning.at) == pytest.approx(moved, abs=1e-6)
    assert torch.equal(turning.at.scaled.float(), by_transformers(loaded, name, S)[0].float())  # itself unchanged


def asked(name):
    return RopeSpec(name, S)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_diagnosis_and_a_search_find_what_they_find_when_it_is_asked_for(tiny, name):
    loaded = shipped(tiny, name, BLOCKS[name], dtype=torch.float64)
    own, same = (
        diagnose.run(loaded, Setting(rope, QuantSpec(), diagnosis=SPEC), TEXT) for rope in (RopeSpec(), asked(name))
    )
    near = {"rel": 1e-6, "abs": 1e-12}
    assert max(b.interpolation_pressure for b in own.bands) > 0.1
    for field in ("interpolation_pressure", "logit_weighted_pressure", "logit_change", "phase_displacement"):
        values, expected = ([getattr(b, field) for b in found.bands] for found in (own, same))
        assert values == pytest.approx(expected, **near)
    for field in ("in_all", "in_all_bound", "in_all_null", "by_band", "bound"):
        assert getattr(own.logit_change, field) == pytest.approx(getattr(same.logit_change, field), **near)
    assert own.logit_change.in_all > 1e-3
    for which, table in own.tails.items():
        for layer, expected in zip(table.native, same.tails[which].native, strict=True):
            assert [x for head in layer for x in head] == pytest.approx([x for head in expected for x in head], **near)
    search = SearchSpec(bands=SPEC.bands, length=L)
    bounds = [SearchProblem(loaded, rope, QuantSpec(), search, {}).bounds(None) for rope in (RopeSpec(), asked(name))]
    assert torch.allclose(*bounds, rtol=1e-6)
    assert float(bounds[0].std(dim=1).max()) > 1e-3  # not 4 octaves for every band


def test_a_search_space_follows_the_tails_and_pressure_of_the_checkpoint(tiny):
    """Without its own interpolation every band may go as far: 4 octaves."""
    plain = tiny(rope_parameters={"rope_type": "default", "rope_theta": THETA}, max_position_embeddings=L0)
    search = SearchSpec(bands=SPEC.bands, length=L)
    bounds = SearchProblem(plain, RopeSpec(), QuantSpec(), search, {}).bounds(None)
    assert bounds[..., 1].flatten().tolist() == [4.0] * 8


@pytest.mark.parametrize("name", BLOCKS)
def test_native_tails_are_over_short_windows_without_any_interpolation(tiny, name):
    """Read by the same weights in a checkpoint that ships none: its short windows are the denominator."""
    loaded = shipped(tiny, name, BLOCKS[name], dtype=torch.float64)
    plain = tiny(
        rope_parameters={"rope_type": "default", "rope_theta": THETA}, max_position_embeddings=L0, dtype=torch.float64
    )
    own, without = (diagnose.run(x, Setting(RopeSpec(), QuantSpec(), diagnosis=SPEC), TEXT) for x in (loaded, plain))
    for which, table in own.tails.items():
        long, short = (torch.tensor(x).double() for x in (table.long, without.tails[which].short))
        assert torch.allclose(torch.tensor(table.native).double(), long / short, rtol=1e-4)
    assert without.tails["k/post"].native is None
    assert "native" not in without.seconds


def test_a_checkpoint_whose_softmax_scale_comes_from_its_factor_has_no_native_pass(tiny):
    loaded = shipped(tiny, "yarn", WINDOW | {"mscale": 0.7, "mscale_all_dim": 0.4})
    assert without_interpolation(loaded) is None
    found = diagnose.run(loaded, Setting(RopeSpec(), QuantSpec(), diagnosis=SPEC), TEXT)
    assert found.tails["k/post"].native is None
    assert found.logit_change.in_all > 0


def test_layers_of_a_kind_move_with_their_own_block(byte_tokenizer, tokenizer_folder):
    """Gemma 3 stretches its layers with full attention alone; another interpolation leaves the sliding ones too."""
    full = {"rope_type": "linear", "rope_theta": THETA, "factor": 8.0}
    loaded = loaded_gemma3(full, byte_tokenizer, tokenizer_folder)
    for rope, factor in ((RopeSpec(), 8), (RopeSpec("linear", 2.0), 2)):
        wide, near = layer_group_ropes(loaded, rope, L)
        assert torch.allclose(frequency_slope(wide.at), -wide.at.native / factor)
        assert not frequency_slope(near.at).any()


def test_the_methods_side_by_side_show_it_at_its_own_factor(tiny):
    loaded = shipped(tiny, "yarn", BLOCKS["yarn"])
    found = pressures(loaded, RopeSpec(), 6.0, L, "causal", BandSpec(4))
    same = pressures(loaded, asked("yarn"), S, L, "causal", BandSpec(4))
    own = next(m for m in found.methods if m.chosen)
    assert (own.method, own.factor) == ("default", S)
    assert own.pressure == pytest.approx(next(m for m in same.methods if m.chosen).pressure, rel=1e-6)
    assert next(m for m in found.methods if m.method == "yarn").factor == 6
    lists = shipped(tiny, "longrope", BLOCKS["longrope"], factor=None)
    shown = {m.method: m for m in pressures(lists, RopeSpec(), 6.0, 50, "causal", BandSpec(4)).methods}
    assert shown["longrope"].factor == shown["default"].factor == S  # its two windows, not 50 tokens over 32
    assert shown["longrope"].pressure == shown["default"].pressure


def test_a_block_is_read_back_as_it_was_asked_for():
    assert own_spec({"rope_type": "default", "rope_theta": THETA}, 128) == RopeSpec()
    assert own_spec({}, 128) == RopeSpec()
    yarn = {"rope_type": "yarn", "factor": 4, "beta_fast": 16, "beta_slow": None} | WINDOW
    assert own_spec(yarn, 128) == RopeSpec("yarn", 4.0, L0, beta_fast=16.0)
    assert own_spec({"rope_type": "longrope", **BLOCKS["longrope"]}, 96).factor == 3  # as transformers has it
    assert own_spec({"rope_type": "dynamic", "factor": 2.0} | WINDOW, 128).original_context == 128  # likewise
    with pytest.raises(BadSpec, match="the checkpoint's own linear: factor must be at least 1"):
        own_spec({"rope_type": "linear", "factor": 0.5}, 128)
    with pytest.raises(BadSpec, match="how proportional RoPE moves with its factor is not known"):
        own_spec({"rope_type": "proportional", "factor": 2.0}, 128)
    assert own_spec({"rope_type": "proportional"}, 128) == RopeSpec()


@pytest.mark.parametrize(
    ("block", "longest", "asked", "promised"),
    [
        ({"rope_type": "default"}, 128, RopeSpec(), 128),
        ({"rope_type": "default"}, 128, RopeSpec("linear", 2.0), 256),
        ({"rope_type": "yarn", "factor": 4.0} | WINDOW, 128, RopeSpec(), 128),
        ({"rope_type": "yarn", "factor": 4.0} | WINDOW, 128, RopeSpec("yarn", 2.0), 64),  # of its native 32, replaced
        ({"rope_type": "yarn", "factor": 4.0} | WINDOW, 32, RopeSpec(), 128),  # a config that did not raise it
        ({"rope_type": "llama3", "factor": 8.0} | BLOCKS["llama3"], 512, RopeSpec(), 512),  # as Llama 3.1: more than x8
        ({"rope_type": "longrope", "factor": 4.0} | BLOCKS["longrope"], 128, RopeSpec(), 128),
        ({"rope_type": "linear", "factor": 4.0}, 128, RopeSpec(), 128),  # the config names no window before
        ({"rope_type": "dynamic", "factor": 4.0}, 32, RopeSpec(), 128),  # counts from max_position_embeddings
    ],
)
def test_the_context_that_an_interpolation_promises(tiny, block, longest, asked, promised):
    loaded = tiny(rope_parameters={"rope_theta": THETA} | block, max_position_embeddings=longest)
    assert promised_length(loaded, asked) == promised
