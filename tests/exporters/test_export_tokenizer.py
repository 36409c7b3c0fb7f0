"""An export's tokenizer: the source's files byte for byte, and `verify` finds every other one."""

from __future__ import annotations

import json
import shutil

import pytest

from qroar_core.errors import QRoarError
from qroar_core.exporters import gguf_copy, gguf_write, hf, quantized_copy, verify, w4a16
from qroar_core.exporters.folder import write_note
from qroar_core.models.decode import end_tokens
from qroar_core.models.formats.declared import AWQ_FILE, MODELOPT_FILE
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
from qroar_core.specs import RopeSpec
from tests.models.gguf_files import write_model

FILES, TOKENS = "tokenizer files against the source's", "tokens of the embedded texts against the source's"
KEYS = "tokenizer keys against the source's"
DIGITS = {"type": "Digits", "individual_digits": True}


def answers(folder):
    note = json.loads((folder / "qroar.json").read_text())
    note.pop("files")
    write_note(folder, note)  # fresh hashes, as if `export` had written what lies there
    return {check.question: (check.answer, check.passed) for check in verify.run(folder)}


@pytest.fixture
def source(tmp_path):
    """The demo whose tokenizer cuts digits, in a folder whose class name would drop that."""
    folder = tmp_path / "digits"
    shutil.copytree(DEMO, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [DIGITS, content["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(content, indent=7))
    ends = dict.fromkeys(("bos_token", "eos_token"), "<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps(ends | {"tokenizer_class": "GPT2Tokenizer"}))
    (folder / "chat_template.jinja").write_text("{{ messages }}\n")
    (folder / "tokenizer.model").write_bytes(b"\x00\x01")
    return folder


def test_tokenizer_files_travel_byte_for_byte(source, tmp_path):
    loaded = load_model(str(source), device="cpu")
    assert len(loaded.tokenizer("In 1837")["input_ids"]) == len(loaded.tokenizer("In")["input_ids"]) + 5
    folder = hf.run(loaded, RopeSpec("yarn", 2.0), None, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.model"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    said = answers(folder)
    assert said[FILES] == ("4 byte for byte", True)
    assert said[TOKENS][1] is True
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][1]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    said = answers(folder)
    assert said[FILES] == ("tokenizer.json differ", False)
    assert said[TOKENS][1] is False
    assert "they part at token" in said[TOKENS][0]
    assert said["logits against the source model"][1] is True  # which is why the tokenizer is asked for itself


def test_a_gguf_made_of_a_folder_gives_the_folders_tokens(source, tmp_path):
    loaded = load_model(str(source), device="cpu")
    folder = gguf_write.run(loaded, RopeSpec(), None, tmp_path / "out", format="gguf-f16")
    answer, passed = answers(folder)[TOKENS]
    assert passed is True
    assert answer.endswith("the same, [] before a text and [] behind it")
    (path,) = folder.glob("*.gguf")
    named, other = b"smollm", b"falcon"  # of equal length: the same file with another split rule
    path.write_bytes(path.read_bytes().replace(named, other, 1))
    assert answers(folder)[TOKENS][1] is False


def test_a_copy_of_a_gguf_keeps_every_tokenizer_key(tmp_path):
    source = write_model(tmp_path / "m.gguf")
    folder = gguf_copy.run(source, None, RopeSpec("yarn", 2.0), tmp_path / "out")
    assert answers(folder)[KEYS] == ("1 byte for byte", True)
    copy = folder / "m.gguf"
    copy.write_bytes(copy.read_bytes().replace(b"t47", b"t74", 1))
    assert answers(folder)[KEYS] == ("tokenizer.ggml.tokens differ", False)


def test_a_model_without_files_of_its_own_is_written_and_its_tokens_are_compared(tiny, tmp_path):
    loaded = tiny()
    loaded.template = None
    folder = hf.run(loaded, RopeSpec(), None, tmp_path / "out")
    again = load_model(str(folder), device="cpu")
    text = "It had 3 words."
    assert again.tokenizer(text)["input_ids"] == loaded.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("form", ["hf", "w4a16", "quantized"])
def test_what_ends_a_text_is_read_and_travels_byte_for_byte(source, tmp_path, form, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))
    said = b'{"eos_token_id":[5,7],  "temperature": 0.6}'  # no greedy setting: transformers would refuse to write it
    (source / "generation_config.json").write_bytes(said)
    loaded = load_model(str(source), device="cpu")
    assert end_tokens(loaded) == {5, 7}
    folder = tmp_path / "out"
    if form == "hf":
        hf.run(loaded, RopeSpec(), None, folder)
    else:
        w4a16.run(loaded, RopeSpec(), None, folder, group_size=32)
    if form == "quantized":
        loaded = load_model(str(folder), device="cpu")
        assert end_tokens(loaded) == {5, 7}
        folder = quantized_copy.run(loaded, RopeSpec(), None, tmp_path / "copy")
    assert (folder / "generation_config.json").read_bytes() == said


@pytest.mark.parametrize("said", ["[]", "{", '{"eos_token_id": "</s>"}', '{"eos_token_id": [1, true]}'])
def test_ends_that_are_no_ids_are_refused(source, said):
    (source / "generation_config.json").write_text(said)
    with pytest.raises(QRoarError, match=r"generation_config.json.*fetch it again"):
        load_model(str(source), device="cpu")


def test_settings_of_a_quantized_folder_stay_out_of_a_full_precision_export(source, tmp_path):
    loaded = load_model(str(source), device="cpu")
    packed = w4a16.run(loaded, RopeSpec(), None, tmp_path / "packed", group_size=32)
    block = json.loads((packed / "config.json").read_text())["quantization_config"]
    for name in (AWQ_FILE, MODELOPT_FILE):
        (packed / name).write_text(json.dumps(block))
    out = hf.run(load_model(str(packed), device="cpu"), RopeSpec(), None, tmp_path / "full")
    assert not [path.name for path in out.iterdir() if "quant" in path.name]
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
