"""A model knows when the files that it was read from are other ones."""

import json
import os
import shutil

import pytest

from qroar_core.models.file_stamp import stamp_of
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(DEMO, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(path):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"rms_norm_eps": 0.5}))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: rewrite(folder / "config.json"),
        lambda folder: os.utime(folder / "model.safetensors", ns=(1, 1)),
        lambda folder: (folder / "chat_template.jinja").write_text("x"),
        lambda folder: shutil.rmtree(folder),
    ],
    ids=["config", "weights", "chat template", "gone"],
)
def test_another_file_in_place_of_one_that_was_read_shows(folder, change):
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    (folder / "notes.json").write_text("{}")  # nothing is read from it
    assert not loaded.files_changed()
    change(folder)
    assert loaded.files_changed()


def test_a_gguf_is_its_file_alone_and_a_model_made_in_memory_has_none(tmp_path, tiny):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    before = stamp_of(tmp_path, file)
    (tmp_path / "config.json").write_text("{}")
    assert stamp_of(tmp_path, file) == before
    file.write_bytes(b"GGUF2")
    assert stamp_of(tmp_path, file) != before
    assert not tiny().files_changed()
