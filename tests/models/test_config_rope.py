"""RoPE that config.json states is computed with, or refused by name: in every family, however it is spelled.

Oracles: theta^(-2i/r) in closed form, and transformers' own rotary modules of a config without a second reading.
"""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
import transformers

from qroar_core.errors import QRoarError
from qroar_core.models.families import family_of
from qroar_core.models.load import read_config
from qroar_core.models.load import run as load_model
from qroar_core.models.own_rope import own_rope
from qroar_core.models.sources import Source
from tests.models.hub_configs import HUB
from tests.models.hub_folders import IDS

ABOUT_ROPE = (
    *("rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq", "rotary_emb_base"),
    *("original_max_position_embeddings", "initial_context_length"),
)
THETA, LOCAL, FACTOR = 20_000.0, 3_000.0, 4.0
FULL, SLIDING = "full_attention", "sliding_attention"
LINEAR = {"rope_type": "linear", "factor": FACTOR}
TYPED = {"type": "linear", "factor": FACTOR}
WITH_THETA = LINEAR | {"rope_theta": THETA}
KINDS = {FULL: WITH_THETA, SLIDING: {"rope_type": "default", "rope_theta": LOCAL}}
SPELLINGS = {  # what config.json holds: what the layers of each kind shall compute with, (theta, factor)
    "flat": ({"rope_parameters": WITH_THETA}, {FULL: (THETA, FACTOR), SLIDING: (THETA, FACTOR)}),
    "flat, type": (
        {"rope_parameters": TYPED | {"rope_theta": THETA}},
        {FULL: (THETA, FACTOR), SLIDING: (THETA, FACTOR)},
    ),
    "flat, no scaling": (
        {"rope_parameters": {"rope_type": "default", "rope_theta": THETA}},
        {FULL: (THETA, 1), SLIDING: (THETA, 1)},
    ),
    "old": ({"rope_scaling": LINEAR, "rope_theta": THETA}, {FULL: (THETA, FACTOR)}),
    "old, type": ({"rope_scaling": TYPED, "rope_theta": THETA}, {FULL: (THETA, FACTOR)}),
    "old, of Gemma 3": (
        {"rope_scaling": TYPED, "rope_theta": THETA, "rope_local_base_freq": LOCAL},
        {FULL: (THETA, FACTOR), SLIDING: (LOCAL, 1)},
    ),
    "kinds": ({"rope_parameters": KINDS}, {FULL: (THETA, FACTOR), SLIDING: (LOCAL, 1)}),
    "one kind": ({"rope_parameters": {FULL: WITH_THETA}}, {FULL: (THETA, FACTOR)}),
    "one kind, theta alone": (
        {"rope_parameters": {FULL: {"rope_type": "default", "rope_theta": THETA}}},
        {FULL: (THETA, 1)},
    ),
    "kinds under the old key": ({"rope_scaling": KINDS}, {FULL: (THETA, FACTOR), SLIDING: (LOCAL, 1)}),
    "kinds, type": (
        {"rope_scaling": {FULL: TYPED, SLIDING: {"type": "default"}}, "rope_theta": THETA},
        {FULL: (THETA, FACTOR)},
    ),
    "kinds, thetas beside them": (
        {"rope_parameters": {FULL: LINEAR, SLIDING: {"rope_type": "default"}}, "rope_theta": THETA}
        | {"rope_local_base_freq": LOCAL},
        {FULL: (THETA, FACTOR), SLIDING: (LOCAL, 1)},
    ),
    "the theta of the other kind": ({"rope_parameters": KINDS, "rope_theta": LOCAL}, {FULL: (LOCAL, FACTOR)}),
}


def config_of(folder, raw):
    """The config as loading reads it, or the line that refuses it."""
    (folder / "config.json").write_text(json.dumps(raw))
    try:
        return read_config(Source("x", "x", folder), raw), ""
    except QRoarError as error:
        return None, str(error)


