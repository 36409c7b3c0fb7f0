"""`verify`: hashes, codes and logits of an export against its source; every planted damage is found."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
import torch

from qroar_core.errors import BadCheckpoint
from qroar_core.exporters import gguf_copy, gguf_write, hf, verify, verify_gguf
from qroar_core.exporters.folder import write_note
from qroar_core.exporters.gguf_compare import compare
from qroar_core.models.llama_cpp import LlamaCpp
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.exporters.scales_file import write_scales
from tests.models.gguf_files import Q, write_model


def answers(checks):
    """{question: (answer, passed)}."""
    return {check.question: (check.answer, check.passed) for check in checks}


def demo_scales(mode="symmetric"):
    generator = torch.Generator().manual_seed(3)
    g = (torch.rand(4, 2, 2, generator=generator, dtype=torch.float64) * 2 - 1).exp2()
    return Scales(mode, "kv_head", ((0, 9), (10, 31)), g)


def renoted(folder, **changes):
    """The folder's note with changed entries and fresh hashes, as if `export` had written it so."""
    note = json.loads((folder / "qroar.json").read_text()) | changes
    note.pop("files")
    write_note(folder, note)


@pytest.fixture
def copied(tmp_path):
    source = write_model(tmp_path / "m.gguf", Q.Q4_K, bias=True)
    scales, g = write_scales(tmp_path / "s.json", source)
    return source, gguf_copy.run(source, scales, RopeSpec("yarn", 2.0), tmp_path / "out"), g


def test_a_sound_copy_passes_every_question(copied):
    _, folder, _ = copied
    found = verify.run(folder)
    assert [check.passed for check in found] == [True] * 8
    said = answers(found)
    assert said["README.md is as written"] == ("same hash", True)
    assert said["m.gguf is as written"] == ("same hash", True)
    assert said["tensors that must not change"][0] == "16 byte for byte"  # 24 tensors, q and k weights and biases
    assert said["codes of attn_q and attn_k"][0] == "8 tensors byte for byte"
    assert verify.run(folder / "m.gguf") == found


def test_the_card_of_a_copy_says_what_was_done_and_how_to_repeat_it(copied, tmp_path):
    source, folder, g = copied
    card = (folder / "README.md").read_text()
    assert card.startswith("# m\n")
    assert f"3 bands, per layer and KV head), {g.min():.3g} to {g.max():.3g}, multiplied into attn_k.bias, " in card
    assert "attn_k.weight, attn_q.bias, attn_q.weight. W_Q times g" in card
    assert "- RoPE: yarn x2, written into the file's metadata." in card
    assert "- Weights: the source file's own, every code byte for byte" in card
    assert "Repeat it" not in card  # nobody said how it was asked for
    again = gguf_copy.run(source, None, RopeSpec("linear", 2.0), tmp_path / "again", command="python -m qroar_core x")
    assert "Repeat it:\n\n    python -m qroar_core x\n" in (again / "README.md").read_text()


def flip(path, name, byte):
    """Change one byte of a tensor."""
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
    content = bytearray(path.read_bytes())
    content[int(tensor.data_offset) + byte] ^= 0x10
    path.write_bytes(content)


def test_a_changed_byte_changes_the_hash(copied):
    _, folder, _ = copied
    flip(folder / "m.gguf", "blk.0.ffn_up.weight", 70)
    card, only = verify.run(folder)
    assert card.passed
    assert (only.question, only.answer, only.passed) == ("m.gguf is as written", "changed since", False)


@pytest.mark.parametrize(
    ("name", "byte", "question"),
    [
        ("blk.0.ffn_up.weight", 70, "tensors that must not change"),
        ("blk.1.attn_k.weight", 20, "codes of attn_q and attn_k"),
        ("blk.1.attn_k.weight", 145, "rows against g times the source"),  # high byte of a block's d
        ("blk.0.attn_q.bias", 3, "rows against g times the source"),
    ],
)
def test_a_wrong_copy_is_found_even_with_fresh_hashes(copied, name, byte, question):
    _, folder, _ = copied
    flip(folder / "m.gguf", name, byte)
    renoted(folder)
    said = answers(verify.run(folder))
    assert said[question][1] is False
    assert [q for q, (_, passed) in said.items() if not passed and q != "rows against g times the source"] == (
        [question] if question != "rows against g times the source" else []
    )


def test_a_missing_file_a_moved_source_and_a_foreign_folder(copied, tmp_path):
    source, folder, _ = copied
    source.rename(tmp_path / "elsewhere.gguf")
    said = answers(verify.run(folder))
    assert said["codes and rows against the source"] == (f"{source} is gone or changed", None)
    (folder / "m.gguf").unlink()
    assert answers(verify.run(folder)) == {
        "README.md is as written": ("same hash", True),
        "m.gguf is there": ("missing", False),
    }
    with pytest.raises(BadCheckpoint, match=r"no qroar.json; give a folder that `export` wrote"):
        verify.run(tmp_path)


@pytest.mark.parametrize("name", ["../m.gguf", "/etc/passwd", "a/../../m.gguf", "..\\m.gguf"])
def test_a_note_that_points_outside_is_refused(copied, name):
    _, folder, _ = copied
    note = json.loads((folder / "qroar.json").read_text())
    note["files"] = {name: {"bytes": 1, "sha256": "0"}}
    (folder / "qroar.json").write_text(json.dumps(note))
    with pytest.raises(BadCheckpoint, match="no file of this folder"):
        verify.run(folder)


