"""The checkpoint's own interpolation: named, said where another replaces it, and never a smaller promise on export.

The oracle of an export is transformers itself: its config reloaded gives the frequencies that the stream ran with.
"""

from __future__ import annotations

import json

import pytest
import torch

from qroar_core.exporters import hf
from qroar_core.exporters.card import CARD
from qroar_core.interpolations.frequencies import native_inv_freq, rope_of
from qroar_core.models.own_rope import exported_context, native_from, own_rope, replaced_rope, replacing
from qroar_core.runs.setting_presets import SETTING_PRESETS, preset_in_force, what_it_shows
from qroar_core.setting import INT4_K
from qroar_core.specs import RopeSpec

THETA = {"rope_theta": 10_000.0}
LLAMA3 = THETA | {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = THETA | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LISTS = {"long_factor": [2.0] * 8, "short_factor": [1.0] * 8}
ALIKE = dict.fromkeys(LISTS, [2.0] * 8)
FACTORS = [
    1.0,
    1.0,
    10 ** (1 / 4),
    10 ** (-1 / 4),
    1.0,
    1.0,
    1e14 * 10**-3.0,
    1e14 * 10**-3.5,
]  # theta^(1/8) = 10^(1/2)
TIED = dict.fromkeys(LISTS, FACTORS)


@pytest.fixture
def llama3(tiny):
    """As Llama 3.1 ships: trained to 32 tokens, stretched to 256."""
    return tiny(rope_parameters=dict(LLAMA3), max_position_embeddings=256)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (THETA | {"rope_type": "default"}, "none"),
        (LLAMA3, "llama3 x8 (from 32)"),
        (YARN, "yarn x4 (from 16)"),
        (THETA | {"rope_type": "linear", "factor": 2.5}, "linear x2.5"),
        (THETA | {"rope_type": "dynamic", "factor": 2.0}, "dynamic x2"),
        (THETA | LISTS | {"rope_type": "longrope", "original_max_position_embeddings": 16}, "longrope x4 (from 16)"),
        (
            THETA | LISTS | {"rope_type": "longrope", "factor": 3.0, "original_max_position_embeddings": 16},
            "longrope x3 (from 16)",
        ),
        (
            THETA | ALIKE | {"rope_type": "longrope", "factor": 3.0, "original_max_position_embeddings": 16},
            "longrope x3 (from 16)",
        ),
        (
            THETA | TIED | {"rope_type": "longrope", "factor": 1.0, "original_max_position_embeddings": 64},
            "longrope x1 (from 64), tied 2–3, still 6–7",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_it_is_called_as_its_config_says(tiny, block, words):
    loaded = tiny(rope_parameters=dict(block))
    assert own_rope(loaded) == words
    assert replaced_rope(loaded, RopeSpec("linear", 2.0)) == ("" if words == "none" else words)
    assert replaced_rope(loaded, RopeSpec()) == ""


def test_what_the_checkpoint_ships_with_is_its_own_and_replaces_nothing(tiny):
    loaded = tiny(rope_parameters=dict(YARN))
    for same in (RopeSpec("yarn", 4.0), RopeSpec("yarn", 4.0, 16)):
        assert replaced_rope(loaded, same) == ""
        assert replacing(loaded, same) == "; yarn x4 is the checkpoint's own"
        assert torch.equal(rope_of(loaded, same, 64).inv_freq, rope_of(loaded, RopeSpec(), 64).inv_freq)
    for other in (RopeSpec("yarn", 2.0), RopeSpec("yarn", 4.0, 32), RopeSpec("yarn", 4.0, beta_fast=8.0)):
        assert replacing(loaded, other) == f"; yarn x{other.factor:g} replaces yarn x4 (from 16)"
    narrow = tiny(rope_parameters=YARN | {"beta_fast": 8.0})
    assert "replaces" in replacing(narrow, RopeSpec("yarn", 4.0))
    assert "own" in replacing(narrow, RopeSpec("yarn", 4.0, beta_fast=8.0))
    louder = tiny(rope_parameters=YARN | {"attention_factor": 1.5})
    assert "replaces" in replacing(louder, RopeSpec("yarn", 4.0))
    assert replacing(tiny(), RopeSpec("yarn", 4.0)) == ""
    assert replacing(loaded, RopeSpec()) == ""


@pytest.mark.parametrize("block", [YARN, LLAMA3, THETA | {"rope_type": "linear", "factor": 2.0}])
def test_what_a_checkpoint_with_an_interpolation_of_its_own_is_in_is_not_called_native(tiny, block):
    loaded = tiny(rope_parameters=dict(block))
    assert not torch.allclose(rope_of(loaded, RopeSpec(), 64).inv_freq.double(), native_inv_freq(loaded), rtol=1e-3)
    assert preset_in_force(loaded, RopeSpec(), INT4_K) == "checkpoint's own RoPE, int4 K cache"
    assert not any("native" in name for name in SETTING_PRESETS)


def test_the_preset_of_own_rope_names_the_interpolation_that_a_checkpoint_ships_with(tiny):
    name = "checkpoint's own RoPE, int4 K cache"
    assert what_it_shows(tiny(), name) == SETTING_PRESETS[name].why
    said = what_it_shows(tiny(rope_parameters=dict(YARN)), name)
    assert said == "The checkpoint as it is, quantized, with the interpolation that it ships with (yarn x4 (from 16))."
    other = "YaRN ×2, int4 K cache"
    assert what_it_shows(tiny(rope_parameters=dict(YARN)), other) == SETTING_PRESETS[other].why


def gemma3(full):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"sliding_attention": THETA | {"rope_type": "default"}, "full_attention": full},
    )
    return Gemma3ForCausalLM(config)