def frequencies(config):
    """What each kind of layer turns by, "" where all are alike; as the model's own rotary module holds it."""
    family = family_of(config.architectures, "x")
    rotary = family.rotary(transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    kinds = dict.fromkeys(family.rope_kinds(config))
    return {kind: getattr(rotary, f"{kind}_inv_freq") for kind in kinds} or {"": rotary.inv_freq}


@pytest.mark.parametrize("name", HUB)
def test_stated_rope_is_computed_with_or_refused(name, tmp_path):
    base = {key: value for key, value in HUB[name].items() if key not in ABOUT_ROPE}
    for spelling, (said, wanted) in SPELLINGS.items():
        config, line = config_of(tmp_path, base | said)
        if config is None:
            assert re.fullmatch(r".*config\.json.*", line), (spelling, line)
            continue
        for kind, found in frequencies(config).items():
            if (kind or FULL) in wanted:  # else nothing was said about these layers
                theta, factor = wanted[kind or FULL]
                half = len(found)
                exact = theta ** (-torch.arange(half, dtype=torch.float64) / half) / factor
                torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0, msg=f"{spelling}: {kind}")


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        *((name, spelling) for name in ("Llama3.1", "Qwen2", "OLMo2") for spelling in ("flat, type", "old, type")),
        *(("Gemma3-1b", spelling) for spelling in SPELLINGS if spelling.startswith(("old", "kinds", "one kind"))),
    ],
)
def test_what_is_plainly_meant_is_not_refused(name, spelling, tmp_path):
    base = {key: value for key, value in HUB[name].items() if key not in ABOUT_ROPE}
    assert config_of(tmp_path, base | SPELLINGS[spelling][0])[1] == ""


