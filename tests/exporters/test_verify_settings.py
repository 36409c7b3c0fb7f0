"""What `verify` asks of an export beside its logits: every entry of its settings, its files, its number formats.

Values that belong there are the demo checkpoint's own config.json and the factor times its window, read here.
"""

from __future__ import annotations

import json
import shutil

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.exporters import gguf_write, hf, verify, verify_config, verify_files, verify_types
from qroar_core.exporters.folder import NOTE, write_note
from qroar_core.exporters.forward_pass import sample_ids
from qroar_core.exporters.verify_logits import limits_of, logits
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
from qroar_core.models.stream import Condition
from qroar_core.specs import RopeSpec

YARN = RopeSpec("yarn", 4.0)
GONE = object()
WITHOUT_WINDOW = {"rope_type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0, "factor": 2, "rope_theta": 1e4}
OWN = json.loads((DEMO / "config.json").read_text())


@pytest.fixture(scope="module")
def made(demo, tmp_path_factory):
    return hf.run(demo, YARN, None, tmp_path_factory.mktemp("settings") / "out")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out")


def note_of(folder):
    return json.loads((folder / NOTE).read_text())


def changed(folder, name, **entries):
    """A file of settings with other entries; GONE takes one out."""
    said = json.loads((folder / name).read_text()) | entries
    (folder / name).write_text(json.dumps({key: value for key, value in said.items() if value is not GONE}))


def settings(demo, folder, rope=YARN):
    return verify_config.checks(demo, rope, None, note_of(folder), folder)


def test_the_settings_that_were_written_are_alike(demo, folder):
    config, generation = settings(demo, folder)
    assert (config.question, config.passed) == ("config.json against what this export writes", True)
    assert (generation.question, generation.passed) == ("generation_config.json against what this export writes", True)
    assert config.answer.endswith(" entries alike")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"rms_norm_eps": 1e-5}, f"rms_norm_eps is 1e-05, an export writes {OWN['rms_norm_eps']}"),
        ({"max_position_embeddings": 256}, "max_position_embeddings is 256, an export writes 1024"),
        ({"eos_token_id": 5}, f"eos_token_id is 5, an export writes {OWN['eos_token_id']}"),
        ({"torch_dtype": "bfloat16"}, "torch_dtype is bfloat16, an export writes float32"),
        ({"hidden_act": GONE}, f"hidden_act is not there, an export writes {OWN['hidden_act']}"),
        ({"sliding_window": 64}, "sliding_window is 64, an export has none"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1, an export writes True"),
        (
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "beta_fast": 32.0,
                    "beta_slow": 1,
                    "factor": 2,
                    "rope_theta": 1e4,
                }
            },
            "rope_parameters.factor is 2, an export writes 4.0; "
            "rope_parameters.original_max_position_embeddings is not there, an export writes 256",
        ),
        (
            {"rms_norm_eps": 1e-5, "eos_token_id": [0, 5]},
            f"eos_token_id is [0, 5], an export writes {OWN['eos_token_id']}; "
            f"rms_norm_eps is 1e-05, an export writes {OWN['rms_norm_eps']}",
        ),
    ],
    ids=lambda it: ", ".join(it) if isinstance(it, dict) else "",
)
def test_each_entry_of_config_json_that_is_another_is_named_with_both_values(demo, folder, entries, said):
    changed(folder, "config.json", **entries)
    config, generation = settings(demo, folder)
    assert (config.answer, config.passed) == (said, False)
    assert generation.passed is True


def test_generation_config_is_compared_too(demo, folder):
    changed(folder, "generation_config.json", eos_token_id=7)
    config, generation = settings(demo, folder)
    assert config.passed is True
    said = f"eos_token_id is 7, an export writes {OWN['eos_token_id']}"
    assert (generation.answer, generation.passed) == (said, False)
    (folder / "generation_config.json").unlink()
    assert (settings(demo, folder)[1].answer, settings(demo, folder)[1].passed) == ("missing", False)


def test_another_version_of_transformers_may_write_its_defaults_or_not(demo, folder):
    """Llama's `mlp_bias` is false where it is not said; under one version nothing may be left out."""
    changed(folder, "config.json", mlp_bias=GONE)
    assert settings(demo, folder)[0].answer == "mlp_bias is not there, an export writes False"
    changed(folder, "config.json", transformers_version="5.10.0")
    assert settings(demo, folder)[0].passed is True
    changed(folder, "config.json", pretraining_tp=GONE, attention_bias=GONE)  # the demo has biases, Llama has none
    assert settings(demo, folder)[0].answer == "attention_bias is False, an export writes True"


def test_a_writer_whose_settings_are_not_known_is_not_asked(demo, folder, monkeypatch):
    monkeypatch.delitem(verify_config.WRITERS, "hf")
    (only,) = settings(demo, folder)
    assert (only.answer, only.passed) == ("not compared: what the writer hf writes there is not known here", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model-00002-of-00002.safetensors", "of which model.safetensors, read alone, knows nothing"),
        ("pytorch_model.bin", "of which model.safetensors, read alone, knows nothing"),
        ("adapter_config.json", "of which qroar.json knows nothing"),
        ("sub/modeling.py", "of which qroar.json knows nothing"),
    ],
)
def test_a_file_that_no_index_lists_fails(folder, name, said):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    save_file({"x": torch.ones(1)}, path)
    if "knows nothing" in said and "model" in said:  # with hashes written anew, as by who put it there
        note = note_of(folder)
        note.pop("files")
        write_note(folder, note)
    check = verify_files.unlisted(folder, note_of(folder), whole_file=False)
    assert (check.answer, check.passed) == (f"{name}, {said}", False)


