"""What a person types for MODEL: files known by their content, adapters, places in the hub's cache, our own cache."""

from __future__ import annotations

import errno
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from qroar_core.errors import BadCheckpoint, BadOutput, QRoarError, UnsupportedModel
from qroar_core.models import smollm2
from qroar_core.models.cache_folder import cache_errors, writable_cache
from qroar_core.models.formats.gguf import config_folder, opened
from qroar_core.models.formats.gguf.config_folder import template_folder
from qroar_core.models.formats.gguf.source import gguf_of, is_gguf
from qroar_core.models.sources import DEMO, locate
from tests.models.gguf_files import write_model

SET = "set QROAR_CACHE to a folder that can be written"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def unconverted(monkeypatch, tmp_path):
    """GGUF files are found and named here; reading them is tested elsewhere."""
    monkeypatch.setattr(opened, "open_gguf", lambda path: SimpleNamespace(label="Q8_0", tensors={}))
    monkeypatch.setattr(config_folder, "template_folder", lambda found, cache: tmp_path)


def line_of(asked, kind=QRoarError):
    with pytest.raises(kind) as error:
        locate(str(asked))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_gguf_is_known_by_its_first_bytes(tmp_path, unconverted):
    blob = write_model(tmp_path / "sha256-0123456789abcdef", extra=lambda w: w.add_name("Tiny/7B"))
    found = locate(str(blob))
    assert (found.label, found.note) == ("Tiny-7B", "dequantized from GGUF (Q8_0)")
    assert gguf_of(str(blob)) == blob
    nameless = write_model(tmp_path / "sha256-fedcba9876543210fedcba98")
    assert locate(str(nameless)).label == "sha256-fedcba9876543"
    named = write_model(tmp_path / "My.Model.Q8_0.gguf")
    assert locate(str(named)).label == "My.Model.Q8_0"
    shutil.copyfile(named, tmp_path / "Big-00001-of-00002.gguf")
    assert locate(str(tmp_path / "Big-00001-of-00002.gguf")).label == "Big"
    shutil.copyfile(named, tmp_path / "shouted.GGUF")
    assert locate(str(tmp_path / "shouted.GGUF")).label == "shouted"


def test_the_store_of_a_repository_names_its_newest_snapshot(tmp_path):
    store = tmp_path / "models--org--name"
    for at, commit in enumerate(("b" * 40, "a" * 40)):
        (store / "snapshots" / commit).mkdir(parents=True)
        os.utime(store / "snapshots" / commit, (at, at))
    said = line_of(store)
    assert said.endswith(f"not a checkpoint; give one of its snapshots, as in {store / 'snapshots' / ('a' * 40)}")
    assert locate(str(tmp_path)).folder == tmp_path  # whose config.json its reader misses


def test_a_gguf_is_called_by_the_type_of_its_layers():
    """An embedding of most values, stored finer, gives no name: Gemma 3's Q4_K_M files are so."""
    tensors = {
        "token_embd.weight": Stand("Q8_0", (1000, 64)),
        "blk.0.ffn_up.weight": Stand("Q4_K", (64, 64)),
        "blk.0.ffn_down.weight": Stand("Q6_K", (64, 32)),
        "blk.0.attn_norm.weight": Stand("F32", (64 * 64 * 9,)),
    }
    assert label_of(tensors) == "Q4_K"
    floats = {name: Stand("F16", one.shape) if name.startswith("blk") else one for name, one in tensors.items()}
    assert label_of(floats) == "Q8_0"
    assert label_of({"blk.0.x": Stand("BF16", (2,))}) == "BF16"


def label_of(tensors):
    return opened.Opened(SimpleNamespace(tensors=tensors), None, {}, {}).label


class Stand:
    """A tensor of a GGUF header: its type and its shape."""

    def __init__(self, kind, shape):
        self.info, self.shape = SimpleNamespace(kind=SimpleNamespace(name=kind)), shape


def test_a_suffix_makes_no_gguf(tmp_path):
    for content, line in (
        (b"hello" * 99, "not a readable GGUF file (it does not begin with GGUF); fetch it again"),
        (b"", "not a readable GGUF file (it is empty); fetch it again"),
        (b"version https://git-lfs.github.com/x\noid", "a Git LFS pointer, not the file itself; run: git lfs pull"),
    ):
        (tmp_path / "x.gguf").write_bytes(content)
        for ask in (locate, gguf_of):
            with pytest.raises(BadCheckpoint) as error:
                ask(str(tmp_path / "x.gguf"))
            assert str(error.value) == f"{tmp_path}/x.gguf: {line}"
    (tmp_path / "x.bin").write_bytes(b"hello")
    assert not is_gguf(tmp_path / "x.bin")
    assert gguf_of(str(tmp_path / "x.bin")) is None
    assert line_of(tmp_path / "x.bin").endswith("not a checkpoint; give a Hugging Face folder or a GGUF file")


