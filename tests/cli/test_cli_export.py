"""`export --format gguf...` and `verify` on the command line: folders, one-line refusals, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from qroar_core.__main__ import main
from qroar_core.cli import tables
from qroar_core.exporters.check import Check
from tests.exporters.scales_file import write_scales
from tests.models.gguf_files import Q, write_model


def refused(capfd, *arguments):
    assert main([str(a) for a in arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("qroar: ").strip()


@pytest.fixture
def source(tmp_path):
    return write_model(tmp_path / "m.gguf", Q.Q6_K)


def test_a_copy_is_written_and_verified(capfd, source, tmp_path):
    scales, _ = write_scales(tmp_path / "s.json", source)
    arguments = ["export", str(source), "--format", "gguf", "--scales", str(scales), "--rope", "yarn", "--factor", "2"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'out'}\n"
    note = json.loads((tmp_path / "out" / "qroar.json").read_text())
    assert note["command"] == "python -m qroar_core " + " ".join([*arguments, "--out", str(tmp_path / "out")])
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 0
    checks = json.loads(capfd.readouterr().out)
    assert [check["passed"] for check in checks] == [True] * 8
    with (tmp_path / "out" / "m.gguf").open("ab") as file:
        file.write(b"x")
    assert main(["verify", str(tmp_path / "out")]) == 2
    out, err = capfd.readouterr()
    assert "changed since" in out
    assert out.startswith("Verification failed: 1 of 2 checks\n")
    assert err == f"qroar: {tmp_path / 'out'}: 1 of 2 checks failed; export it again\n"


@pytest.mark.parametrize(("name", "copied"), [("sha256-1.5b", "sha256-1.5b.gguf"), ("M.GGUF", "M.gguf")])
def test_a_copy_of_a_file_with_another_suffix_is_written_and_verified(capfd, source, tmp_path, name, copied):
    source.rename(tmp_path / name)
    arguments = ["export", str(tmp_path / name), "--format", "gguf", "--rope", "yarn", "--factor", "2"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([copied, "README.md", "qroar.json"])
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert f"{copied} is as written" in capfd.readouterr().out


def test_refusals(capfd, source, tmp_path):
    line = refused(capfd, "export", source, "--format", "gguf", "--out", tmp_path / "o")
    assert line == "--format gguf: nothing to change; add --scales FILE, or --rope and --factor"
    line = refused(capfd, "export", "demo", "--format", "gguf", "--out", tmp_path / "o")
    assert line.startswith("--format gguf: demo is no .gguf file; choose one of gguf-f16")
    line = refused(capfd, "export", source, "--format", "gguf-q2", "--out", tmp_path / "o")
    assert line.startswith("--format: unknown value 'gguf-q2'; choose one of hf, w4a16, gguf, gguf-f16")
    line = refused(
        capfd, "export", source, "--format", "gguf", "--scales", tmp_path / "no.json", "--out", tmp_path / "o"
    )
    assert "no.json" in line
    line = refused(capfd, "verify", tmp_path)
    assert line == f"{tmp_path}: no qroar.json; give a folder that `export` wrote"
    assert not (tmp_path / "o").exists()


def test_a_loaded_model_is_written_for_llama_cpp(capfd, tmp_path):
    assert (
        main(
            [
                "export",
                "demo",
                "--format",
                "gguf-q8_0",
                "--rope",
                "linear",
                "--factor",
                "2",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    capfd.readouterr()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "demo-Q8_0.gguf", "qroar.json"]
    note = json.loads((tmp_path / "out" / "qroar.json").read_text())
    assert (note["source"], note["rope"]["method"]) == ("demo", "linear")
    assert note["command"].startswith("python -m qroar_core export demo --format gguf-q8_0")


@pytest.mark.slow
def test_an_in_place_copy_starts_without_the_heavy_libraries(source, tmp_path):
    """The whole command in a process of its own: what it imported at the end."""
    scales, _ = write_scales(tmp_path / "s.json", source)
    code = (
        "import sys; from qroar_core.__main__ import main; code = main(sys.argv[1:]);"
        "print(code, [n for n in ('transformers', 'scipy', 'pandas', 'plotly', 'streamlit') if n in sys.modules])"
    )
    words = ["export", str(source), "--format", "gguf", "--scales", str(scales), "--rope", "yarn", "--factor", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{tmp_path / 'out'}\n0 []\n"


def test_an_export_prints_how_it_is_served_and_writes_the_scales_of_its_cache(tmp_path, capfd):
    out = tmp_path / "out"
    words = ["export", "demo", "--rope", "yarn", "--factor", "4", "--kv", "fp8-calibrated", "--cache-scales"]
    assert main([*words, "--length", "256", "--print-serving", "--json", "--out", str(out)]) == 0
    said = json.loads(capfd.readouterr().out)
    codes = {one["runtime"]: one["code"] for one in said["serving"]}
    assert codes["vLLM 0.32"] == f"vllm serve {out} --max-model-len 256 --dtype float32 --kv-cache-dtype fp8"
    assert "mlx-lm 0.32 refuses a folder with scales of an fp8 K/V cache" in " ".join(said["limits"])
    note = json.loads((out / "qroar.json").read_text())["cache_scales"]
    assert [len(note[name]) for name in ("k", "v")] == [4, 4]
    assert "4 windows of 256 tokens" in note["text"]


def test_what_an_export_is_served_with_is_refused_where_nothing_reads_it(tmp_path, capfd):
    out = ("--out", tmp_path / "o")
    line = refused(capfd, "export", "demo", "--kv", "q8_0", *out)
    assert line == "--kv: an export is not written by it; add --print-serving or --cache-scales, or drop it"
    line = refused(capfd, "export", "demo", "--text", "novels", *out)
    assert line == "--text: an export reads no text; add --cache-scales, or drop it"
    line = refused(capfd, "export", "demo", "--cache-scales", *out)
    assert line == "--cache-scales: this K/V cache reads no scales from a checkpoint; add --kv fp8-calibrated"
    line = refused(capfd, "export", "demo", "--cache-scales", "--kv", "fp8-calibrated", "--format", "gguf-f16", *out)
    assert line == "--cache-scales: gguf-f16 holds no scales of a K/V cache; export as hf, w4a16"
    line = refused(capfd, "export", "demo", "--length", "300", "--print-serving", *out)
    assert line == "--length: the export promises 256 tokens; add --rope and --factor, or give less"
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("passed", "heading"),
    [
        ((True, True), "Verified"),
        ((True, None), "Verified, 1 check not asked"),
        ((True, None, False, False), "Verification failed: 2 of 4 checks"),
    ],
)
def test_the_heading_of_verify_says_whether_it_failed(capfd, passed, heading):
    tables.verification([Check("what", "so", one) for one in passed], [], as_json=False)
    out, _ = capfd.readouterr()
    assert out.splitlines()[0] == heading
    assert out.count("what") == len(passed)
