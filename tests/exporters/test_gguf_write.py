"""GGUF files written from a loaded model: gguf's reader gets the model's own weights back, transformers its logits."""

from __future__ import annotations

import hashlib
import json

import gguf
import numpy as np
import pytest
import torch

from qroar_core.errors import BadCheckpoint, BadOutput, BadSpec, Cancelled, UnsupportedModel
from qroar_core.exporters import gguf_write, verify
from qroar_core.models.load import run as load_model
from qroar_core.models.patch import apply_scales, replaced_parameters, scaled_parameters, undo_scales
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.models.gguf_zoo import write

Q = gguf.GGMLQuantizationType
BANDS = ((0, 3), (4, 15))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small(tiny, demo):
    """A tiny model with the demo's tokenizer, which llama.cpp knows how to split."""

    def build(family="llama", **options):
        head_dim = 16 if family == "qwen2" else 32  # llama.cpp takes qwen2 with head_dim x heads = hidden size only
        loaded = tiny(family, hidden_size=64, head_dim=head_dim, vocab_size=len(demo.tokenizer), **options)
        loaded.tokenizer = demo.tokenizer
        return loaded

    return build


def random_scales(mode="symmetric"):
    generator = torch.Generator().manual_seed(3)
    return Scales(
        mode, "kv_head", BANDS, (torch.rand(2, 2, 2, generator=generator, dtype=torch.float64) * 3 - 1.5).exp2()
    )