def test_a_format_that_is_not_known_is_one_line(copied):
    _, folder, _ = copied
    renoted(folder, format="gguf-q9")
    with pytest.raises(BadCheckpoint, match=r"qroar.json cannot be read \(its format 'gguf-q9' is not known here\)"):
        verify.run(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {}}', "{", '{"files": []}', "\x00"])
def test_a_broken_note_is_one_line(copied, content):
    _, folder, _ = copied
    (folder / "qroar.json").write_text(content)
    with pytest.raises(BadCheckpoint, match=r"qroar.json cannot be read") as caught:
        verify.run(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rope", [RopeSpec(), RopeSpec("yarn", 2.0)], ids=["default", "yarn"])
def test_a_folder_for_transformers_gives_the_sources_logits(demo, tmp_path, rope):
    folder = hf.run(demo, rope, demo_scales("shared"), tmp_path / "out", command="x")
    said = answers(verify.run(folder))
    assert said["model.safetensors is as written"] == ("same hash", True)
    answer, passed = said["logits against the source model"]
    assert passed is True
    assert "same top-1 100.0%" in answer
    renoted(folder, scales=None)  # as if it had been written without: a shared scale is a temperature
    assert answers(verify.run(folder))["logits against the source model"][1] is False
    renoted(folder, source="/nowhere")
    answer, passed = answers(verify.run(folder))["logits against the source model"]
    assert passed is None
    assert "no such model" in answer


def test_a_gguf_is_asked_in_llama_cpp(demo, tmp_path):
    pytest.importorskip("xllamacpp")
    folder = gguf_write.run(demo, RopeSpec("yarn", 2.0), demo_scales("shared"), tmp_path / "out", format="gguf-f16")
    answer, passed = answers(verify.run(folder))["log-probabilities in llama.cpp"]
    assert passed is True
    assert "nats over 64 tokens" in answer
    renoted(folder, scales=None)
    assert answers(verify.run(folder))["log-probabilities in llama.cpp"][1] is False


def test_a_gguf_that_gives_llama_cpp_no_numbers_fails(demo, tmp_path):
    """An infinite block scale, as versions before wrote it: the server answers null for every ln p."""
    pytest.importorskip("xllamacpp")
    folder = gguf_write.run(demo, RopeSpec(), None, tmp_path / "out", format="gguf-q8_0")
    path = next(folder.glob("*.gguf"))
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == "blk.1.ffn_down.weight")
    content, at = bytearray(path.read_bytes()), int(tensor.data_offset)
    content[at : at + 2] = np.array([np.inf], "<f2").tobytes()
    path.write_bytes(content)
    renoted(folder)
    assert answers(verify.run(folder))["log-probabilities in llama.cpp"] == (
        "llama.cpp gives no finite number for 64 of 64 tokens",
        False,
    )


@pytest.mark.parametrize(("format", "other"), [("gguf-q8_0", "gguf-bf16 or gguf-f16"), ("gguf-bf16", "gguf-f16")])
def test_the_number_that_llama_cpp_has_for_ln_0_is_no_measurement(capfd, demo, tmp_path, monkeypatch, format, other):
    """Its server writes -FLT_MAX there: of 64 tokens, three have it, one has null and one an ordinary small ln p."""
    from qroar_core.__main__ import main

    folder = gguf_write.run(demo, RopeSpec(), None, tmp_path / "out", format=format)
    made = iter([-3.4028234663852886e38] * 3 + [None, -103.0] + [-1.0] * 59)

    class Answers(LlamaCpp):
        def __init__(self, *_):
            pass

        def _complete(self, ids, count, probabilities, **options):
            return [{"id": options["logit_bias"][0][0], "logprob": next(made)}]

    monkeypatch.setattr(verify_gguf, "available", lambda: True)
    monkeypatch.setattr(verify_gguf, "LlamaCpp", Answers)
    monkeypatch.setattr(verify_gguf.verify_tokenizer, "tokens", lambda *_: ("tokens", "the same", True))
    assert main(["verify", str(folder)]) == 2
    out, err = capfd.readouterr()
    assert "llama.cpp gives no finite number for 4 of 64 tokens" in " ".join(out.replace("│", " ").split())
    assert err.endswith(f"checks failed; export it in another format: --format {other}\n")


def test_without_llama_cpp_it_says_so(demo, tmp_path, monkeypatch):
    folder = gguf_write.run(demo, RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    monkeypatch.setattr(verify_gguf, "available", lambda: False)
    assert answers(verify.run(folder))["log-probabilities in llama.cpp"] == (
        "not compared: pip install xllamacpp",
        None,
    )


def test_the_distance_is_in_half_float16_steps(tmp_path):
    """Against a copy made in float64 here: rounding d once lies within one half step and is not zero."""
    source = write_model(tmp_path / "m.gguf", Q.Q8_0)
    scales, g = write_scales(tmp_path / "s.json", source)
    folder = gguf_copy.run(source, scales, None, tmp_path / "out")
    found = compare(
        source, folder / "m.gguf", Scales("symmetric", "kv_head", ((0, 4), (5, 20), (21, 31)), torch.tensor(g))
    )
    old = next(t for t in gguf.GGUFReader(source).tensors if t.name == "blk.0.attn_q.weight")
    new = next(t for t in gguf.GGUFReader(folder / "m.gguf").tensors if t.name == "blk.0.attn_q.weight")
    was, now = (gguf.dequantize(np.array(t.data), Q.Q8_0).astype(np.float64) for t in (old, new))
    first = np.abs(now[0] - was[0] * g[0, 0, 0]).max() / (np.abs(was[0] * g[0, 0, 0]).max() * 2.0**-11)
    assert 0 < first <= found.half_steps <= 1
