"""What a person can get wrong when loading, each answered in one line; and that a loaded model is the saved one."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.errors import BadCheckpoint, BadSpec, Cancelled, UnsupportedModel
from qroar_core.models import load
from qroar_core.models.devices import choose_device
from qroar_core.models.load import choose_dtype
from qroar_core.models.load import run as load_model
from qroar_core.progress import Step

WEIGHTS = "model.safetensors"


@pytest.fixture
def saved(tiny, byte_tokenizer, tmp_path):
    """`saved(family="llama", **config)` -> (folder, the model that was saved)."""

    def save(family="llama", **options):
        loaded = tiny(family, **options)
        folder = tmp_path / family
        loaded.model.save_pretrained(folder)
        byte_tokenizer.save_pretrained(folder)
        return folder, loaded

    return save


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_a_saved_model_loads_as_it_was(saved, ids, family):
    folder, original = saved(family)
    loaded, tokens, steps = load_model(str(folder), device="cpu", dtype="float32"), ids(2, 50), []
    with torch.inference_mode():
        assert torch.equal(loaded.model(tokens).logits, original.model(tokens).logits)
    assert loaded.geometry == original.geometry
    assert loaded.fingerprint == original.fingerprint
    assert (loaded.name, loaded.family.name, loaded.applied) == (family, family, None)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    geometry = loaded.geometry
    assert (geometry.n_heads, geometry.n_kv_heads, geometry.head_dim, geometry.rotary_dim) == (4, 2, 16, 16)
    assert (geometry.queries_per_kv, geometry.n_pairs, geometry.original_context, geometry.theta) == (2, 8, 64, 1e4)
    assert geometry.parameters == sum(p.numel() for p in original.model.parameters())
    load.run(str(folder), device="cpu", on_step=steps.append)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].fraction == 1


def test_a_fingerprint_names_the_weights(saved):
    folder, original = saved()
    tensors = load_file(folder / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_model(str(folder), device="cpu").fingerprint != original.fingerprint
    assert load_model(str(folder), device="cpu", dtype="bfloat16").fingerprint != original.fingerprint


def test_loading_can_be_cancelled_at_every_step(saved):
    folder, _ = saved()
    for stop in range(5):
        seen = []

        def on_step(step: Step, stop=stop, seen=seen):
            seen.append(step)
            if len(seen) > stop:
                raise Cancelled("load")

        with pytest.raises(Cancelled):
            load_model(str(folder), device="cpu", on_step=on_step)


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def rope(**extra):
    return lambda folder: edit_config(folder, rope_parameters={"rope_type": "default", "rope_theta": 1e4} | extra)


def cut(name, keep):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def tensors(change):
    def apply(folder):
        table = load_file(folder / WEIGHTS)
        change(table)
        save_file(table, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def poison(value):
    return tensors(lambda table: table["model.layers.1.mlp.up_proj.weight"].__setitem__((3, 4), value))


def odd_tokenizer(folder):
    path = folder / "tokenizer.json"
    table = json.loads(path.read_text())
    table["model"]["merges"] = [["x", "yz"]]  # a merge of a token that is not in the vocabulary
    path.write_text(json.dumps(table))


def without(*names):
    def apply(folder):
        for name in names:
            (folder / name).unlink()

    return apply


BAD = {  # what is done to a good folder: the error, and words its line must hold
    "corrupt weights": (write(WEIGHTS, b"\xff" * 999), BadCheckpoint, "cannot be read.*fetch"),
    "truncated weights": (cut(WEIGHTS, -100), BadCheckpoint, "cannot be read.*fetch"),
    "truncated header": (cut(WEIGHTS, 50), BadCheckpoint, "cannot be read.*fetch"),
    "empty weights": (write(WEIGHTS, b""), BadCheckpoint, "cannot be read.*fetch"),
    "no weights": (without(WEIGHTS), BadCheckpoint, "no .safetensors file; give"),
    "pickle only": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        BadCheckpoint,
        r"only pickled weights \(pytorch_model.bin\); convert",
    ),
    "NaN": (poison(float("nan")), BadCheckpoint, r"model.layers.1.mlp.up_proj.weight holds NaN.*; fetch"),
    "infinity": (poison(float("-inf")), BadCheckpoint, r"model.layers.1.mlp.up_proj.weight holds NaN or infinity"),
    "a missing weight": (
        tensors(lambda table: table.pop("model.layers.1.self_attn.q_proj.weight")),
        BadCheckpoint,
        "1 weights are missing, first model.layers.1.self_attn.q_proj.weight; fetch",
    ),
    "a missing layer": (
        lambda folder: edit_config(folder, num_hidden_layers=3),
        BadCheckpoint,
        "config.json says 3 layers, the weights hold 2; weights are missing, first model.layers.2; fetch",
    ),
    "a layer too many": (
        lambda folder: edit_config(folder, num_hidden_layers=1),
        BadCheckpoint,
        "9 weights have no place in the model of config.json, first model.layers.1",
    ),
    "another shape": (
        lambda folder: edit_config(folder, intermediate_size=60),
        BadCheckpoint,
        "6 weights have another shape than config.json says, first model.layers.0.mlp.down_proj.weight",
    ),
    "no config": (without("config.json"), BadCheckpoint, "no config.json; give"),
    "config not JSON": (write("config.json", b"{"), BadCheckpoint, "config.json cannot be read"),
    "config not UTF-8": (
        write("config.json", b"\xff\xfe{"),
        BadCheckpoint,
        "config.json begins with the byte order mark of UTF-16; save it as UTF-8 without",
    ),
    "config with a mark": (
        write("config.json", b"\xef\xbb\xbf{}"),
        BadCheckpoint,
        "config.json begins with a byte order mark; save it as UTF-8 without",
    ),
    "generation config with a mark": (
        write("generation_config.json", b"\xef\xbb\xbf{}"),
        BadCheckpoint,
        "generation_config.json begins with a byte order mark; save it as UTF-8 without",
    ),
    "quantization with a mark": (
        write("hf_quant_config.json", b"\xef\xbb\xbf{}"),
        BadCheckpoint,
        "hf_quant_config.json begins with a byte order mark; save it as UTF-8 without",
    ),
    "config not a table": (write("config.json", b"[]"), BadCheckpoint, "config.json cannot be read"),
    "config of words": (
        lambda folder: edit_config(folder, hidden_size="big"),
        BadCheckpoint,
        'hidden_size is "big", a whole number above 0 belongs there; check',
    ),
    "a size with a point": (
        lambda folder: edit_config(folder, max_position_embeddings=64.0),
        BadCheckpoint,
        r"max_position_embeddings in config\.json is 64\.0, not a whole number; write 64 there$",
    ),
    "an optional size with a point": (
        lambda folder: edit_config(folder, num_key_value_heads=2.0),
        BadCheckpoint,
        r"num_key_value_heads in config\.json is 2\.0, not a whole number; write 2 there$",
    ),
    "a name where a switch belongs": (
        lambda folder: edit_config(folder, attention_bias="yes"),
        BadCheckpoint,
        r"config\.json cannot be read: .*attention_bias.*; check config\.json$",
    ),
    "heads that do not divide": (
        lambda folder: edit_config(folder, num_key_value_heads=3),
        UnsupportedModel,
        r"/config\.json: 4 query heads over 3 KV heads do not divide; check num_attention_heads and num_key_",
    ),
    "an unknown architecture": (
        lambda folder: edit_config(folder, architectures=["FooForCausalLM"]),
        UnsupportedModel,
        r"unknown attention layout \(architecture FooForCausalLM\); known are .*LlamaForCausalLM",
    ),
    "an architecture transformers lacks": (
        lambda folder: edit_config(folder, architectures=["FooForCausalLM"], model_type="foo"),
        UnsupportedModel,
        "unknown attention layout",
    ),
    "architectures of one word": (
        lambda folder: edit_config(folder, architectures="LlamaForCausalLM"),
        BadCheckpoint,
        "architectures in config.json is no list of names; check config.json",
    ),
    "no architecture": (
        lambda folder: edit_config(folder, architectures=None),
        UnsupportedModel,
        r"unknown attention layout \(architecture none\)",
    ),
    "odd rotary_dim": (rope(partial_rotary_factor=0.45), UnsupportedModel, "rotary_dim 7 must be even.*; check"),
    "a partial rotation the family ignores": (
        rope(partial_rotary_factor=0.5),
        UnsupportedModel,
        r"/config\.json: its config asks for 8 rotated channels, llama turns 16; remove partial_rotary_factor",
    ),
    "an unknown rope type": (rope(rope_type="wat"), UnsupportedModel, "unknown rope_type 'wat'"),
    "a rope type without its numbers": (
        rope(rope_type="yarn"),
        BadCheckpoint,
        "rope_parameters.factor is missing, yarn needs it",
    ),
    "quantized already": (
        lambda folder: edit_config(folder, quantization_config={"quant_method": "aqlm", "bits": 4}),
        UnsupportedModel,
        r"quantized already \(aqlm\): .*; give the full-precision",
    ),
    "no tokenizer": (
        without("tokenizer.json", "tokenizer_config.json"),
        BadCheckpoint,
        "no tokenizer.json",
    ),
    "a tokenizer at odds with itself": (
        odd_tokenizer,
        BadCheckpoint,
        "tokenizer.json cannot be read",
    ),
    "tokenizer not JSON": (write("tokenizer.json", b"{"), BadCheckpoint, "tokenizer.json cannot be read"),
}


def one_line(error, where):
    message = str(error.value)
    assert "\n" not in message
    assert str(where) in message or "config.json" in message
    return message


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(saved, case):
    (folder, _), (spoil, kind, message) = saved(), BAD[case]
    spoil(folder)
    with pytest.raises(kind, match=message) as error:
        load_model(str(folder), device="cpu")
    one_line(error, folder.name)


def test_models_without_rope_are_refused_before_their_weights_are_read(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"never read")
    with pytest.raises(UnsupportedModel, match=r"GPT2LMHeadModel has no RoPE \(learned absolute positions\); choose"):
        load_model(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("./nowhere", "no such model; give demo, smollm2, a folder"),
        ("two words", "no such model; give"),
        ("nowhere.gguf", "no such file; check the path"),
        ("~nobody-of-that-name/model", "not a usable path.*; check the path"),
        ("x" * 5000, "not a usable path.*; check the path"),
        ("nul\0byte", "no such model"),
    ],
)
def test_a_path_that_leads_nowhere(asked, message):
    with pytest.raises(BadCheckpoint, match=message) as error:
        load_model(asked, device="cpu")
    assert len(str(error.value)) < 400


def test_a_file_that_is_no_checkpoint(tmp_path):
    for name, content, message in (
        ("model.bin", b"hello", "not a checkpoint; give"),
        ("model.gguf", b"hello" * 99, "not a readable GGUF file.*; fetch"),
        ("empty.gguf", b"", "not a readable GGUF file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadCheckpoint, match=message) as error:
            load_model(str(tmp_path / name), device="cpu")
        one_line(error, tmp_path / name)


def test_devices_and_dtypes_must_exist(saved, monkeypatch):
    folder, _ = saved()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, dtype, message in (
        ("cuda", "auto", "--device: device cuda is not available here; choose auto or cpu"),
        ("abacus", "auto", "--device: unknown device 'abacus'; choose auto, balanced, cpu, cuda or mps"),
        ("meta", "auto", "--device: device meta is not available"),
        ("cpu", "int3", "--dtype: unknown dtype 'int3'; choose auto, float32"),
    ):
        with pytest.raises(BadSpec, match=message):
            load_model(str(folder), device=device, dtype=dtype)
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


def test_the_demo_loads(demo):
    geometry = demo.geometry
    assert (demo.name, demo.family.name) == ("demo", "llama")
    assert geometry.head_dim == 64
    assert geometry.queries_per_kv >= 2
    assert geometry.original_context in (256, 512)
    assert demo.tokenizer("The state of the union")["input_ids"]


def test_a_folder_moved_elsewhere_is_the_same_model(saved, tmp_path):
    folder, original = saved()
    shutil.move(folder, tmp_path / "moved")
    loaded = load_model(str(tmp_path / "moved"), device="cpu")
    assert (loaded.name, loaded.fingerprint) == ("moved", original.fingerprint)


def test_a_git_lfs_pointer_is_called_one(saved):
    folder, _ = saved()
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n")
    with pytest.raises(BadCheckpoint, match=f"{WEIGHTS}: a Git LFS pointer, not the file itself; run: git lfs pull"):
        load_model(str(folder), device="cpu")


def test_names_with_a_prefix_are_shown(saved):
    folder, _ = saved()
    tensors = load_file(folder / WEIGHTS)
    save_file({f"_orig_mod.{name}": value for name, value in tensors.items()}, folder / WEIGHTS)
    count = len(tensors)
    with pytest.raises(
        BadCheckpoint,
        match=f"{count} weights are missing, .*; {count} others have no place in it, "
        r"first _orig_mod\.lm_head\.weight",
    ):
        load_model(str(folder), device="cpu")


def test_a_weight_past_float16_names_the_dtype(saved):
    folder, _ = saved()
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(BadCheckpoint, match=r"model.norm.weight holds NaN or infinity in float16; choose --dtype"):
        load_model(str(folder), device="cpu", dtype="float16")
    assert float(load_model(str(folder), device="cpu").model.model.norm.weight[0]) == 1e6
