"""`--storage`, `--workers`, `--retrieve` and Ctrl-C on the command line."""

import json
import os
import signal
import threading
from dataclasses import asdict

import pytest
import torch

from qroar_core.__main__ import main
from qroar_core.cli.graceful_sigint import graceful_sigint
from qroar_core.errors import Cancelled
from qroar_core.progress import Step
from qroar_core.retrieval.result import Retrieval
from tests.cli.command import one_line, printed, refused, without_figures
from tests.helpers import planted_retrieval

pytestmark = pytest.mark.slow

STEP = Step("search", 1, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "2"], "--workers: needs a file to share; add --storage FILE"),
        (["--workers", "0"], "--workers: must be at least 1, got 0; give a larger number"),
        (["--trials", "0"], "--trials: must be at least 1, got 0; give a larger number"),
        (["--l2-penalty", "-1"], "--l2-penalty: must be at least 0, got -1.0; give a larger number"),
        (["--sampler", "best"], "--sampler: unknown value 'best'; choose one of tpe, grid, random"),
        (
            ["--storage", "s"],
            "--storage: the gradient method goes step by step and cannot be shared; add --method optuna",
        ),
        (
            ["--storage", "s", "--method", "optuna", "--objective", "kl"],
            "--storage: the kl objective goes step by step and cannot be shared; choose --objective cached or full",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["search", "run"])
def test_what_cannot_be_shared_is_refused_before_loading(capfd, monkeypatch, command, arguments, said):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))
    assert refused(capfd, command, "demo", *arguments) == said


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


def test_the_first_ctrl_c_cancels_at_the_next_step_and_the_second_at_once(capfd):
    before, seen = signal.getsignal(signal.SIGINT), []
    with graceful_sigint(seen.append) as on_step:
        on_step(STEP)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Cancelled):
            on_step(STEP)
        assert seen == [STEP]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == "qroar: stopping at the next step; Ctrl-C again stops at once\n"


def test_a_thread_leaves_the_signal_alone():
    def work():
        with graceful_sigint(print) as on_step:
            assert on_step is print

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_best_of_a_stopped_search_is_written_and_marked(capfd, monkeypatch, demo, tmp_path):
    """The demo's own search, stopped by a real SIGINT at its fourth gradient step."""
    from qroar_core.models import load
    from qroar_core.scale_search import run as search

    whole, steps = search.run, []

    def run(*arguments, **more):
        on_step = arguments[4]

        def stop_at_the_fourth(step):
            steps.append(step.what)
            if step.what == "gradient step 4":
                os.kill(os.getpid(), signal.SIGINT)
            on_step(step)

        return whole(*arguments[:4], stop_at_the_fourth, **more)

    monkeypatch.setattr(load, "run", lambda source, **kw: demo)
    monkeypatch.setattr(search, "run", run)
    command = ["search", "demo", "--windows", "1", "--length", "128", "--out", str(tmp_path / "o")]
    assert main(command) == 130
    assert capfd.readouterr().err.splitlines()[-1] == "qroar: cancelled"
    content = json.loads((tmp_path / "o" / "scales.json").read_text())
    assert content["search"]["partial"] is True
    assert content["search"]["reason"] == "cancelled before its gain was measured on development text"
    assert content["search"]["objective_found"] < content["search"]["objective_identity"] == 1.0
    g = torch.tensor(content["g"])
    assert g.shape == (demo.geometry.n_layers, demo.geometry.n_kv_heads, 8)
    assert (g != 1).any()
    assert steps[-1] == "gradient step 4"


def test_a_search_stopped_before_any_candidate_writes_nothing(capfd, stages, tmp_path):
    from qroar_core.scale_search import run as search

    def stopped(*arguments, **more):
        raise Cancelled("search")

    stages.patch(search, "run", stopped)
    assert one_line(capfd, 130, "search", "demo", "--out", tmp_path / "o") == "cancelled"
    assert not (tmp_path / "o").exists()


# -- retrieval in the whole run -----------------------------------------------------------------------------------


@pytest.fixture
def asks(stages):
    from qroar_core.retrieval import run as retrieve

    asked = []

    def fake(loaded, setting, scales, spec, documents, on_step=None):
        asked.append((setting.rope, setting.quant, scales, spec))
        return planted_retrieval.retrieval().model_copy(update={"spec": asdict(spec)})

    stages.patch(retrieve, "run", fake)
    return asked


def test_a_run_with_retrieval_holds_it_tells_of_it_and_resumes(capfd, asks, tmp_path):
    folder = tmp_path / "r"
    out = printed(capfd, "run", "demo", "--retrieve", "--seed", 3, "--out", folder)
    ((rope, quant, scales, spec),) = asks
    assert (rope.method, quant.k.bits, spec.seed, spec.lengths) == ("yarn", 4, 3, (256, 1024))
    assert float(scales.g.mean()) == 2.0  # what the planted search found
    sentence = planted_retrieval.retrieval().findings[0].sentence
    assert sentence in out
    assert Retrieval.from_file(folder / "retrieval.json").findings[0].sentence == sentence
    report = (folder / "report.html").read_text()
    assert '<h2 id="retrieval">Retrieval</h2>' in report
    assert sentence[1:].rstrip(".") in report
    assert report.count("generated answer") > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "retrieve" in manifest["stages"]
    printed(capfd, "run", "demo", "--retrieve", "--seed", 3, "--out", folder)
    assert len(asks) == 1
    (folder / "retrieval.json").unlink()  # as a kill before its end leaves it
    printed(capfd, "run", "demo", "--retrieve", "--seed", 3, "--out", folder)
    assert len(asks) == 2


