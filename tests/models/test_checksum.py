"""A model's checksum: another one for whatever decides a number, the same for what does not."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.models.checksum import checksum
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(DEMO, tmp_path / "copy")
    return tmp_path / "copy"


def edited(folder, file, change):
    path = folder / file
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return load_model(str(folder), device="cpu", dtype="float32")


def set_theta(config):
    config["rope_parameters"]["rope_theta"] *= 2


def set_eps(config):
    config["rms_norm_eps"] *= 10


def end_elsewhere(generation):
    generation["eos_token_id"] = 7


def merge_less(tokenizer):
    tokenizer["model"]["merges"].pop()


def begin_otherwise(config):
    config["bos_token"] = "a"  # put before a window where BOS is asked for, though no text is coded with it


def talk_otherwise(config):
    config["chat_template"] = "{{ messages[0]['content'] }}"  # how retrieval asks


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", set_theta),
        ("config.json", set_eps),
        ("generation_config.json", end_elsewhere),
        ("tokenizer.json", merge_less),
        ("tokenizer_config.json", begin_otherwise),
        ("tokenizer_config.json", talk_otherwise),
    ],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_what_changes_the_function_or_the_text_is_another_model(demo, folder, file, change):
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    other = edited(folder, file, change)
    assert other.fingerprint == demo.fingerprint  # the weights are the same
    assert other.checksum != demo.checksum


def test_one_weight_that_no_sample_holds_is_another_model(demo, folder):
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name].view(-1)[1] += 0.5  # between two of the values that the fingerprint samples
    save_file(tensors, file, {"format": "pt"})
    other = load_model(str(folder), device="cpu", dtype="float32")
    assert other.fingerprint == demo.fingerprint
    assert other.checksum != demo.checksum


def test_a_copy_elsewhere_saved_by_another_version_is_the_same_model(demo, folder):
    def harmless(config):
        config |= {"_name_or_path": "elsewhere", "transformers_version": "4.0.0", "use_cache": not config["use_cache"]}

    again = edited(folder, "config.json", harmless)
    assert again.checksum == demo.checksum


def test_tied_weights_count_once_and_every_byte_counts():
    """Against SHA-256 over the same bytes, put together by hand."""

    class Config:
        def to_dict(self):
            return {"rope_theta": 1e4, "use_cache": True}

    model = torch.nn.Module()
    model.config, model.generation_config = Config(), None
    model.a = torch.nn.Parameter(torch.arange(6, dtype=torch.bfloat16).view(2, 3))
    model.b = model.a
    weights = hashlib.sha256(model.a.detach().view(torch.uint8).numpy().tobytes()).hexdigest()
    parts = [b'[{"rope_theta": 10000.0}, null]', b"", f"a(2, 3){weights}".encode()]
    by_hand = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]
    assert checksum(model, None) == by_hand
