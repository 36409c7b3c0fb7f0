"""Models from a hub, asked of a small server on this machine: what people type, and every way a download fails."""

from __future__ import annotations

import errno
import json
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import gguf
import pytest

from qroar_core.errors import BadCheckpoint, Cancelled, QRoarError
from qroar_core.jobs import Manager
from qroar_core.models import hub, hub_download
from qroar_core.models.formats.gguf.source import gguf_of
from qroar_core.models.load import run as load_model
from qroar_core.models.model_argument import HubModel, parse
from qroar_core.models.sources import DEMO, locate
from qroar_core.progress import cancellable, no_progress
from tests.models.gguf_files import write_model
from tests.models.hub_server import Hub, commit_of

pytestmark = pytest.mark.slow  # every download begins a process
ROOT = Path(__file__).parents[2]
FOLDER = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub with the demo model as org/demo, and an empty cache for what comes from it."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as server:
        server.put("org/demo", {name: (DEMO / name).read_bytes() for name in FOLDER})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


def line_of(asked, kind=QRoarError):
    with pytest.raises(kind) as error:
        locate(asked)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{asked}: ")
    return str(error.value).removeprefix(f"{asked}: ")


def cached(tmp_path, pattern="*"):
    """Files in the hub's cache, halves and locks included."""
    return sorted(p.name for p in (tmp_path / "hf").rglob(pattern) if p.is_file())


def test_a_folder_loads_with_the_files_it_needs_and_no_others(served, demo):
    files = served.repos["org/demo"]["main"]
    files |= dict.fromkeys(("consolidated.safetensors", "original/params.json", "onnx/model.onnx", "README.md"), b"x")
    files["chat_template.jinja"] = b"{{ x }}"
    steps = []
    loaded = load_model("org/demo", device="cpu", on_step=steps.append)
    assert loaded.fingerprint == demo.fingerprint
    assert loaded.name == "org/demo"
    assert loaded.note == (f"org/demo on the Hugging Face hub, revision main, commit {commit_of('main')[:12]}")
    assert served.fetched() == ["chat_template.jinja", *FOLDER[:3], "model.safetensors"]
    assert (loaded.template / "chat_template.jinja").read_bytes() == b"{{ x }}"
    told = [step for step in steps if step.stage == "download" and step.total > 1]
    assert told[-1].total == sum(len(files[name]) for name in (*FOLDER, "chat_template.jinja"))
    assert 0 < told[0].done < told[-1].done <= told[-1].total
    assert told[-1].what.endswith(f" of {told[-1].total / 1e6:,.1f} MB downloaded")


def test_only_the_shards_that_the_index_names(served):
    index = b'{"weight_map": {"a": "model-1.safetensors"}}'
    served.put(
        "org/big",
        {
            "config.json": b"{}",
            "tokenizer.json": b"{}",
            "model.safetensors.index.json": index,
            "model-1.safetensors": b"1",
            "model-2.safetensors": b"2",
        },
    )
    folder = hub.fetch("org/big", HubModel("org/big"), no_progress)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model-1.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]


def test_weights_without_a_config_are_not_downloaded(served, tmp_path):
    served.put("org/bare", {name: (DEMO / name).read_bytes() for name in FOLDER[1:]})
    assert line_of("org/bare").startswith("it has safetensors and no config.json at its top; name a repository")
    assert served.fetched() == []


