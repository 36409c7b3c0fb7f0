"""`run` on the demo: the folder's contract, resuming, kill -9 and Ctrl-C, export and evaluate of what it wrote."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from qroar_core.__main__ import main
from qroar_core.cli import tables
from qroar_core.models.text import split, windows
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.file import from_file
from tests.cli.command import FILES, leftovers, printed, read, refused, stopping, without_figures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = ("--windows", "2", "--length", "128", "--k", "int3")  # seconds, and enough to prove a gain
STAGE_FILES = {
    "diagnose": {"diagnosis.json"},
    "search": {"scales_found.json", "scales_smooth_attention.json", "scales_mad.json", "search.json"},
    "evaluate": {"evaluation.json", "scales.json", "report.html"},
}


def small(folder, *more):
    return ["run", "demo", "--out", str(folder), *SMALL, *more]


def numbers(folder):
    """What a run found, without how long it took."""
    diagnosis, evaluation = read(folder, "diagnosis.json"), read(folder, "evaluation.json")
    diagnosis.pop("seconds")
    return diagnosis, evaluation, read(folder, "scales.json")["g"], read(folder, "scales_found.json")["g"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "made" / "by the command"
    assert main(small(folder)) == 0
    return folder


@pytest.fixture
def ready(monkeypatch, demo):
    """The demo model without the wait."""
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda source, **kw: demo)


def test_the_folder_holds_what_was_promised(finished):
    assert sorted(p.name for p in finished.iterdir()) == sorted(FILES)
    manifest = read(finished, "manifest.json")
    assert {"versions", "specs", "seed", "model", "device", "stages"} <= set(manifest)
    assert manifest["versions"]["torch"].startswith("2.13.0")
    assert manifest["specs"]["rope"]["method"] == "yarn"
    assert manifest["specs"]["quant"]["k"]["bits"] == 3
    assert manifest["specs"]["search"]["windows"] == 2
    assert manifest["model"]["fingerprint"] == read(finished, "scales.json")["model"]["fingerprint"]
    assert {"diagnose", "search", "evaluate", "report"} <= set(manifest["stages"])
    assert all(manifest["stages"][stage] > 0 for stage in ("diagnose", "search", "evaluate", "report"))


def test_diagnosis_json_has_the_contracts_fields_and_shapes(finished, demo):
    found, geo = read(finished, "diagnosis.json"), demo.geometry
    bands = found["bands"]
    assert [b["index"] for b in bands] == list(range(8))
    assert [pair for b in bands for pair in range(b["first_pair"], b["last_pair"] + 1)] == list(range(geo.n_pairs))
    for band in bands:
        assert {
            "wavelength_min",
            "wavelength_max",
            "turns",
            "interpolation_pressure",
            "phase_displacement",
            "logit_weighted_pressure",
            "logit_change",
            "side_peak",
        } <= set(band)
        assert 0 < band["wavelength_min"] < band["wavelength_max"]
        assert band["native_wavelength_max"] <= band["wavelength_max"]
        assert 0 < band["logit_change"] <= band["logit_weighted_pressure"]
    assert set(found["tail_inflation"]) == {"pre", "post"}
    for side in found["tail_inflation"].values():
        assert set(side) == {"q", "k"}
        for table in side.values():
            assert [len(row) for row in table] == [8] * geo.n_layers
            assert all(isinstance(value, float) and value > 0 for row in table for value in row)
    noise = found["logit_noise"]
    assert len(noise["position"]) == len(noise["rms"]) == len(noise["attention_kl"]) > 4
    assert max(noise["position"]) < 128
    assert max(v for v in noise["rms"] if v is not None) > 0
    bins = len(found["position_edges"]) - 1
    for part in ("amplitude", "phase"):
        assert [len(row) for row in found["pair_error"][part]] == [bins] * 8
    assert "Scales can act" in found["verdict"]["reason"]


def test_scales_json_has_the_contracts_fields_and_nesting(finished, demo):
    for name in ("scales.json", "scales_found.json", "scales_smooth_attention.json"):
        content, geo = read(finished, name), demo.geometry
        assert content["format"] == "qroar-scales"
        assert content["version"] == 1
        assert content["model"] == {
            "name": "demo",
            "fingerprint": demo.fingerprint,
            "family": "llama",
            "layers": geo.n_layers,
            "kv_heads": geo.n_kv_heads,
            "head_dim": geo.head_dim,
            "rotary_dim": geo.rotary_dim,
            "pairing": "half",
        }
        assert content["mode"] == "symmetric"
        assert content["granularity"] == "kv_head"
        assert content["rope"]["factor"] == 4.0
        assert content["quantization"]["k"]["bits"] == 3
        assert content["bands"] == [[4 * b, 4 * b + 3] for b in range(8)]
        assert len(content["g"]) == geo.n_layers
        assert {len(layer) for layer in content["g"]} == {geo.n_kv_heads}
        assert {len(head) for layer in content["g"] for head in layer} == {8}
        assert {"objective", "bounds", "trials", "seconds", "forward_equivalents"} <= set(content["search"])
    assert read(finished, "scales_found.json")["g"] != read(finished, "scales_smooth_attention.json")["g"]


def test_evaluation_json_has_the_contracts_fields_and_adds_up(finished):
    found = read(finished, "evaluation.json")
    fields = {"length", "model", "scales", "nll", "nll_se", "ppl", "tokens", "kl_mean", "kl_p99", "same_top1"}
    assert all(fields <= set(row) for row in found["rows"])
    nll = {(r["length"], r["model"], r["scales"]): r["nll"] for r in found["rows"]}
    assert {
        (128, "reference", "identity"),
        (128, "quantized", "identity"),
        (128, "reference", "tuned"),
        (128, "quantized", "tuned"),
        (128, "quantized", "smooth_attention"),
    } <= set(nll)
    assert {row["length"] for row in found["rows"]} == {64, 128}
    before, after = nll[128, "quantized", "identity"], nll[128, "quantized", "tuned"]
    reference, tuned = nll[128, "reference", "identity"], nll[128, "reference", "tuned"]
    gain, cause = found["gain"], found["attribution"]
    assert gain["length"] == 128
    assert gain["delta_nll"] == pytest.approx(before - after, abs=1e-4)
    assert gain["ci_low"] < gain["delta_nll"] < gain["ci_high"]
    assert gain["significant"] == (gain["ci_low"] > 0)
    assert cause["quantization_repair"] == pytest.approx((before - after) - (reference - tuned), abs=1e-4)
    assert cause["retuning"] == pytest.approx(reference - tuned, abs=1e-4)
    if found["gap_recovered"] is not None:
        assert found["gap_recovered"] == pytest.approx((before - after) / (before - reference), rel=1e-2, abs=1e-3)


def test_the_decision_is_the_gain_on_development_windows(finished, demo):
    said = read(finished, "search.json")["decision"]
    ids = windows(demo.tokenizer, split("development"), 128, 8).ids
    scorer = WindowScorer(demo, RopeSpec("yarn", 4.0), QuantSpec(k=QuantizerSpec(3)), lambda step: None)
    scales = from_file(finished / "scales_found.json", demo)[0]
    gains = torch.tensor(scorer.nll(ids, None, "")) - torch.tensor(scorer.nll(ids, scales, ""))
    reach = 2.364624 * float(gains.double().std()) / 8**0.5  # Student's t, 7 degrees of freedom
    mean = float(gains.double().mean())
    found = (said["gain"], said["low"], said["high"])
    assert found == pytest.approx((mean, mean - reach, mean + reach), abs=1e-5)
    assert (said["windows"], said["length"], said["targets"]) == (8, 128, 127)
    assert (read(finished, "search.json")["chosen"] == "found") == (said["low"] > 0)


def test_a_run_prints_which_scales_are_kept_and_why_the_two_gains_differ(finished, ready, capfd):
    out = printed(capfd, *small(finished))
    said, gain = read(finished, "search.json"), read(finished, "evaluation.json")["gain"]["delta_nll"]
    assert f"in the search: {said['reason']}\n" in out
    assert "\nkept: " in out
    there, here = f"the search's {said['decision']['gain']:+.4f} nats", f"this evaluation's {gain:+.4f} nats"
    assert f"{there} and {here} for the same scales differ because" in out
    assert "the search's on 8 development windows of 128 tokens, every token but the first scored; this eval" in out


def test_identity_is_kept_exactly_when_nothing_was_proven(finished):
    g = torch.tensor(read(finished, "scales.json")["g"])
    chosen = read(finished, "search.json")["chosen"] == "found"
    proven = chosen and read(finished, "evaluation.json")["gain"]["significant"]
    assert bool((g == 1).all()) == (not proven)
    if proven:
        assert g.tolist() == torch.tensor(read(finished, "scales_found.json")["g"]).tolist()


def test_the_report_is_offline_and_complete(finished):
    from qroar_core.diagnostics.result import Diagnosis
    from qroar_core.evaluation.result import Evaluation
    from qroar_core.figures.gallery import gallery
    from qroar_core.scale_search.result import SearchReport
    from qroar_core.transforms.result import ScalesFile

    text = (finished / "report.html").read_text()
    kinds = {
        "diagnosis.json": Diagnosis,
        "search.json": SearchReport,
        "scales_found.json": ScalesFile,
        "evaluation.json": Evaluation,
    }
    chapters = gallery(*(kind.from_file(finished / name) for name, kind in kinds.items()))
    pictures = [picture for chapter in chapters.values() for picture in chapter]
    markup = re.sub(r"<script\b[^>]*>.*?</script>", lambda m: m[0][: m[0].index(">") + 1], text, flags=re.DOTALL)
    assert not re.search(r"""(src|href|data|action)\s*=\s*["']?\s*(https?:)?//""", markup)
    assert not re.search(r"<(script|link|img|iframe|object|embed)\b[^>]*\b(src|href|data)\s*=", markup)
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", markup)
    figures = re.findall(r"<figure\b.*?</figure>", markup, flags=re.DOTALL)
    assert len(figures) == len(pictures) > 12
    for figure, picture in zip(figures, pictures, strict=True):
        rows = figure.count("<tr") - 1
        assert rows == min(400, len(picture.table)) > 0, picture.title
    assert text.count("Plotly.newPlot(") >= len(pictures)
    command = read(finished, "manifest.json")["command"]
    assert f"run demo --out '{finished}' --windows 2 --length 128 --k int3" in command
    assert command.replace("'", "&#x27;") in markup
    assert "NaN" not in re.sub(r"<[^>]*>", "", markup)