def tensors_of(folder):
    (path,) = folder.glob("*.gguf")
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def interleaved(weight, heads):
    """llama.cpp's row order spelled out: rows 2i and 2i + 1 of a head are i and i + d/2 of the model."""
    head_dim = len(weight) // heads
    order = [h * head_dim + i + s * head_dim // 2 for h in range(heads) for i in range(head_dim // 2) for s in (0, 1)]
    return weight[order]


NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "model.layers.1.self_attn.v_proj.weight": "blk.1.attn_v.weight",
    "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
    "model.layers.1.mlp.gate_proj.weight": "blk.1.ffn_gate.weight",
    "model.layers.1.mlp.up_proj.weight": "blk.1.ffn_up.weight",
    "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
    "model.layers.0.input_layernorm.weight": "blk.0.attn_norm.weight",
    "model.layers.1.post_attention_layernorm.weight": "blk.1.ffn_norm.weight",
    "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
    "model.layers.1.self_attn.k_proj.weight": "blk.1.attn_k.weight",
    "model.layers.1.self_attn.q_proj.bias": "blk.1.attn_q.bias",
}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_every_weight_is_under_its_name_in_llama_cpps_order(small, tmp_path, family):
    loaded = small(family, **({"attention_bias": True} if family == "llama" else {}))
    folder = gguf_write.run(loaded, RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    found, own = tensors_of(folder), dict(loaded.model.named_parameters())
    assert len(found) == len(own)
    compared = 0
    for hf, name in NAMES.items():
        if hf not in own:
            continue
        expected = own[hf].numpy()
        if family != "qwen2" and ("q_proj" in hf or "k_proj" in hf):
            expected = interleaved(expected, 4 if "q_proj" in hf else 2)
        stored = np.array(found[name].data)
        assert found[name].tensor_type == (Q.F32 if expected.ndim == 1 else Q.F16)
        assert np.array_equal(stored, expected if expected.ndim == 1 else expected.astype(np.float16)), name
        compared += 1
    assert compared >= 12
    assert gguf.GGUFReader(next(folder.glob("*.gguf"))).get_field("general.architecture").contents() == (
        "qwen2" if family == "qwen2" else "llama"
    )


@pytest.mark.parametrize(
    ("format", "kinds", "file_type"),
    [
        ("gguf-f16", {"attn_k": Q.F16, "token_embd": Q.F16}, 1),
        ("gguf-bf16", {"attn_k": Q.BF16, "token_embd": Q.BF16}, 32),
        ("gguf-q8_0", {"attn_k": Q.Q8_0, "token_embd": Q.Q8_0, "ffn_norm": Q.F32}, 7),
        ("gguf-q4_0", {"attn_k": Q.Q4_0, "token_embd": Q.Q8_0, "output": Q.Q8_0, "ffn_down": Q.Q4_0}, 2),
    ],
)
def test_each_format_stores_what_it_says(small, tmp_path, format, kinds, file_type):
    loaded = small()
    folder = gguf_write.run(loaded, RopeSpec(), None, tmp_path / "out", format=format)
    found = tensors_of(folder)
    for stem, kind in kinds.items():
        name = f"{stem}.weight" if f"{stem}.weight" in found else f"blk.1.{stem}.weight"
        assert found[name].tensor_type == kind
    reader = gguf.GGUFReader(next(folder.glob("*.gguf")))
    assert reader.get_field("general.file_type").contents() == file_type
    up = found["blk.0.ffn_up.weight"]
    own = dict(loaded.model.named_parameters())["model.layers.0.mlp.up_proj.weight"].numpy()
    assert np.array_equal(np.array(up.data), gguf.quantize(own, Q(up.tensor_type)))


def test_rows_no_block_divides_are_f16(small, tmp_path):
    folder = gguf_write.run(small(intermediate_size=80), RopeSpec(), None, tmp_path / "o", format="gguf-q8_0")
    found = tensors_of(folder)
    assert found["blk.0.ffn_down.weight"].tensor_type == Q.F16
    assert found["blk.0.ffn_up.weight"].tensor_type == Q.Q8_0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_transformers_reads_back_the_scaled_logits(demo, tmp_path, mode):
    """Through transformers' own GGUF reader: rows, biases, vocabulary and sizes all in one."""
    generator = torch.Generator().manual_seed(5)
    g = (torch.rand(4, 2, 2, generator=generator, dtype=torch.float64) * 2 - 1).exp2()
    scales = Scales(mode, "kv_head", ((0, 9), (10, 31)), g)
    folder = gguf_write.run(demo, RopeSpec(), scales, tmp_path / "out", format="gguf-f16")
    again = load_model(str(next(folder.glob("*.gguf"))), device="cpu")
    tokens = torch.randint(0, 2048, (1, 60), generator=generator)
    with torch.inference_mode():
        with replaced_parameters(demo.model, scaled_parameters(demo, scales)):
            wanted = demo.model(tokens).logits
        plain = demo.model(tokens).logits
        found = again.model(tokens).logits
    assert float((found - wanted).abs().max()) < 0.03
    moved = float((found - plain).abs().max())
    assert moved > 1 if mode == "shared" else moved < 0.03
    text = "The same tokens as before, 1234."
    assert again.tokenizer(text)["input_ids"] == demo.tokenizer(text)["input_ids"]


def test_applied_scales_are_written_once(small, tmp_path):
    loaded, scales = small(), random_scales("shared")
    clean = tensors_of(gguf_write.run(loaded, RopeSpec(), scales, tmp_path / "a", format="gguf-f16"))
    apply_scales(loaded, scales)
    applied = tensors_of(gguf_write.run(loaded, RopeSpec(), scales, tmp_path / "b", format="gguf-f16"))
    undo_scales(loaded)
    bare = tensors_of(gguf_write.run(loaded, RopeSpec(), None, tmp_path / "c", format="gguf-f16"))
    for name in clean:
        assert bytes(clean[name].data) == bytes(applied[name].data), name
        assert (bytes(bare[name].data) == bytes(clean[name].data)) == ("attn_q" not in name and "attn_k" not in name)


def test_the_note_has_hash_size_and_command(small, tmp_path):
    loaded = small()
    folder = gguf_write.run(loaded, RopeSpec("yarn", 2.0), None, tmp_path / "out", format="gguf-q8_0", command="again")
    note = json.loads((folder / "qroar.json").read_text())
    (path,) = folder.glob("*.gguf")
    assert path.name == "tiny-llama-Q8_0.gguf"
    assert note["files"] == {
        written.name: {"bytes": written.stat().st_size, "sha256": hashlib.sha256(written.read_bytes()).hexdigest()}
        for written in (path, folder / "README.md")
    }
    card = (folder / "README.md").read_text()
    assert card.startswith("# tiny-llama\n")
    for line in (
        "- Scales: none.",
        "- RoPE: yarn x2, written into the file's metadata.",
        "- Weights: stored as Q8_0, vectors as F32.",
        "    again",
    ):
        assert f"\n{line}\n" in card
    assert (note["command"], note["format"], note["rope"]["method"]) == ("again", "gguf-q8_0", "yarn")
    assert note["from"]["fingerprint"] == loaded.fingerprint


def test_the_window_of_a_sliding_model_is_its_context(small, tmp_path):
    folder = gguf_write.run(small("mistral", sliding_window=40), RopeSpec(), None, tmp_path / "o", format="gguf-f16")
    reader = gguf.GGUFReader(next(folder.glob("*.gguf")))
    assert reader.get_field("llama.context_length").contents() == 40


def test_what_llama_cpp_would_compute_otherwise_is_refused(small, tiny, tmp_path):
    def refused(loaded, error, message, rope=None, format="gguf-f16"):
        with pytest.raises(error, match=message):
            gguf_write.run(loaded, rope or RopeSpec(), None, tmp_path / "out", format=format)
        assert not (tmp_path / "out").exists()

    refused(
        tiny(hidden_size=64, head_dim=32), UnsupportedModel, "names no end token, and llama.cpp would take token 11"
    )
    wide = tiny("qwen2", hidden_size=64, head_dim=32)
    refused(wide, UnsupportedModel, "llama.cpp takes qwen2 only with head_dim x heads = hidden size")
    refused(small(hidden_act="gelu"), UnsupportedModel, "its activation is gelu")
    refused(small(), BadSpec, "no dynamic interpolation", RopeSpec("dynamic", 2.0))
    refused(small(), BadSpec, "unknown format 'gguf-q2'; choose one of gguf-f16", format="gguf-q2")
    big = small()
    dict(big.model.named_parameters())["model.layers.1.mlp.up_proj.weight"].data[3, 3] = 1e6
    refused(big, BadCheckpoint, r"blk.1.ffn_up.weight: it holds 1e\+06, float16 ends at 65504; use gguf-bf16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "name", "end", "message"),
    [  # a block's scale is its largest number over 127, over 8; float16 ends at 65504
        ("gguf-q8_0", "mlp.up_proj", 127 * 65504.0, "a Q8_0 block with its float16 scale ends at 8.31901e.06"),
        ("gguf-q4_0", "mlp.up_proj", 8 * 65504.0, "a Q4_0 block with its float16 scale ends at 524032"),
        ("gguf-q4_0", "self_attn.q_proj", 8 * 65504.0, "a Q4_0 block with its float16 scale ends at 524032"),
    ],
)
def test_no_block_scale_becomes_infinite(small, tmp_path, monkeypatch, format, name, end, message):
    """Up to the end the gguf library's own reader finds finite numbers; past it nothing is written."""
    monkeypatch.setattr(gguf_write, "require_finite_pass", lambda *_: None)
    loaded = small()
    weight = dict(loaded.model.named_parameters())[f"model.layers.1.{name}.weight"].data
    for sign in (1, -1):
        weight[3, 3] = sign * end
        folder = gguf_write.run(loaded, RopeSpec(), None, tmp_path / f"{sign}", format=format)
        for tensor in gguf.GGUFReader(next(folder.glob("*.gguf"))).tensors:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            assert np.isfinite(values).all(), tensor.name
        weight[3, 3] = sign * end * 1.01
        with pytest.raises(BadCheckpoint, match=rf"blk.1.\w+.weight: it holds .*, {message}; use gguf-bf16"):
            gguf_write.run(loaded, RopeSpec(), None, tmp_path / "out", format=format)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "-1"}