def test_a_broken_connection_is_resumed_where_it_broke(served):
    served.cut = True
    folder = locate("org/demo").folder
    data = (DEMO / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == data
    ranges = [int(r.split("=")[1].rstrip("-")) for _, path, r in served.asked if r and path.endswith("safetensors")]
    assert len(ranges) == 1
    assert len(data) // 4 < ranges[0] < len(data)


def test_what_was_fetched_serves_without_the_hub(served, monkeypatch):
    first = locate("org/demo")
    asked = len(served.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate("org/demo") == first
    assert len(served.asked) == asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    served.status = 503
    assert locate("org/demo") == first
    served.stop()
    assert locate("org/demo") == first
    assert locate(f"org/demo@{commit_of('main')}").folder == first.folder


def test_a_cache_without_the_weights_is_no_model(served, monkeypatch, tmp_path):
    folder = locate("org/demo").folder
    (folder / "model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert line_of("org/demo") == (
        f"the hub's cache ({tmp_path}/hf/hub) has only a part of it (neither safetensors nor GGUF files at its "
        "top), and HF_HUB_OFFLINE forbids to ask the hub; unset HF_HUB_OFFLINE, or give a "
        "local folder"
    )


def test_a_revision_by_branch_and_by_commit(served):
    old = {name: data for name, data in served.repos["org/demo"]["main"].items()}
    served.put("org/demo", old | {"chat_template.jinja": b"other"}, "v2")
    found = locate("org/demo@v2")
    assert (found.folder / "chat_template.jinja").read_bytes() == b"other"
    assert not (locate("org/demo").folder / "chat_template.jinja").exists()
    assert found.label == "org/demo"
    assert f"revision v2, commit {commit_of('v2')[:12]}" in found.note
    assert locate(f"org/demo@{commit_of('v2')}").folder == found.folder
    assert line_of("org/demo@v3") == f"no revision v3; choose a branch, tag or commit of {served.url}/org/demo"


def shelf(served, tmp_path, loaded=None):
    """A repository of GGUF files, one of them split."""
    paths = {kind: write_model(tmp_path / f"{kind}.gguf", gguf.GGMLQuantizationType[kind]) for kind in ("Q8_0", "F16")}
    files = {
        "config.json": b"{}",
        "mmproj-F16.gguf": b"x",
        "Tiny.Q8_0.gguf": paths["Q8_0"].read_bytes(),
        "f16/Tiny-F16-00001-of-00002.gguf": paths["F16"].read_bytes(),
        "f16/Tiny-F16-00002-of-00002.gguf": b"GGUF the second",
    }
    served.put("org/shelf", files)
    served.put("org/shelf", files | {"Tiny.Q8_0.gguf": b"GGUF of next"}, "next")
    return files


def test_a_gguf_by_its_quantization_by_its_path_and_split(served, tmp_path):
    files = shelf(served, tmp_path)
    one = gguf_of("org/shelf:q8_0")
    assert one.read_bytes() == files["Tiny.Q8_0.gguf"]
    assert served.fetched() == ["Tiny.Q8_0.gguf"]
    assert gguf_of("org/shelf/Tiny.Q8_0.gguf") == one
    assert gguf_of("org/shelf@next:Q8_0").read_bytes() == b"GGUF of next"
    assert gguf_of("org/shelf:Q8_0@next").read_bytes() == b"GGUF of next"
    assert line_of("org/shelf:Q5_0@next").endswith("it holds Q8_0, F16; name one: org/shelf@next:Q8_0")
    first = gguf_of("org/shelf:F16")
    assert first.name == "Tiny-F16-00001-of-00002.gguf"
    assert first.with_name("Tiny-F16-00002-of-00002.gguf").read_bytes() == b"GGUF the second"
    assert gguf_of("org/shelf/f16/Tiny-F16-00001-of-00002.gguf") == first
    assert gguf_of("org/demo") is None
    assert gguf_of("demo") is None


def test_a_gguf_repository_says_what_it_holds(served, tmp_path):
    shelf(served, tmp_path)
    assert line_of("org/shelf") == "it holds GGUF files: Q8_0, F16; name one, as in org/shelf:Q8_0"
    assert line_of("org/shelf:Q2_K") == "no GGUF file of Q2_K; it holds Q8_0, F16; name one: org/shelf:Q8_0"
    assert served.fetched() == []


def test_a_gguf_from_the_hub_is_read_and_named(served, tiny, tmp_path, monkeypatch):
    from tests.models.formats.smollm2_gguf import write_gguf

    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))
    original, path = tiny(hidden_size=64, head_dim=32), tmp_path / "tiny.gguf"
    write_gguf(path, original, gguf.GGMLQuantizationType.F16)
    served.put("org/tiny", {"Tiny-F16.gguf": path.read_bytes(), "Tiny-Q8_0.gguf": b"GGUF"})
    loaded = load_model("org/tiny:f16", device="cpu")
    assert loaded.geometry == original.geometry
    assert loaded.name == "org/tiny/Tiny-F16"
    assert loaded.note.endswith(f"org/tiny on the Hugging Face hub, revision main, commit {commit_of('main')[:12]}")