def test_the_same_command_again_resumes(capfd, finished, ready, monkeypatch):
    from qroar_core.diagnostics import run as diagnose
    from qroar_core.evaluation import run as evaluate
    from qroar_core.scale_search import run as search

    for stage in (diagnose, search, evaluate):
        monkeypatch.setattr(stage, "run", lambda *a, **kw: pytest.fail("computed it again"))
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished.iterdir()}
    told = json.loads(printed(capfd, *small(finished), "--json"))
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished.iterdir()} == before
    assert told["rows"] == read(finished, "evaluation.json")["rows"]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--k", "int8"), "setting (quant)"),
        (("--bands", "4"), "setting (diagnosis, search)"),
        (("--seed", "1"), "setting (diagnosis, search, evaluation)"),
        (("--mode", "shared"), "setting (search)"),
        (("--text", "technical"), "text"),
    ],
)
def test_another_option_on_the_same_folder_is_refused(capfd, finished, ready, more, what):
    before = {p.name: p.read_bytes() for p in finished.iterdir()}
    line = refused(capfd, *small(finished, *more))
    assert line == f"{finished}: holds a run with another {what}; choose a new folder or the same options"
    assert {p.name: p.read_bytes() for p in finished.iterdir()} == before


def test_a_damaged_stage_file_is_named(capfd, finished, ready, tmp_path):
    import shutil

    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "evaluation.json").write_text('{"rows": [')
    assert str(folder / "evaluation.json") in refused(capfd, *small(folder))
    (folder / "manifest.json").write_text("{}")
    assert str(folder / "manifest.json") in refused(capfd, *small(folder))


