"""Any number of a config set to what it cannot be: one line at once, or a model that computes as before.

No size reaches the memory: the loads run under a limit of address space, in a process of their own.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from qroar_core.errors import BadCheckpoint, QRoarError
from qroar_core.models.config_scales import refuse_scales_of_layers
from qroar_core.models.formats.gguf.opened import open_gguf
from qroar_core.models.load import run as load_model
from qroar_core.models.size_check import check_sizes
from qroar_core.models.sources import DEMO
from tests.models.config_numbers import VALUES, numbers, with_value
from tests.models.gguf_files import write_model
from tests.models.hub_configs import HUB
from tests.models.hub_folders import random_model

ROOT = Path(__file__).parents[2]
STRIDE = 17
OWN = re.compile(  # what a config alone decides, within the bounds that it is checked against
    r"theta|beta_|freq_factor|\.factor|mscale|swiglu|multiplier|_scal|softcapping|base_freq|rotary_emb_base|eps"
    r"|(long|short)_factor|attention_factor|query_pre_attn_scalar|num_experts_per_tok|topk|norm_min"
    r"|max_position_embeddings|partial_rotary_factor|no_rope_layers|sliding_window_pattern"
)


def outcomes(folders, stride):
    """What `config_numbers` found, a table a change."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.config_numbers", str(stride), *map(str, folders)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found):
    assert [one for one in found if one["how"] == "escaped"] == []
    assert [
        (one["folder"], one["path"], one["value"])
        for one in found
        if one["how"] == "other" and not OWN.search(one["path"])
    ] == []
    lines = [one["said"] for one in found if one["how"] == "refused"]
    assert [line for line in lines if "\n" in line or len(line) > 500 or line.count(" ") < 4] == []
    for one in found:
        size = one["path"] in ("num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size")
        size = size or (one["path"].endswith("max_position_embeddings") and one["value"] in ("0", "-1", "nan"))
        if size or (one["path"].endswith("theta") and one["value"] in ("0", "-1", "nan")):
            assert one["how"] == "refused", one


def test_numbers_of_the_demos_config(tmp_path):
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder)
    found = outcomes([folder], 3)
    assert len(found) >= 30
    check(found)


@pytest.fixture
def hub_folders(tmp_path, byte_tokenizer):
    def write(names):
        for name in names:
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(HUB[name]))
            random_model(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
            (folder / "generation_config.json").unlink(missing_ok=True)
            byte_tokenizer.save_pretrained(folder)
            (folder / "config.json").write_text(json.dumps(HUB[name]))
        return [tmp_path / name for name in names]

    return write


@pytest.mark.slow
def test_numbers_of_the_config_of_every_family(hub_folders):
    """A family's first value is the next one's second: a stride prime to their number goes through all of them."""
    assert math.gcd(STRIDE, len(VALUES)) == 1
    check(outcomes(hub_folders(list(HUB)), STRIDE))


SHAPES = {"model.embed_tokens.weight": (512, 64), "model.layers.1.self_attn.q_proj.weight": (64, 64)}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_hidden_layers": 10**9}, "config.json says 1e[+]09 layers, the weights hold 2; .* first model.layers.2"),
        ({"n_layer": 3}, "says 3 layers, the weights hold 2"),
        ({"text_config": {"num_hidden_layers": 3}}, "says 3 layers"),
        ({"text_config": {"hidden_size": 10**9}}, "text_config.hidden_size is 1e[+]09, the longest side .* is 512"),
        ({"num_experts": 10**6}, "num_experts is 1e[+]06"),
        ({"n_routed_experts": 10**6}, "n_routed_experts is 1e[+]06"),
    ],
)
def test_a_size_past_the_header_is_refused_before_the_config_is_read(said, message):
    with pytest.raises(BadCheckpoint, match=message):
        check_sizes(said, SHAPES, "model.layers", "here")
    check_sizes(
        {
            "num_hidden_layers": 2,
            "hidden_size": 64,
            "vocab_size": 512,
            "sliding_window_size": 10**6,
            "max_length": 10**6,
        },
        SHAPES,
        "model.layers",
        "here",
    )


def test_layers_past_the_header_never_reach_transformers(tmp_path, monkeypatch):
    """The fault of before: a list with an entry a layer, made while the config was read."""
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"num_hidden_layers": 10**9}))
    monkeypatch.setattr("qroar_core.models.load.read_config", None)  # not callable
    with pytest.raises(BadCheckpoint, match="the weights hold 4"):
        load_model(str(folder), device="cpu")


GGUF_SIZES = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "rope.dimension_count",
)


@pytest.mark.parametrize("key", GGUF_SIZES)
@pytest.mark.parametrize("value", [0, 10**9, (1 << 32) - 1])
def test_a_size_of_a_gguf_header_past_its_tensors_is_refused(tmp_path, monkeypatch, key, value):
    path = tmp_path / "m.gguf"
    path.write_bytes(with_entry(write_model(tmp_path / "good.gguf"), f"llama.{key}", value))
    if value:
        monkeypatch.setattr("numpy.arange", lambda *_: pytest.fail("rows were laid out"))
    with pytest.raises(QRoarError) as caught:
        open_gguf(path)
    assert "\n" not in str(caught.value)
    assert key in str(caught.value)