def test_what_git_and_the_hub_put_there_is_no_file_of_the_export(folder):
    for name in (".gitattributes", ".cache/huggingface/x.metadata"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    check = verify_files.unlisted(folder, note_of(folder), whole_file=False)
    assert (check.answer, check.passed) == ("none", True)


def test_a_shard_beside_those_of_an_index_fails(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "SHARD", "8MB")
    folder = hf.run(demo, RopeSpec(), None, tmp_path / "out")
    assert verify_files.unlisted(folder, note_of(folder), whole_file=False).passed is True
    save_file({"model.norm.weight": torch.ones(256)}, folder / "model-00009-of-00009.safetensors")
    note = note_of(folder)
    note.pop("files")
    write_note(folder, note)
    check = verify_files.unlisted(folder, note_of(folder), whole_file=False)
    named = "model-00009-of-00009.safetensors, of which model.safetensors.index.json knows nothing"
    assert (check.answer, check.passed) == (named, False)


def test_a_second_gguf_file_fails(demo, tmp_path):
    folder = gguf_write.run(demo, RopeSpec(), None, tmp_path / "out", format="gguf-q4_0")
    shutil.copyfile(next(folder.glob("*.gguf")), folder / "other.gguf")
    last = verify.run(folder)[-1]
    assert last.question == "files that no index lists"
    assert last.answer.startswith("other.gguf, of which qroar.json knows nothing; 2 .gguf files where one belongs")
    assert last.passed is False


def test_weights_in_another_number_format_than_qroar_json_says_fail(demo, folder):
    right = verify_types.in_folder(demo, note_of(folder), folder)
    assert right.passed is True
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({name: x.bfloat16() for name, x in tensors.items()}, path, {"format": "pt"})
    check = verify_types.in_folder(demo, note_of(folder), folder)
    count = len(tensors)
    said = f"{count} of {count} are of another: model.embed_tokens.weight is BF16, F32 was written"
    assert (check.answer, check.passed) == (said, False)


def test_a_gguf_of_another_type_than_qroar_json_says_fails_by_itself(demo, tmp_path):
    """Its own numbers are right within what Q4_0 rounds: where no llama.cpp is, nothing else shows it."""
    asked, other = (
        next(gguf_write.run(demo, YARN, None, tmp_path / one, format=one).glob("*.gguf"))
        for one in ("gguf-f16", "gguf-q4_0")
    )
    types, keys = verify_types.in_gguf(demo, YARN, None, asked, "gguf-f16")
    read = {str(tensor.tensor_type.name) for tensor in gguf.GGUFReader(asked).tensors}
    assert (types.passed, keys.passed) == (True, True)
    assert types.answer.endswith(f"tensors of {', '.join(sorted(read))}")
    types, keys = verify_types.in_gguf(demo, YARN, None, other, "gguf-f16")
    matrices = sum(len(tensor.shape) > 1 for tensor in gguf.GGUFReader(other).tensors)
    assert types.answer.startswith(f"{matrices} of ")
    assert "blk.0.attn_k.weight is Q4_0, F16 was written" in types.answer
    assert (types.passed, keys.passed) == (False, False)
    assert keys.answer == "general.file_type is 2, and not the export's"


def test_a_key_of_a_gguf_that_is_another_fails(demo, tmp_path):
    path = next(gguf_write.run(demo, YARN, None, tmp_path / "out", format="gguf-q8_0").glob("*.gguf"))
    reader = gguf.GGUFReader(path, "r+")
    reader.fields["llama.attention.layer_norm_rms_epsilon"].parts[-1][0] *= 10
    reader.data.flush()
    _, keys = verify_types.in_gguf(demo, YARN, None, path, "gguf-q8_0")
    assert keys.passed is False
    assert keys.answer.startswith("llama.attention.layer_norm_rms_epsilon is 9.99999")


@pytest.mark.parametrize("times", [1.0, 1.001])
def test_float32_leaves_less_than_a_thousandth_of_the_last_norm(demo, folder, times):
    """The limit before was 0.1 nats of |d ln p| for every format."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] *= times
    save_file(tensors, path, {"format": "pt"})
    again = load_model(str(folder), device="cpu", dtype="float32")
    check = logits(demo, Condition(YARN), again, sample_ids(demo))
    assert check.passed is (times == 1.0)
    far = float(check.answer.split("largest |d ln p| ")[1].split(",")[0])
    assert far == 0.0 if times == 1.0 else 1e-4 < far < 0.1


def test_a_narrower_number_format_may_leave_more(demo, tmp_path):
    """A correct bfloat16 export passes; the same distance in a folder of float32 does not."""
    folder = hf.run(demo, YARN, None, tmp_path / "out", dtype=torch.bfloat16)
    again = load_model(str(folder), device="cpu", dtype="float32")
    check = logits(demo, Condition(YARN), again, sample_ids(demo))
    assert check.passed is True
    far = float(check.answer.split("largest |d ln p| ")[1])
    assert limits_of(torch.float32)[0] < far < limits_of(torch.bfloat16)[0]
    again.stored = frozenset({"F32"})
    assert logits(demo, Condition(YARN), again, sample_ids(demo)).passed is False
    assert limits_of(None) == limits_of(torch.bfloat16)  # codes, whose scales have 16 bits