def test_a_gguf_that_is_not_there_is_no_other_file(tmp_path):
    for ask in (locate, gguf_of):
        with pytest.raises(BadCheckpoint, match=r"gone\.gguf: no such file; check the path"):
            ask(str(tmp_path / "gone.gguf"))


def test_a_folder_of_ggufs_names_them(tmp_path):
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert line_of(tmp_path) == (
        f"{tmp_path}: it holds GGUF files and no config.json: a.gguf, b.gguf; name one, as in {tmp_path}/a.gguf"
    )


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "beside a model"])
def test_an_adapter_is_sent_to_its_base(tmp_path, whole):
    if whole:
        shutil.copytree(DEMO, tmp_path, dirs_exist_ok=True)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "meta-llama/Llama-3.2-1B", "peft_type": "LORA"})
    )
    assert line_of(tmp_path, UnsupportedModel) == (
        f"{tmp_path}: it is a LoRA adapter for meta-llama/Llama-3.2-1B; merge it into the base model first (peft: "
        "merge_and_unload, save_pretrained) and give that folder"
    )
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    assert "it is an adapter (IA3) for a base model that it does not name" in line_of(tmp_path, UnsupportedModel)
    (tmp_path / "adapter_config.json").write_text("[]")
    assert "adapter_config.json cannot be read" in line_of(tmp_path, BadCheckpoint)


def test_a_place_in_the_hubs_cache_has_its_repositorys_name(tmp_path, unconverted):
    storage = tmp_path / "models--org--name"
    folder = storage / "snapshots" / COMMIT
    shutil.copytree(DEMO, folder)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    found, words = locate(str(folder)), f"org/name on the Hugging Face hub, revision main, commit {COMMIT[:12]}"
    assert (found.label, found.note, found.folder) == ("org/name", words, folder)
    write_model(folder / "name-Q8_0.gguf")
    found = locate(str(folder / "name-Q8_0.gguf"))
    assert (found.label, found.note) == ("org/name/name-Q8_0", f"dequantized from GGUF (Q8_0); {words}")


def test_info_shows_the_repository_and_the_revision(tmp_path, capfd):
    from qroar_core.__main__ import main

    folder = tmp_path / "models--org--name" / "snapshots" / COMMIT
    shutil.copytree(DEMO, folder)
    assert main(["info", str(folder), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["name"] == "org/name"
    assert said["note"] == f"org/name on the Hugging Face hub, commit {COMMIT[:12]}"


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    cache = tmp_path / "file" / "cache"
    monkeypatch.setenv("QROAR_CACHE", str(cache))
    said = f"the cache folder cannot be written (Not a directory); {SET}"
    line = f"{cache}: {said}"
    with pytest.raises(BadOutput) as error:
        writable_cache("made")
    assert str(error.value) == line
    with pytest.raises(BadOutput) as error:
        smollm2.fetch()
    assert str(error.value) == line
    with pytest.raises(BadOutput) as error:
        template_folder(SimpleNamespace(config={}, files=SimpleNamespace(shards=())), cache)
    assert str(error.value) == f"{cache}/gguf: {said}"


def test_a_cache_that_can_be_made_is(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "a" / "b"))
    assert writable_cache("made", "here") == tmp_path / "a" / "b" / "made" / "here"
    assert list((tmp_path / "a" / "b" / "made" / "here").iterdir()) == []


def test_a_full_disk_and_other_peoples_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path))
    for error in (OSError(errno.ENOSPC, "No space left"), OSError(errno.EDQUOT, "Quota", str(tmp_path / "x"))):
        with pytest.raises(BadOutput, match="the disk of the cache folder is full; free some room"), cache_errors():
            raise error
    with pytest.raises(BadOutput, match=r"cannot be written \(Read-only file system\)"), cache_errors():
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x"))
    for error in (OSError(errno.EACCES, "Denied", "/elsewhere/x"), OSError(errno.ENOSPC, "Full", "/elsewhere/x")):
        with pytest.raises(OSError, match=r"Denied|Full") as raised, cache_errors():
            raise error
        assert raised.value is error


def test_what_is_neither_file_nor_folder_is_not_waited_for(tmp_path):
    """Opening a pipe waits for somebody to write into it."""
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(BadCheckpoint, match=r"m.gguf: not a checkpoint; give a Hugging Face folder or a GGUF file"):
        locate(str(tmp_path / "m.gguf"))