def test_retrieval_is_off_by_default_and_may_be_added_to_a_finished_run(capfd, asks, tmp_path):
    folder = tmp_path / "r"
    out = printed(capfd, "run", "demo", "--out", folder)
    assert asks == []
    assert not (folder / "retrieval.json").exists()
    assert 'id="retrieval"' not in (folder / "report.html").read_text()
    assert planted_retrieval.retrieval().findings[0].sentence not in out
    evaluated = (folder / "evaluation.json").stat().st_mtime_ns
    printed(capfd, "run", "demo", "--retrieve", "--out", folder)
    assert len(asks) == 1
    assert 'id="retrieval"' in (folder / "report.html").read_text()
    assert (folder / "evaluation.json").stat().st_mtime_ns == evaluated
    (folder / "report.html").unlink()
    printed(capfd, "run", "demo", "--out", folder)  # what the folder has is told of
    assert 'id="retrieval"' in (folder / "report.html").read_text()


# -- processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tiny, byte_tokenizer, tmp_path):
    loaded = tiny(head_dim=32)
    loaded.model.save_pretrained(tmp_path / "model")
    byte_tokenizer.save_pretrained(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i * 3 + 5 * i + i // 5) % 26) for i in range(4000)))
    return [
        str(tmp_path / "model"),
        "--text",
        str(text),
        "--length",
        "64",
        "--windows",
        "2",
        "--rope",
        "yarn",
        "--factor",
        "2",
        "--k",
        "int4",
        "--method",
        "optuna",
        "--trials",
        "6",
    ]


def searched(folder):
    content = json.loads((folder / "scales.json").read_text())
    for timed in ("seconds", "forward_seconds", "forward_equivalents"):
        content["search"].pop(timed)
    return content


def test_what_a_worker_does_leaves_its_command_nothing_to_try(on_disk, tmp_path, monkeypatch):
    from qroar_core.cli.reproduce import DEFAULTS
    from qroar_core.cli.workers import _share
    from qroar_core.scale_search.shared_study import SharedStudy

    named = {word.removeprefix("--"): value for word, value in zip(on_disk[1::2], on_disk[2::2], strict=True)}
    numbers = {name: int(named[name]) for name in ("length", "windows", "trials")} | {"factor": float(named["factor"])}
    storage = str(tmp_path / "s")
    _share(
        {
            **DEFAULTS,
            **named,
            **numbers,
            "model": on_disk[0],
            "device": "auto",
            "dtype": "auto",
            "storage": storage,
            "workers": 2,
        },
        None,
    )
    monkeypatch.setattr(SharedStudy, "_claim", lambda *a: pytest.fail("a candidate was left"))
    assert main(["search", *on_disk, "--storage", storage]) == 0


def test_two_workers_find_what_one_finds(capfd, on_disk, tmp_path):
    one = ["search", *on_disk, "--storage", str(tmp_path / "s1"), "--out", str(tmp_path / "one")]
    two = ["search", *on_disk, "--storage", str(tmp_path / "s2"), "--workers", "2", "--out", str(tmp_path / "two")]
    threads = torch.get_num_threads()
    assert main(one) == 0
    assert main(two) == 0
    assert searched(tmp_path / "one") == searched(tmp_path / "two")
    assert "a worker ended" not in capfd.readouterr().err
    assert torch.get_num_threads() == threads
    again = ["search", *on_disk, "--storage", str(tmp_path / "s2"), "--out", str(tmp_path / "again")]
    assert main(again) == 0  # the storage knows every candidate
    assert searched(tmp_path / "again") == searched(tmp_path / "two")
    capfd.readouterr()
    told = refused(capfd, *again[:-1], tmp_path / "other", "--trials", "11")
    assert "holds a search with another search option (trials); choose a new file or the same options" in told


def test_two_workers_share_a_whole_run_with_its_rotated_search(capfd, on_disk, tmp_path):
    asked = ["run", *on_disk, "--rotation-scales"]
    with without_figures():
        assert main([*asked, "--storage", str(tmp_path / "s1"), "--out", str(tmp_path / "one")]) == 0
        assert main([*asked, "--storage", str(tmp_path / "s2"), "--workers", "2", "--out", str(tmp_path / "two")]) == 0
    for name in ("scales_found.json", "scales_rotation.json"):
        first, second = (json.loads((tmp_path / x / name).read_text())["g"] for x in ("one", "two"))
        assert first == second
    assert (tmp_path / "s2.rotation").is_file()
    assert "a worker ended" not in capfd.readouterr().err