def loaded_gemma3(full, byte_tokenizer, folder):
    from qroar_core.models.families import family_of
    from qroar_core.models.load import as_loaded
    from qroar_core.models.sources import Source

    model = gemma3(full)
    found = Source("tiny-gemma3", "tiny-gemma3", folder)
    return as_loaded(model, byte_tokenizer, family_of(["Gemma3ForCausalLM"], "x"), found, torch.device("cpu"))


def test_layers_that_differ_are_named_apart(byte_tokenizer, tokenizer_folder):
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0}
    loaded = loaded_gemma3(full, byte_tokenizer, tokenizer_folder)
    assert own_rope(loaded) == "full_attention: linear x8; sliding_attention: none"
    assert replaced_rope(loaded, RopeSpec("yarn", 2.0)) == "linear x8"  # sliding layers keep theirs
    plain = loaded_gemma3({"rope_type": "default", "rope_theta": 1e6}, byte_tokenizer, tokenizer_folder)
    assert own_rope(plain) == "none"


def test_where_the_native_window_comes_from_is_said(tiny, llama3):
    assert native_from(llama3) == "original_max_position_embeddings"
    assert llama3.geometry.original_context == 32
    assert native_from(tiny()) == "max_position_embeddings"
    linear = tiny(rope_parameters=THETA | {"rope_type": "linear", "factor": 4.0})
    assert linear.geometry.original_context == 64  # nothing is divided on a guess
    assert native_from(linear) == (
        "max_position_embeddings; linear x4 may have stretched it, the config names no window before"
    )


def test_a_result_says_what_was_replaced(llama3):
    assert replacing(llama3, RopeSpec("yarn", 2.0)) == "; yarn x2 replaces llama3 x8 (from 32)"
    assert replacing(llama3, RopeSpec()) == ""


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        (RopeSpec(), 256),
        (RopeSpec("yarn", 1.0), 256),
        (RopeSpec("yarn", 2.0), 256),
        (RopeSpec("yarn", 16.0), 512),
        (RopeSpec("linear", 2.0), 256),
        (RopeSpec("ntk", 2.0), 256),
        (RopeSpec("llama3", 16.0), 512),
        (RopeSpec("dynamic", 2.0), 32),  # transformers counts from this very entry
        (RopeSpec("longrope", 2.0, long_factor=(2.0,) * 8), 64),
    ],  # vLLM divides this entry by the native window
    ids=lambda x: f"{x.method} x{x.factor:g}" if isinstance(x, RopeSpec) else str(x),
)
def test_an_export_never_promises_less_and_reloads_with_the_frequencies_measured(llama3, tmp_path, rope, context):
    from transformers import AutoModelForCausalLM

    folder = hf.run(llama3, rope, None, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert again.config.max_position_embeddings == context
    rotary, longest = again.model.rotary_emb, 300
    rotary(torch.zeros(1, 1, 48), torch.arange(longest)[None])  # what depends on the length is set by a pass
    measured = rope_of(llama3, rope, longest)
    torch.testing.assert_close(rotary.inv_freq, measured.inv_freq, rtol=1e-6, atol=0)
    assert rotary.attention_scaling == pytest.approx(measured.attention_factor, rel=1e-6)


def test_a_window_given_by_hand_counts(llama3):
    assert exported_context(256, llama3.geometry, RopeSpec("yarn", 4.0, original_context=128)) == 512


def test_card_and_note_say_what_was_replaced_and_what_was_kept(llama3, tmp_path):
    folder = hf.run(llama3, RopeSpec("yarn", 2.0), None, tmp_path / "yarn")
    card = (folder / CARD).read_text()
    assert "written into `rope_parameters` of config.json; it replaces the source's own llama3 x8 (from 32)." in card
    assert json.loads((folder / "qroar.json").read_text())["replaces"] == "llama3 x8 (from 32)"
    kept = hf.run(llama3, RopeSpec(), None, tmp_path / "kept")
    assert "RoPE: as in the source, its own llama3 x8 (from 32) kept." in (kept / CARD).read_text()