def test_a_stop_in_every_stage_keeps_what_was_finished(capfd, finished, ready, demo, monkeypatch, tmp_path):
    """Diagnose, search, evaluate stopped in turn on one folder, then finished: the same numbers as without."""
    folder, done = tmp_path / "run", {"manifest.json"}
    weights = {name: p.detach().clone() for name, p in demo.model.named_parameters()}
    with monkeypatch.context() as patch:
        for stage, after in (("diagnose", 3), ("search", 12), ("evaluate", 5)):
            patch.setattr(tables, "progress", lambda stage=stage, after=after: stopping(stage, after))
            assert main(small(folder)) == 130
            assert capfd.readouterr().err == "qroar: cancelled\n"
            assert {p.name for p in folder.iterdir()} == done
            for path in folder.iterdir():
                json.loads(path.read_text())
            for name, parameter in demo.model.named_parameters():
                assert torch.equal(parameter, weights[name]), (stage, name)
            done |= STAGE_FILES[stage]
    with without_figures():
        printed(capfd, *small(folder))
    assert {p.name for p in folder.iterdir()} == done == set(FILES)
    assert numbers(folder) == numbers(finished)


def started(folder):
    """`run` as its own process, with Ctrl-C working even where the tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "qroar_core", *small(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(process, path):
    """Until `path` is there; every JSON file seen on the way must be whole."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        for seen in path.parent.glob("*.json"):
            json.loads(seen.read_text())
        time.sleep(0.005)