def test_files_of_one_name_in_several_repositories_are_never_taken_for_each_other(served, tiny, tmp_path, monkeypatch):
    """Three models of the same sizes, hence the same header, under one file name: weights alone tell them apart."""
    from pages.views.export_choice import default_folder
    from qroar_core.exporters import gguf_copy, gguf_write
    from qroar_core.exporters.folder import NOTE
    from qroar_core.runs.store import run_name
    from qroar_core.setting import default_setting
    from qroar_core.specs import RopeSpec
    from tests.models.formats.smollm2_gguf import write_gguf

    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    models, asked = {}, {}
    for seed, (repo, file) in enumerate(
        [("org1/a", "model-F16.gguf"), ("org1/b", "model-F16.gguf"), ("org2/b", "x/model-F16.gguf")]
    ):
        models[repo] = tiny(hidden_size=64, head_dim=32, seed=seed)
        write_gguf(tmp_path / "model.gguf", models[repo], gguf.GGMLQuantizationType.F16)
        served.put(repo, {file: (tmp_path / "model.gguf").read_bytes()})
        asked[f"{repo}:F16"] = repo
        asked[f"{repo}/{file}"] = repo
    loaded = {typed: load_model(typed, device="cpu") for typed in asked}
    for typed, repo in asked.items():
        mine = loaded[typed].model.get_input_embeddings().weight
        assert float((mine - models[repo].model.get_input_embeddings().weight).abs().max()) < 1e-2
    names = {repo: {loaded[typed].name for typed in asked if asked[typed] == repo} for repo in models}
    assert names == {
        "org1/a": {"org1/a/model-F16"},
        "org1/b": {"org1/b/model-F16"},
        "org2/b": {"org2/b/x/model-F16"},
    }
    of_each = [loaded[f"{repo}:F16"] for repo in models]
    for telling in (
        lambda one: one.checksum,
        lambda one: one.fingerprint,
        lambda one: run_name(one, default_setting(one)),
        lambda one: run_name(one, default_setting(one)).rpartition("-")[0],  # readable, without its digest
        default_folder,
        lambda one: gguf_write.file_name(one, "gguf-f16"),
        lambda one: gguf_copy.file_name(one.file),
    ):
        told = [telling(one) for one in of_each]
        assert len(set(told)) == 3, told
    first = of_each[0]
    assert default_folder(first) == "runs/org1--a--model-F16-qroar"
    assert gguf_copy.file_name(first.file) == "org1--a--model-F16.gguf"
    out = gguf_copy.run(first.file, None, RopeSpec("linear", 2.0), tmp_path / "out")
    assert json.loads((out / NOTE).read_text())["from"]["name"] == "org1/a/model-F16"
    assert (out / "org1--a--model-F16.gguf").is_file()


