"""Every value the command line does not know: exit 2, one line that names the option and what it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import refused

pytestmark = pytest.mark.slow

ROPES = ("default", "linear", "ntk", "dynamic", "yarn", "longrope", "llama3")
CACHES = ("int2 to int8", "`qroar presets` lists all")

# arguments after `run demo`, the option the line must name, the values it must list
BEFORE_LOADING = [
    (["--rope", "foo"], "--rope", ROPES),
    (["--rope", "YaRN", "--factor", "2"], "--rope", ROPES),
    (["--factor", "2"], "--factor", ROPES[1:5]),
    (["--rope", "yarn"], "--factor", ("--factor 2",)),
    (["--rope", "yarn", "--factor", "0.5"], "--factor", ("at least 1.0", "0.5")),
    (["--rope", "yarn", "--factor", "nan"], "--factor", ("at least 1.0", "nan")),
    (["--rope", "yarn", "--factor", "inf"], "--factor", ("finite", "inf")),
    (["--rope", "yarn", "--factor", "two"], "--factor", ("not a number: 'two'", "for example --factor 2")),
    (["--rope", "default", "--factor", "2"], "--rope", ROPES[1:]),
    (["--tie", "20-21"], "--tie", ("--rope default", "--rope yarn --factor 2")),
    (["--rope", "default", "--tie", "20"], "--tie", ("first-last[:turn]", "20-21,22-25,26-31:0")),
    (["--rope", "default", "--tie", "3-4,4-5"], "--tie", ("overlap",)),
    (["--distance-law", "log"], "--distance-law", ("causal", "uniform")),
    (["--outlier-rule", "zscore"], "--outlier-rule", ("iqr", "mad", "percentile")),
    (["--outlier-rule", "percentile", "--outlier-parameter", "99"], "--outlier-parameter", ("0.5", "0.99")),
    (["--outlier-parameter", "-1"], "--outlier-parameter", ("at least 0.0", "-1")),
    (["--k", "int9"], "--k", CACHES),
    (["--k", "int1"], "--k", CACHES),
    (["--k", "foo"], "--k", CACHES),
    (["--v", "foo"], "--v", CACHES),
    (["--kv", "foo"], "--kv:", CACHES),
    (["--k", "int4", "--kv-scale", "foo"], "--kv-scale", ("token", "channel", "tensor", "block")),
    (["--kv-scale", "foo"], "--kv-scale", ("token", "channel", "tensor", "block")),
    (["--kv-scale", "block"], "--kv-scale", ("nothing to act on", "--k int4")),
    (["--k", "none", "--kv-rotation", "hadamard"], "--kv-rotation", ("nothing to act on",)),
    (["--kv-rotation", "foo"], "--kv-rotation", ("none", "hadamard")),
    (["--k", "q8_0", "--kv-scale", "token"], "--kv-scale", ("q8_0",)),
    (["--k", "int4", "--group-size", "32"], "--group-size", ("token",)),
    (["--k", "int4", "--kv-scale", "block", "--group-size", "0"], "--group-size", ("at least 2",)),
    (["--group-size", "32"], "--group-size", ("nothing to act on",)),
    (["--k-before-rope"], "--k-before-rope", ("--k int4",)),
    (["--k", "int4", "--kv-rotation", "hadamard", "--k-before-rope"], "before_rope", ("Hadamard",)),
    (["--weights", "foo"], "--weights", ("none", "int2..int8", "w4a16")),
    (["--weights", "int9"], "--weights", ("none", "int2..int8", "w4a16")),
    (["--weights", "int4", "--weight-scale", "foo"], "--weight-scale", ("tensor", "channel", "group")),
    (["--weight-scale", "tensor"], "--weight-scale", ("nothing to act on", "--weights int4")),
    (
        ["--weights", "w4a16", "--weight-scale", "group"],
        "--weights",
        ("preset w4a16 brings its own scales", "drop --weight-scale"),
    ),
    (["--qk", "int9"], "--qk", ("none", "int2..int8")),
    (["--granularity", "foo"], "--granularity", ("model", "layer", "kv_head")),
    (["--mode", "foo"], "--mode", ("symmetric", "shared")),
    (["--objective", "foo"], "--objective", ("cached", "full", "kl")),
    (["--method", "foo"], "--method", ("gradient", "coordinate", "optuna")),
    (["--partition", "foo"], "--partition", ("count", "log", "turns")),
    (["--bands", "0"], "--bands", ("at least 1", "0")),
    (["--bands", "-3"], "--bands", ("at least 1", "-3")),
    (["--bands", "many"], "--bands", ("not a whole number: 'many'; write for example --bands 8",)),
    (["--length", "1e3"], "--length", ("not a whole number: '1e3'; write for example --length 2048",)),
    (["--seed", "x"], "--seed", ("not a whole number: 'x'; write for example --seed 0",)),
    (["--windows", "0"], "--windows", ("at least 1",)),
    (["--bounds", "1,2"], "--bounds", ("'1,2'", "-1:2,-1:2")),
    (["--bounds", "-1:x"], "--bounds", ("'-1:x'",)),
    (["--length", "1"], "--length", ("at least 2",)),
    (["--lengths", "a,b"], "--lengths", ("'a,b'", "512,2048")),
    (["--lengths", "0,64"], "--lengths", ("'0,64'",)),
    (["--text", "/nowhere/text.txt"], "/nowhere/text.txt", ("No such file",)),
    (["--rope", "yarn", "--factor", "2", "--longrope-factors", "/nowhere.json"], "/nowhere.json", ("long_factor",)),
    (["--k", "int4", "--kv-scale", "block", "--group-size", "x"], "--group-size", ("number: 'x'", "--group-size 32")),
    (["--windows", "-1"], "--windows", ("at least 1, got -1",)),
    (["--rope", "yarn", "--factor", "0"], "--factor", ("at least 1.0", "give 1 or more")),
    (["--rope", "yarn", "--factor", "2", "--tie", "3-"], "--tie", ("'3-' is no group", "first-last[:turn]")),
    (["--k", "int4:foo"], "--k", CACHES),
    (["--text", "nonsense"], "--text nonsense", ("messages, technical, novels, or name a text file",)),
    (["--colour", "red"], "--colour", ("--help",)),
    (["more"], "more", ("--help",)),
]


@pytest.fixture
def no_loading(monkeypatch):
    """The refusal must come before any model is read."""
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))


@pytest.mark.parametrize(
    ("arguments", "option", "values"),
    BEFORE_LOADING,
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, list) else "",
)
def test_a_wrong_value_is_refused_before_loading(capfd, no_loading, tmp_path, arguments, option, values):
    line = refused(capfd, "run", "demo", *arguments, "--out", tmp_path / "out")
    assert option in line
    for value in values:
        assert value in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("--tasks", "foo"), ("--slack", "-1"), ("--trials", "0"), ("--depths", "101"), ("--depths", "x")],
)
def test_retrieve_names_its_option(capfd, no_loading, option, value):
    assert f"{option}: " in refused(capfd, "retrieve", "demo", option, value)


@pytest.mark.parametrize("command", ["diagnose", "search", "evaluate", "run"])
@pytest.mark.parametrize(("option", "known"), [("--rope", ROPES), ("--k", CACHES), ("--kv-scale", ("token", "block"))])
def test_every_command_refuses_alike(capfd, no_loading, command, option, known):
    line = refused(capfd, command, "demo", option, "foo")
    assert line.startswith(f"{option}: unknown")
    assert all(value in line for value in known)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["foo"], ("'foo'", "info", "fetch", "diagnose", "search", "evaluate", "export", "run")),
        (["info"], ("MODEL", "--help")),
        (["run", "demo", "--k"], ("--k: requires an argument; give a value",)),
        (["replicate", "demo", "--methods", "foo"], ("--methods: unknown rope method 'foo'", "yarn")),
        (["export", "demo", "--out", "x", "--format", "w4a16", "--group-size", "0"], ("--group-size: ", "at least 1")),
        (["fetch"], ("smollm2", "--help")),
        (["info", "demo", "extra"], ("extra", "--help")),
        (["info", "nosuchmodel"], ("nosuchmodel", "demo", "smollm2", "hub id")),
        (["info", "/no/such/folder"], ("/no/such/folder", "no such model")),
        (["info", "/no/such.gguf"], ("/no/such.gguf", "no such file")),
        (["info", "demo", "--device", "foo"], ("--device", "auto", "cpu", "cuda", "mps")),
        (["info", "demo", "--device", "meta"], ("--device", "auto", "cpu")),
        (["info", "demo", "--dtype", "int8"], ("--dtype", "float32", "float16", "bfloat16", "float64")),
        (["export", "demo"], ("--out DIR",)),
        (["export", "demo", "--out", "x", "--format", "onnx"], ("--format", "'onnx'", "hf")),
        (["export", "demo", "--out", "x", "--rope", "foo"], ("--rope", *ROPES)),
        (["export", "demo", "--out", "x", "--rope", "yarn"], ("--rope yarn", "--factor 2")),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_wrong_command_model_or_machine_is_one_line(capfd, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    line = refused(capfd, *arguments)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ready(monkeypatch, demo):
    """The demo model without the wait."""
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda source, **kw: demo)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bands", "99"], ("--bands", "99", "this model has 32")),
        (["--bands", "2", "--partition", "turns"], ("--bands", "3 regions")),
        (["--bounds", "-1:2,0:0"], ("--bounds", "8 bands, got 2")),
        (["--bands", "2", "--bounds", "-1:2,0.5:1"], ("--bounds", "band 1 must hold 0")),
        (["--length", "10"], ("--length", "10 tokens", "64")),
        (["--length", "100000000"], ("text", "tokens")),
        (["--rope", "longrope", "--factor", "2"], ("factor",)),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_only_the_model_can_refuse_is_one_line(capfd, ready, tmp_path, arguments, words):
    line = refused(capfd, "run", "demo", "--out", tmp_path / "out", *arguments)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("empty",)),
        (b" \n\t\n", ("empty",)),
        (b"\x00\x01\x02\x03" * 200, ("binary",)),
        (b"\xff\xfe\x80\x81" * 200, ("UTF-8",)),
        (b"a few words only", ("tokens", "longer text")),
    ],
    ids=["empty", "blank", "binary", "not utf-8", "too short"],
)
@pytest.mark.parametrize("command", ["diagnose", "search", "evaluate", "run"])
def test_a_bad_text_is_one_line(capfd, ready, tmp_path, command, content, words):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    line = refused(capfd, command, "demo", "--text", path, "--out", tmp_path / "out")
    assert "text.txt" in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[1, 2]",
        "3",
        "{}",
        '{"short_factor": [1]}',
        '{"long_factor": 3}',
        '{"long_factor": ["a"]}',
        '{"long_factor": [1.0, 2.0]}',
        json.dumps({"long_factor": [float("nan")] * 32}),
        json.dumps({"long_factor": [0.0] * 32}),
        "\x00",
    ],
)
def test_bad_longrope_factors_are_one_line(capfd, ready, tmp_path, content):
    path = tmp_path / "factors.json"
    path.write_text(content)
    line = refused(capfd, "diagnose", "demo", "--rope", "longrope", "--factor", "2", "--longrope-factors", path)
    assert "factor" in line


@pytest.mark.parametrize("rope", [[], ["--rope", "yarn", "--factor", "2"]], ids=["no rope", "yarn"])
def test_longrope_factors_belong_to_longrope(capfd, no_loading, tmp_path, rope):
    path = tmp_path / "factors.json"
    path.write_text(json.dumps({"long_factor": [2.0] * 32}))
    line = refused(capfd, "diagnose", "demo", *rope, "--longrope-factors", path)
    assert line.startswith("--longrope-factors: ")


@pytest.mark.parametrize("command", ["diagnose", "export"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"method": "longrope", "factor": 2, "long_factor": [1, 2]}, "long_factor has 2 numbers, this model has 32"),
        ({"method": "yarn", "factor": 2, "tie": [{"first": 30, "last": 40}]}, "tie: pairs 30-40 are tied, this model"),
    ],
)
def test_a_rope_file_of_another_model_is_named_with_its_key(command, content, words, tmp_path, capfd):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    out = ("--out", tmp_path / "D") if command == "export" else ()
    line = refused(capfd, command, "demo", "--rope", path, *out)
    assert line.startswith(f"--rope {path}: {words}")
    assert "; give 32 numbers" in line or "; name pairs from 0 to 31" in line


def test_lists_of_another_model_name_their_file(tmp_path, capfd):
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"long_factor": [1, 2]}))
    line = refused(capfd, "diagnose", "demo", "--rope", "longrope", "--factor", "2", "--longrope-factors", path)
    assert line == (
        f"--longrope-factors {path}: long_factor has 2 numbers, this model has 32 pairs; "
        "give 32 numbers, one a RoPE pair"
    )


@pytest.mark.parametrize("command", ["diagnose", "search", "evaluate"])
def test_a_folder_with_something_in_it_is_not_written_into(capfd, no_loading, tmp_path, command):
    (tmp_path / "keep.txt").write_text("precious")
    line = refused(capfd, command, "demo", "--out", tmp_path)
    assert line == f"{tmp_path}: already exists; choose a new folder"
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]


def test_a_run_does_not_take_over_a_foreign_folder(capfd, ready, tmp_path):
    (tmp_path / "keep.txt").write_text("precious")
    assert "exists and is not a run" in refused(capfd, "run", "demo", "--out", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]
    assert "exists and is not a run" in refused(capfd, "run", "demo", "--out", tmp_path / "keep.txt")


def test_bounds_by_hand_reach_the_search_and_its_scales_file(capfd, ready, tmp_path):
    from qroar_core.__main__ import main

    arguments = ["--bands", "2", "--bounds", "-0.25:0,-1:1.5", "--length", "64", "--windows", "1"]
    assert main(["search", "demo", *arguments, "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "scales.json").read_text())
    assert written["search"]["bounds"] == [[[-0.25, 0.0], [-1.0, 1.5]]] * 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_under_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qroar_core", "info", "demo"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "qroar: the output: No space left on device; free some room\n")