def test_kill_9_after_a_stage_and_ctrl_c_inside_one(capfd, finished, ready, tmp_path):
    killed, interrupted = tmp_path / "killed", tmp_path / "interrupted"
    first, second = started(killed), started(interrupted)
    try:
        wait_for(second, interrupted / "manifest.json")
        second.send_signal(signal.SIGINT)
        out, err = second.communicate(timeout=30)
        assert (second.returncode, out, err) == (130, "", "qroar: cancelled\n")
        assert {p.name for p in interrupted.iterdir()} == {"manifest.json"}
        wait_for(first, killed / "diagnosis.json")
        first.kill()
        first.communicate(timeout=30)
        assert first.returncode == -signal.SIGKILL
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert not (killed / "evaluation.json").exists()
    (killed / ".search.json-half").write_text('{"verd')  # what a kill inside a write leaves
    for path in killed.glob("[!.]*.json"):
        json.loads(path.read_text())
    stamp = (killed / "diagnosis.json").stat().st_mtime_ns
    with without_figures():
        printed(capfd, *small(killed))
    assert (killed / "diagnosis.json").stat().st_mtime_ns == stamp
    assert leftovers(killed) == []
    assert sorted(p.name for p in killed.iterdir()) == sorted(FILES)
    assert numbers(killed) == numbers(finished)