def test_gated_repositories_say_where_and_what(served, monkeypatch):
    served.gated = True
    page = f"{served.url}/org/demo"
    assert line_of("org/demo") == (
        f"the repository is gated; accept the licence at {page}, then log in (hf auth login) or set HF_TOKEN"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    assert line_of("org/demo") == (
        f"the repository is gated, and the account of your token has no access to it; accept the licence at {page} "
        "with that account, or set HF_TOKEN to a token of one that has"
    )


def test_each_refusal_is_its_own_line(served, monkeypatch, tmp_path):
    log_in = "log in (hf auth login) or set HF_TOKEN"
    assert line_of("org/nothing") == (
        f"no such repository on the hub, or a private one; check the name; for a private one {log_in}"
    )
    assert line_of("org/demo/x.gguf").startswith("no file x.gguf, and no other GGUF file")
    for status, line in (
        (403, f"the hub refuses access (403); see {served.url}/org/demo, then {log_in}"),
        (429, f"the hub has had too many requests from here (429); wait some minutes, or {log_in}"),
        (500, "the hub answers 500; try again later, or give a local folder"),
    ):
        served.status = status
        assert line_of("org/demo") == line
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    served.status = 401
    assert line_of("org/demo").startswith("the hub does not take your token (401)")
    served.stop()
    assert line_of("org/demo").startswith(f"no connection to {served.url} (ConnectError")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert line_of("org/demo") == (
        f"the hub's cache ({tmp_path}/hf/hub) does not have it, and HF_HUB_OFFLINE forbids to ask the hub; unset "
        "HF_HUB_OFFLINE, or give a local folder"
    )


def test_no_room_on_the_disk_is_said_before_the_first_byte(served):
    served.told_size = 10**15  # of each of four files
    said = line_of("org/demo")
    assert said.startswith("4000000.0 GB are to be downloaded and ")
    assert said.endswith("; free some room, or set HF_HOME to a folder on a larger disk")
    assert served.fetched() == []


def test_room_is_asked_for_what_is_missing_alone(served, monkeypatch, tmp_path):
    locate("org/demo")
    served.told_size = 10**15
    assert locate("org/demo").label == "org/demo"  # nothing is missing
    (tmp_path / "hf/hub/models--org--demo/snapshots" / commit_of("main") / "tokenizer.json").unlink()
    assert line_of("org/demo").startswith("1000000.0 GB are to be downloaded")


@pytest.fixture
def in_process(served, monkeypatch, tmp_path):
    """`hub_download.download` here, against the hub, whatever this process read from its environment when it began."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + template)
    return lambda asked, say=lambda line: None: hub_download.download(asked, parse(asked), say)


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_half(in_process, monkeypatch, tmp_path):
    from huggingface_hub import file_download

    def full(url, temp_file, **options):
        temp_file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(BadCheckpoint) as error:
        in_process("org/demo")
    assert str(error.value) == (
        f"org/demo: the disk of the hub's cache is full ({tmp_path}/hf/hub); free some room, or set HF_HOME to a "
        "folder on a larger disk"
    )
    assert [p for p in (tmp_path / "hf").rglob("*") if p.is_file() and p.read_bytes() == b"half"] == []


def test_a_connection_that_breaks_for_good_is_given_up(in_process, monkeypatch):
    import httpx2
    from huggingface_hub import file_download

    tried, said = [], []

    def broken(url, temp_file, tqdm_class=None, **options):
        tried.append(url)
        if tqdm_class and len(tried) < 3:  # bytes came before it broke: that counts as going on
            tqdm_class(total=10).update(5)
        raise httpx2.ReadError("connection reset")

    monkeypatch.setattr(file_download, "http_get", broken)
    monkeypatch.setattr(hub_download, "PAUSE", 0.0)
    monkeypatch.setattr(hub_download, "EVERY", 0.0)
    with pytest.raises(BadCheckpoint, match=r"no connection to http.* \(ReadError: connection reset\)"):
        in_process("org/demo", said.append)
    assert len(tried) == 2 + hub_download.TRIES - 1
    assert [line["done"] for line in said] == [5, 5]  # the half that was lost does not count


def test_the_hubs_cache_that_cannot_be_made_is_one_line(served, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hf"))
    said = line_of("org/demo")
    assert said.startswith("the hub's cache cannot be written (Not a directory: ")
    assert said.endswith("; set HF_HOME to a folder that can be written")


def test_a_cancelled_download_ends_at_once_and_leaves_no_half(served, tmp_path):
    served.pause = 0.1  # 7 MB would take half a minute
    stop, began = threading.Event(), threading.Event()

    def on_step(step):
        if step.stage == "download" and step.total > 1 and step.done > 400_000:
            began.set()
            stop.set()

    start = time.monotonic()
    with pytest.raises(Cancelled):
        locate("org/demo", cancellable(on_step, stop))
    assert began.is_set()
    assert time.monotonic() - start < 15
    deadline = time.monotonic() + 5
    while served.open and time.monotonic() < deadline:
        time.sleep(0.05)
    assert served.open == 0  # nobody reads on
    assert cached(tmp_path, "*.incomplete") == []
    assert not any("model.safetensors" in name for name in cached(tmp_path))
    served.pause = 0.0
    assert (locate("org/demo").folder / "model.safetensors").read_bytes() == (DEMO / "model.safetensors").read_bytes()


def test_a_download_process_that_dies_is_a_fault_with_its_last_word(served, monkeypatch):
    monkeypatch.setattr(hub, "ROOT", Path("/nowhere"))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.chdir("/")
    with pytest.raises(RuntimeError, match=r"the download of org/demo ended with code 1: .*No module named"):
        locate("org/demo")


def test_a_job_shows_its_bytes_and_its_cancel_stops_the_download(served):
    served.pause, jobs = 0.1, Manager()
    jobs.submit("load", load_model, "org/demo", label="Load org/demo", device="cpu")
    deadline = time.monotonic() + 20
    while not ((step := jobs.snapshot("load").step) and " of 7.1 MB" in step.what and step.done > 200_000):
        assert time.monotonic() < deadline, step
        time.sleep(0.05)
    assert re.fullmatch(r"0\.\d of 7\.1 MB downloaded", step.what)
    jobs.cancel("load")
    start = time.monotonic()
    while jobs.snapshot("load").active:
        time.sleep(0.05)
    assert time.monotonic() - start < 5
    assert jobs.snapshot("load").state == "cancelled"
    while served.open and time.monotonic() - start < 10:
        time.sleep(0.05)
    assert served.open == 0


def test_ctrl_c_ends_the_command_with_130_and_the_download_with_it(served, tmp_path):
    served.pause = 0.1
    command = [sys.executable, "-m", "qroar_core", "info", "org/demo"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heard) as process:
        deadline = time.monotonic() + 120
        while not served.open:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert (process.returncode, said.splitlines()[-1]) == (130, "qroar: cancelled")
        assert time.monotonic() - start < 20
    while served.open and time.monotonic() - start < 40:
        time.sleep(0.05)
    assert served.open == 0
    assert cached(tmp_path, "*.incomplete") == []