def test_bfloat16_has_an_end_too():
    """float32 ends 0.4% above it."""
    info = gguf_write.TensorInfo("a", (2, 1), gguf_write.Kind.BF16, 0)
    gguf_write._require_held(torch.tensor([[3.389e38, 1.0]]), info)
    with pytest.raises(BadCheckpoint, match=r"a: it holds 3.4e.38, bfloat16 ends at 3.38953e.38; use hf"):
        gguf_write._require_held(torch.tensor([[-3.4e38, 1.0]]), info)


SPLITS = {
    "sentencepiece": ({"model": {"type": "BPE", "byte_fallback": True}}, "is BPE with byte fallback"),
    "wordpiece": ({"model": {"type": "WordPiece"}}, "is WordPiece"),
    "other split": ({"pre_tokenizer": {"type": "Whitespace"}}, "splits text in a way that has no name"),
    "prefix space": ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "splits text in a way"),
    "lower case": ({"normalizer": {"type": "Lowercase"}}, "normalizes text"),
    "merges": ({"ignore_merges": True}, "treats merges otherwise"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_tokenizer_llama_cpp_would_not_reproduce_is_refused(demo, name):
    from qroar_core.models.formats.gguf.tokenizer_entries import tokenizer_entries

    changes, message = SPLITS[name]
    content = json.loads(demo.tokenizer.backend_tokenizer.to_str())
    if "ignore_merges" in changes:
        content["model"]["ignore_merges"] = True
    else:
        content |= changes

    class Backend:
        def to_str(self):
            return json.dumps(content)

    class Tokenizer:
        backend_tokenizer, eos_token_id = Backend(), 0

    with pytest.raises(UnsupportedModel, match=message):
        tokenizer_entries(Tokenizer(), 2048, "m")


def test_an_existing_folder_and_a_cancel_leave_everything(small, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadOutput, match="already exists"):
        gguf_write.run(small(), RopeSpec(), None, tmp_path / "mine", format="gguf-f16")

    def cancel(step):
        if step.what.startswith("blk.1"):
            raise Cancelled("export")

    with pytest.raises(Cancelled):
        gguf_write.run(small(), RopeSpec(), None, tmp_path / "out", format="gguf-f16", on_step=cancel)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_the_vocabulary_is_that_of_the_file_which_was_read(tmp_path):
    """A branch on the hub may move while a model is loaded: what its name means by then is another file."""
    read, moved = tmp_path / "read.gguf", tmp_path / "moved.gguf"
    write("llama", read)
    content = read.read_bytes()
    assert content.count(b"<|endoftext|>") == 1
    moved.write_bytes(content.replace(b"<|endoftext|>", b"<|other_end|>"))
    loaded = load_model(str(read), device="cpu", dtype="float32")
    loaded.source = str(moved)
    out = gguf_write.run(loaded, RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    fields = gguf.GGUFReader(next(out.glob("*.gguf"))).fields
    assert fields["tokenizer.ggml.tokens"].contents(0) == "<|endoftext|>"
    assert json.loads((out / "qroar.json").read_text())["file"] == str(read)
    moved.write_bytes(b"GGUF, and then something else")
    assert all(check.passed for check in verify.run(out))


@pytest.mark.parametrize(
    ("family", "sizes", "line"),
    [
        (
            "llama",
            {"hidden_act": "gelu"},
            "tiny-llama: its activation is gelu, llama.cpp takes silu; choose --format hf",
        ),
        (
            "qwen2",
            {},
            "tiny-qwen2: llama.cpp takes qwen2 only with head_dim x heads = hidden size; choose --format hf",
        ),
    ],
)
def test_a_model_that_llama_cpp_would_compute_otherwise_is_refused_with_the_way_out(
    tiny, tmp_path, family, sizes, line
):
    with pytest.raises(UnsupportedModel) as error:
        gguf_write.run(tiny(family, **sizes), RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    assert str(error.value) == line
    assert not (tmp_path / "out").exists()