def test_ctrl_c_inside_code_made_at_run_time_is_130_too(tmp_path):
    (tmp_path / "typer").mkdir()
    (tmp_path / "typer" / "__init__.py").write_text('exec("raise KeyboardInterrupt")')  # as inside a dataclass's making
    done = subprocess.run(
        [sys.executable, "-m", "qroar_core"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "qroar: cancelled\n")


def test_an_exported_checkpoint_loads_in_plain_transformers(capfd, finished, ready, demo, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = tmp_path / "CK"
    out = printed(capfd, "export", "demo", "--scales", finished / "scales_found.json", "--out", target)
    assert out == f"{target}\n"
    assert {p.name for p in tmp_path.iterdir()} == {"CK"}
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    assert model.config.rope_parameters["rope_type"] == "yarn"  # no --rope: the file's own
    assert model.config.rope_parameters["factor"] == 4.0
    ids = torch.tensor([AutoTokenizer.from_pretrained(target)("The people of this country have " * 3)["input_ids"]])
    g = torch.tensor(read(finished, "scales_found.json")["g"], dtype=torch.float64)[0, 0]
    rows = model.model.layers[0].self_attn.k_proj.weight[:32] / demo.model.model.layers[0].self_attn.k_proj.weight[:32]
    torch.testing.assert_close(rows.mean(1).reshape(8, 4).mean(1).double(), 1 / g, rtol=1e-4, atol=0)
    plain = tmp_path / "plain"
    capfd.readouterr()  # transformers' own progress bars
    printed(capfd, "export", "demo", "--rope", "yarn", "--factor", "4", "--out", plain)
    same = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    with torch.inference_mode():  # symmetric scales change no full-precision logit
        torch.testing.assert_close(model(ids).logits, same(ids).logits, rtol=0, atol=1e-3)


def test_export_onto_an_existing_folder_is_refused(capfd, finished, ready, tmp_path):
    target = tmp_path / "CK"
    target.mkdir()
    for content in ({}, {"keep.txt": "precious"}):
        for name, text in content.items():
            (target / name).write_text(text)
        line = refused(capfd, "export", "demo", "--scales", finished / "scales.json", "--out", target)
        assert line.startswith(f"{target}: already exists; choose a new folder")
        assert {p.name: p.read_text() for p in target.iterdir()} == content
    assert {p.name for p in tmp_path.iterdir()} == {"CK"}


def spoiled(content, what):
    """A scales file made wrong in one way."""
    content = json.loads(json.dumps(content))
    if what == "model":
        content["model"] |= {"name": "other", "fingerprint": "0" * 16}
    elif what == "version":
        content["version"] = 2
    elif what == "format":
        content["format"] = "other"
    elif what == "shape":
        content["g"] = content["g"][:-1]
    elif what == "ragged":
        content["g"][0][0].pop()
    elif what == "negative":
        content["g"][0][0][0] = -1.0
    elif what == "words":
        content["g"][0][0][0] = {"a": "b"}
    elif what == "bands":
        content["bands"][0][0] = 1
    elif what == "missing key":
        del content["mode"]
    return content


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("model", "made for other (0000000000000000)"),
        ("version", "version"),
        ("format", "format"),
        ("shape", "no table of"),
        ("ragged", "no table of"),
        ("negative", "a scale that is not above 0"),
        ("words", "no table of"),
        ("bands", "32 RoPE pairs"),
        ("missing key", "mode"),
        ("not json", "JSON"),
        ("absent", "cannot be read"),
        ("a folder", "cannot be read"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_wrong_scales_are_one_line(capfd, finished, ready, tmp_path, command, what, words):
    path = tmp_path / "scales.json"
    if what == "a folder":
        path.mkdir()
    elif what != "absent":
        content = spoiled(read(finished, "scales.json"), what)
        path.write_text("{no" if what == "not json" else json.dumps(content))
    line = refused(capfd, command, "demo", "--scales", path, "--out", tmp_path / "out")
    assert str(path) in line
    assert words in line
    assert not (tmp_path / "out").exists()


def test_evaluate_reads_the_scales(capfd, finished, ready, tmp_path):
    """The tuned condition is there, differs, and its gain is the difference of the rows."""
    out = printed(
        capfd,
        "evaluate",
        "demo",
        "--scales",
        finished / "scales_found.json",
        "--json",
        "--lengths",
        "96",
        "--k",
        "int3",
        "--out",
        tmp_path / "e",
    )
    told, whole = json.loads(out), read(tmp_path / "e", "evaluation.json")
    assert told["rows"] == whole["rows"]
    conditions = [(r["length"], r["model"], r["scales"]) for r in told["rows"]]
    assert (96, "quantized", "tuned") in conditions
    by_name = {(r["length"], r["model"], r["scales"]): r["nll"] for r in told["rows"]}
    assert by_name[96, "quantized", "tuned"] != by_name[96, "quantized", "identity"]
    assert told["gain"]["delta_nll"] == pytest.approx(
        by_name[96, "quantized", "identity"] - by_name[96, "quantized", "tuned"], abs=1e-4
    )
