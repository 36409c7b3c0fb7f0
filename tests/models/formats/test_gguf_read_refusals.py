"""What is no whole model is refused by its name, in one line; what a file does not say is not made up."""

from __future__ import annotations

import re
import shutil

import gguf
import numpy as np
import pytest

from qroar_core.errors import QRoarError
from qroar_core.models.formats.gguf.opened import open_gguf
from tests.models.gguf_files import Q, write_model
from tests.models.gguf_zoo import write


def refusal(path):
    with pytest.raises(QRoarError) as error:
        open_gguf(path)
    assert "\n" not in str(error.value)
    assert str(path.parent) in str(error.value)
    return str(error.value)


def only_keys(path, architecture="llama", **entries):
    """A file with keys and no tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in entries.items():
        writer.add_string(key.replace("_", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("adapter", "a LoRA adapter, no model; merge it into its base model first"),
        ("imatrix", "an importance matrix, no model"),
        ("mmproj", r"an image or audio encoder \(mmproj\), no language model"),
        ("vocab", "a vocabulary, no model"),
        ("other", "general.type is 'other', no model"),
    ],
)
def test_a_file_that_holds_no_model_is_named(tmp_path, kind, named):
    path = write_model(tmp_path / "x.gguf", extra=lambda w: w.add_string("general.type", kind))
    assert re.search(named, refusal(path))


def test_an_image_encoder_of_before_general_type_is_named(tmp_path):
    path = only_keys(tmp_path / "x.gguf", "clip")
    assert "an image or audio encoder (mmproj), no language model" in refusal(path)


def test_a_vocabulary_without_a_model_is_named(tmp_path):
    path = only_keys(tmp_path / "x.gguf", tokenizer_ggml_model="gpt2")
    assert "a vocabulary without a model (no tensors)" in refusal(path)


def test_a_missing_shard_is_named(tmp_path):
    write("llama", tmp_path / "x.gguf", shard_tensors=12)
    (tmp_path / "x-00002-of-00003.gguf").unlink()
    for name in ("x-00001-of-00003.gguf", "x-00003-of-00003.gguf"):
        assert "shard x-00002-of-00003.gguf of 3 is missing" in refusal(tmp_path / name)


def test_a_shard_under_another_name_is_refused(tmp_path):
    write("llama", tmp_path / "x.gguf", shard_tensors=12)
    shutil.move(tmp_path / "x-00001-of-00003.gguf", tmp_path / "model.gguf")
    assert "one of 3 shards, and its name does not say which" in refusal(tmp_path / "model.gguf")


def test_shards_in_the_wrong_order_are_refused(tmp_path):
    write("llama", tmp_path / "x.gguf", shard_tensors=12)
    one, two = tmp_path / "x-00002-of-00003.gguf", tmp_path / "x-00003-of-00003.gguf"
    shutil.move(one, tmp_path / "y")
    shutil.move(two, one)
    shutil.move(tmp_path / "y", two)
    assert "it says shard 2 of 3, its name says 1 of 3" in refusal(tmp_path / "x-00001-of-00003.gguf")


@pytest.mark.parametrize("changed", ["q", "k"])
def test_an_unknown_type_of_a_tensor_is_named(tmp_path, changed):
    path = write_model(tmp_path / "x.gguf", kind=Q.F32)
    content = bytearray(path.read_bytes())
    at = content.index(f"blk.0.attn_{changed}.weight".encode()) + len("blk.0.attn_q.weight") + 4 + 2 * 8
    assert content[at] == Q.F32
    content[at] = int(Q.I32)
    path.write_bytes(content)
    assert f"blk.0.attn_{changed}.weight has type I32, which cannot be dequantized here" in refusal(path)


def test_a_big_endian_file_is_named(tmp_path):
    path = write_model(tmp_path / "x.gguf")
    content = bytearray(path.read_bytes())
    content[4:8] = content[4:8][::-1]
    path.write_bytes(content)
    assert "it is big-endian" in refusal(path)


@pytest.mark.parametrize(
    ("key", "add"),
    [
        ("rope.scaling.type", lambda w: w.add_string("llama.rope.scaling.type", "dynamic")),
        ("rope.scaling.alpha", lambda w: w.add_float32("llama.rope.scaling.alpha", 2.0)),
        ("attention.sliding_window", lambda w: w.add_uint32("llama.attention.sliding_window", 64)),
        ("attention.causal", lambda w: w.add_bool("llama.attention.causal", False)),
        ("attention.clamp_kqv", lambda w: w.add_float32("llama.attention.clamp_kqv", 8.0)),
        ("attention.scale", lambda w: w.add_float32("llama.attention.scale", 0.1)),
        ("logit_scale", lambda w: w.add_float32("llama.logit_scale", 0.1)),
        ("residual_scale", lambda w: w.add_float32("llama.residual_scale", 0.1)),
        ("final_logit_softcapping", lambda w: w.add_float32("llama.final_logit_softcapping", 30.0)),
        ("attention.value_length", lambda w: w.add_uint32("llama.attention.value_length", 32)),
        ("rope.scaling.yarn_log_multiplier", lambda w: w.add_float32("llama.rope.scaling.yarn_log_multiplier", 0.1)),
        ("rope.freq_base_swa", lambda w: w.add_float32("llama.rope.freq_base_swa", 10.0)),
        ("swin_norm", lambda w: w.add_bool("llama.swin_norm", True)),
    ],
)
def test_a_key_that_changes_the_model_and_is_not_known_is_refused(tmp_path, key, add):
    assert f"llama.{key}" in refusal(write_model(tmp_path / "x.gguf", extra=add))


@pytest.mark.parametrize(
    "add",
    [
        lambda w: w.add_string("general.url", "https://example.org"),
        lambda w: w.add_uint32("llama.vocab_size", 48),
        lambda w: w.add_bool("llama.attention.causal", True),
        lambda w: w.add_string("llama.tensor_data_layout", "Meta AI original pth"),
        lambda w: w.add_uint32("llama.expert_count", 0),
        lambda w: w.add_uint32("quantize.imatrix.chunks_count", 100),
        lambda w: w.add_uint32("llama.attention.sliding_window", 0),
        lambda w: w.add_float32("llama.attention.clamp_kqv", 0.0),
        lambda w: w.add_float32("llama.final_logit_softcapping", 0.0),
        lambda w: w.add_uint32("llama.expert_shared_count", 0),
        lambda w: w.add_array("general.tags", ["a", "b"]),
        lambda w: w.add_float32("general.sampling.temp", 0.6),
    ],
)
def test_a_key_that_changes_nothing_is_passed_over(tmp_path, add):
    assert open_gguf(write_model(tmp_path / "x.gguf", extra=add)).config["num_hidden_layers"] == 2


def test_deepseeks_factor_on_the_logits_without_yarn_is_refused(tmp_path):
    """llama.cpp takes it with any factor, transformers with YaRN alone."""
    path = tmp_path / "x.gguf"
    write("deepseek2", path, rope="linear")
    assert "deepseek2.rope.scaling.yarn_log_multiplier without YaRN" in refusal(path)


@pytest.mark.parametrize("lists", [("long",), ("short",)])
def test_half_of_longrope_is_refused(tmp_path, lists):
    def extra(writer):
        for name in lists:
            writer.add_tensor(f"rope_factors_{name}.weight", np.ones(32, np.float32))

    assert "only one of rope_factors_long.weight" in refusal(write_model(tmp_path / "x.gguf", extra=extra))


@pytest.mark.parametrize(("values", "said"), [(np.ones(31), "has shape [31]"), (np.zeros(32), "not positive")])
def test_wrong_divisors_are_refused(tmp_path, values, said):
    path = write_model(
        tmp_path / "x.gguf", extra=lambda w: w.add_tensor("rope_freqs.weight", values.astype(np.float32))
    )
    assert said in refusal(path)


def test_a_bias_of_one_layer_alone_is_refused(tmp_path):
    """Without this the other layers would get a bias of zero."""
    path = write_model(tmp_path / "x.gguf", extra=lambda w: w.add_tensor("blk.1.attn_v.bias", np.ones(128, np.float32)))
    assert "tensor blk.0.attn_v.bias is missing" in refusal(path)