GEMMA3 = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None}
REFUSED = {  # what is said about RoPE, and how it is refused
    "rope_parameters.full_attention: a llama model has one RoPE for all its layers; move the entries": (
        "SmolLM2",
        {"rope_parameters": {FULL: WITH_THETA}},
    ),
    "rope_scaling.full_attention: a qwen3 model has one RoPE": ("Qwen3", {"rope_scaling": {FULL: LINEAR}}),
    "rope_parameters.factor is 4.0, which a gemma3_text .*: full_attention layers compute with none; write": (
        "Gemma3-1b",
        GEMMA3 | {"rope_parameters": {"factor": FACTOR, "rope_type": "linear", "rope_theta": 1e6}},
    ),
    "rope_parameters.rope_theta is 1000000.0, which .*: sliding_attention layers compute with 10000": (
        "Gemma3-1b",
        GEMMA3 | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "rope_parameters.global: no layer is of that kind; name full_attention, sliding_attention": (
        "Gemma3-1b",
        GEMMA3 | {"rope_parameters": {"global": LINEAR}},
    ),
    "rope_theta is 10000.0, which .*: full_attention layers compute with 1000000": (
        "Gemma3-v5",
        {
            "rope_theta": 1e4,
            "rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": 1e6},
                SLIDING: {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "it names no RoPE scaling, and transformers would take yarn for it": ("gpt-oss", {"rope_scaling": None}),
    "initial_context_length is 128, which a gpt_oss model does not compute: it computes with 4096": (
        "gpt-oss",
        {"initial_context_length": 128},
    ),
    "original_max_position_embeddings is 2048, which a llama .*: it computes with 8192": (
        "Llama3.1",
        {"original_max_position_embeddings": 2048},
    ),
    "rope_scaling.original_max_position_embeddings is 2048, which a phi3": (
        "Phi3-128k",
        {"rope_scaling": {**HUB["Phi3-128k"]["rope_scaling"], "original_max_position_embeddings": 2048}},
    ),
}
# Microsoft's first "yarn" multiplied cos and sin by 1 + 0.1 ln(stretch), which transformers' LongRoPE does not
REFUSED["rope_scaling.type is yarn, which a phi3 .*: it computes with longrope"] = (
    "Phi3-128k",
    {"rope_scaling": {**HUB["Phi3-128k"]["rope_scaling"], "type": "yarn", "factor": 32.0}},
)


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_arrive_is_refused_by_name(message, tmp_path):
    name, said = REFUSED[message]
    line = config_of(tmp_path, HUB[name] | said)[1]
    assert re.search(f"config.json: {message}", line), line
    assert "\n" not in line


BLOCK = {"factor": 4.0, "beta_fast": 16.0, "beta_slow": 2.0}
SPELLED_TWICE = {  # config.json as people have it, and a RoPE block that has one reading only
    "Gemma 3, type": (
        "Gemma3-1b",
        GEMMA3 | {"rope_scaling": {"type": "linear", "factor": 8.0}},
        {
            FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            SLIDING: {"rope_type": "default", "rope_theta": 1e4},
        },
        "full_attention: linear x8; sliding_attention: none",
    ),
    "Gemma 3, YaRN of the type": (
        "Gemma3-1b",
        GEMMA3 | {"rope_scaling": BLOCK | {"type": "yarn", "original_max_position_embeddings": 128}},
        {
            FULL: BLOCK | {"rope_type": "yarn", "rope_theta": 1e6, "original_max_position_embeddings": 128},
            SLIDING: {"rope_type": "default", "rope_theta": 1e4},
        },
        "full_attention: yarn x4 (from 128); sliding_attention: none",
    ),
    "gpt-oss, a window beside the block": (
        "gpt-oss",
        {"rope_scaling": BLOCK | {"rope_type": "yarn"}, "initial_context_length": 128, "rope_theta": 1e4},
        BLOCK | {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 128},
        "yarn x4 (from 128)",
    ),
    "Llama, a window beside the block": (
        "SmolLM2",
        {"rope_scaling": BLOCK | {"type": "yarn"}, "original_max_position_embeddings": 128, "rope_theta": 1e4},
        BLOCK | {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 128},
        "yarn x4 (from 128)",
    ),
}


@pytest.mark.parametrize("case", SPELLED_TWICE)
def test_another_spelling_of_one_rope_is_the_same_model(case, hub_folder):
    name, said, block, words = SPELLED_TWICE[case]
    folder = hub_folder(HUB[name], **said)
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    assert own_rope(loaded) == words
    plain = {key: value for key, value in HUB[name].items() if key not in ABOUT_ROPE}
    (folder / "config.json").write_text(json.dumps(plain | {"rope_parameters": block}))
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        got, expected = loaded.model(IDS, use_cache=False).logits, oracle(IDS, use_cache=False).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


LISTS = {key: HUB["Phi3-128k"]["rope_scaling"][key] for key in ("short_factor", "long_factor")}
SU = {  # Phi-3 128k as Microsoft published it, and as tools wrote it since
    "first release": {"rope_scaling": LISTS | {"type": "su"}, "original_max_position_embeddings": 4096},
    "window inside": {
        "rope_scaling": LISTS | {"type": "su", "original_max_position_embeddings": 4096},
        "original_max_position_embeddings": 4096,
    },
    "window inside alone": {"rope_scaling": LISTS | {"type": "su", "original_max_position_embeddings": 4096}},
    "rope_type": {"rope_scaling": LISTS | {"rope_type": "su"}, "original_max_position_embeddings": 4096},
    "rope_parameters": {
        "rope_parameters": LISTS | {"rope_type": "su", "type": "su", "rope_theta": 1e4},
        "original_max_position_embeddings": 4096,
    },
    "longrope": {"rope_scaling": LISTS | {"type": "longrope"}, "original_max_position_embeddings": 4096},
}


@pytest.mark.parametrize("case", SU)
def test_the_first_name_of_longrope_is_longrope(case, hub_folder):
    """Closed form of modeling_phi3.py: theta^(-2i/r) / factor_i, the factor on cos and sin by the stretch."""
    base = {key: value for key, value in HUB["Phi3-128k"].items() if key not in ABOUT_ROPE} | {"rope_theta": 1e4}
    folder = hub_folder(HUB["Phi3-128k"])
    (folder / "config.json").write_text(json.dumps(base | SU[case]))
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    assert own_rope(loaded) == "longrope x32 (from 4096)"
    assert loaded.geometry.original_context == 4096
    rotary = loaded.family.rotary(loaded.model)
    plain = 1e4 ** (-torch.arange(8, dtype=torch.float64) / 8)
    for tokens, factors in ((4096, LISTS["short_factor"]), (4097, LISTS["long_factor"])):
        cos, _ = rotary(torch.zeros(1, 1, 16), torch.arange(tokens)[None])
        torch.testing.assert_close(rotary.inv_freq.double(), plain / torch.tensor(factors), rtol=1e-6, atol=0)
        assert float(cos[0, 0, 0]) == pytest.approx((1 + math.log(32) / math.log(4096)) ** 0.5, rel=1e-6)