def with_entry(path, key, value):
    """The bytes of a good file with one whole number set."""
    from qroar_core.models.formats.gguf.header import read_header
    from qroar_core.models.formats.gguf.header_entries import entry, header_bytes

    header = read_header(path)
    entries = header.entries | {key: entry(key, 4, value)}
    return (
        header_bytes(entries.values(), header.tensors.values(), header.alignment)
        + (path.read_bytes()[header.data_start :])
    )


def test_every_number_of_a_config_is_tried():
    raw = {"a": 1, "b": True, "c": {"d": [2.0, 3.0]}, "e": None}
    assert list(numbers(raw)) == [("a",), ("c", "d", 0), ("c", "d", 1)]
    assert with_value(raw, ("c", "d", 1), 1e9) == {"a": 1, "b": True, "c": {"d": [2.0, 10**9]}, "e": None}
    assert len(VALUES) == 6


SCALES = {  # folder of HUB: keys that logits, activations or experts are multiplied or divided by, or their root taken
    "Gemma2": (
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "rms_norm_eps",
        "head_dim",
    ),
    "Gemma3-1b": ("query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping", "rms_norm_eps"),
    "Granite3": ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"),
    "Granite4-H": (
        "num_experts_per_tok",
        "attention_multiplier",
        "embedding_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ),
    "CommandR": ("logit_scale", "layer_norm_eps"),
    "DSV3": (
        "routed_scaling_factor",
        "rope_scaling.mscale_all_dim",
        "rope_scaling.factor",
        "rms_norm_eps",
        "topk_group",
        "n_group",
    ),
    "FalconH1": (
        "key_multiplier",
        "lm_head_multiplier",
        "attention_out_multiplier",
        "mlp_multipliers.0",
        "rms_norm_eps",
    ),
    "gpt-oss": ("swiglu_limit", "rms_norm_eps"),
    "Qwen2-MoE": ("decoder_sparse_step",),
    "Qwen3-Next": ("full_attention_interval", "decoder_sparse_step"),
}


def path_of(key):
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_that_is_no_number_above_0_is_refused_by_its_name(hub_folders, name):
    (folder,) = hub_folders([name])
    load_model(str(folder), device="cpu", dtype="float32")
    answered = []
    for key in SCALES[name]:
        for value in (0, -1, -0.5, float("nan"), float("inf"), -float("inf")):
            if "mscale" in key and value == 0:
                continue  # no factor on attention
            (folder / "config.json").write_text(json.dumps(with_value(HUB[name], path_of(key), value)))
            with pytest.raises(BadCheckpoint) as caught:
                load_model(str(folder), device="cpu", dtype="float32")
            answered.append((str(caught.value), key.removesuffix(".0")))
    assert [(said, key) for said, key in answered if not re.search(rf"{key}(\.0)? is|'{key}'", said)] == []


def test_a_cap_of_null_is_off(hub_folders):
    (folder,) = hub_folders(["Gemma2"])
    off = HUB["Gemma2"] | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    (folder / "config.json").write_text(json.dumps(off))
    assert load_model(str(folder), device="cpu", dtype="float32").model.config.attn_logit_softcapping is None


@pytest.mark.parametrize("value", [0, 0.0, -0.25, complex(0, 1), float("nan"), float("inf")])
def test_a_scale_that_a_layer_computed_is_looked_at_whatever_its_key_is_called(value):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model[0].scaling = 0.25
    model[0].unlimited = (0.0, float("inf"))
    refuse_scales_of_layers(model, "m")
    model[0].scaling = value
    with pytest.raises(BadCheckpoint, match=r"^m: 0\.scaling becomes .*; check the numbers in config.json"):
        refuse_scales_of_layers(model, "m")


def test_the_largest_step_of_mamba_may_be_infinite(hub_folders):
    (folder,) = hub_folders(["Granite4-H"])
    plain = load_model(str(folder), device="cpu", dtype="float32")
    for steps in ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}]):  # of transformers 4 and 5
        (folder / "config.json").write_text(json.dumps(HUB["Granite4-H"] | {"time_step_limit": steps}))
        loaded = load_model(str(folder), device="cpu", dtype="float32")
        assert loaded.model.config.time_step_limit == (0.0, float("inf"))
        ids = torch.arange(1, 17)[None]
        with torch.no_grad():
            assert torch.equal(loaded.model(ids).logits, plain.model(ids).logits)
    for steps in ([0.5, 0.1], [-1.0, 2.0], [0.0, -float("inf")], [0.0]):
        (folder / "config.json").write_text(json.dumps(HUB["Granite4-H"] | {"time_step_limit": steps}))
        with pytest.raises(BadCheckpoint, match="time_step_limit"):
            load_model(str(folder), device="cpu", dtype="float32")
