"""An export keeps the checkpoint's own number format unless another is asked, says which, and reads any README."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from qroar_core.__main__ import main
from qroar_core.exporters import hf
from qroar_core.models import load
from qroar_core.models.own_dtype import own_dtype, written_dtype
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales


@pytest.fixture
def folder(tiny, tmp_path):
    """`folder(files=dtype, config="bfloat16", norms=None)`: a tiny checkpoint on disk in this format."""

    def build(files=torch.bfloat16, config="bfloat16", norms=None):
        loaded, out = tiny(), tmp_path / "checkpoint"
        loaded.model.save_pretrained(out)
        loaded.tokenizer.save_pretrained(out)
        tensors = load_file(out / "model.safetensors")
        kinds = {name: norms if norms and "norm" in name else files for name in tensors}
        save_file({n: t.to(kinds[n]) for n, t in tensors.items()}, out / "model.safetensors", {"format": "pt"})
        content = json.loads((out / "config.json").read_text())
        content.pop("dtype", None)
        (out / "config.json").write_text(json.dumps(content | ({"dtype": config} if config else {})))
        return out

    return build


def stored(path) -> set[str]:
    with (path / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    return {entry["dtype"] for name, entry in entries.items() if name != "__metadata__"}


def test_a_bfloat16_checkpoint_loaded_as_float32_is_exported_as_bfloat16_bit_for_bit(folder, tmp_path):
    source = folder()
    loaded = load.run(str(source), device="cpu")
    assert loaded.dtype == torch.float32
    out = hf.run(loaded, RopeSpec("yarn", 2.0), None, tmp_path / "out")
    assert stored(out) == {"BF16"}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    before, after = load_file(source / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "Weights: bfloat16, as the checkpoint has them." in (out / "README.md").read_text()


def test_scaled_weights_are_rounded_once(folder, tmp_path):
    source = folder()
    loaded = load.run(str(source), device="cpu")
    geo = loaded.geometry
    g = torch.full((geo.n_layers, geo.n_kv_heads, 1), 1.3, dtype=torch.float64)
    out = hf.run(loaded, RopeSpec(), Scales("shared", "kv_head", ((0, geo.n_pairs - 1),), g), tmp_path / "out")
    name = "model.layers.0.self_attn.q_proj.weight"
    before = load_file(source / "model.safetensors")[name]
    assert torch.equal(load_file(out / "model.safetensors")[name], (before.float() * 1.3).bfloat16())


@pytest.mark.parametrize(
    ("dtype", "asked", "kind", "words"),
    [
        ("float32", "float32", "F32", "float32, as asked; the checkpoint has bfloat16"),
        ("float16", "float16", "F16", "float16, as asked; the checkpoint has bfloat16"),
        ("float16", None, "F16", "float16, as loaded; the checkpoint has bfloat16"),  # it does not hold bfloat16
        ("bfloat16", None, "BF16", "bfloat16, as the checkpoint has them"),
        ("float64", None, "BF16", "bfloat16, as the checkpoint has them"),
    ],
)
def test_what_is_written_and_what_is_said(folder, tmp_path, dtype, asked, kind, words):
    loaded = load.run(str(folder()), device="cpu", dtype=dtype)
    kinds = {"float32": torch.float32, "float16": torch.float16, None: None}
    out = hf.run(loaded, RopeSpec(), None, tmp_path / "out", dtype=kinds[asked])
    assert stored(out) == {kind}
    assert f"Weights: {words}." in (out / "README.md").read_text()
    assert json.loads((out / "qroar.json").read_text())["dtype"] == words


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({}, torch.bfloat16),
        ({"config": None}, torch.bfloat16),
        ({"norms": torch.float32}, torch.float32),  # the widest: nothing is lost
        ({"files": torch.float16, "config": "float32"}, torch.float16),  # a config adds no digits to its files
        ({"files": torch.float32, "config": "bfloat16"}, torch.float32),
        ({"files": torch.float16, "config": None, "norms": torch.bfloat16}, torch.float32),  # neither holds the other
    ],
)
def test_the_own_format_holds_every_number_of_the_checkpoint(folder, options, own):
    assert own_dtype(load.run(str(folder(**options)), device="cpu")) == own


@pytest.mark.parametrize(
    ("options", "kind", "has", "words"),
    [
        (
            {"config": "float32"},
            "BF16",
            "bfloat16; its config.json says float32",
            "bfloat16, as the checkpoint has them; its config.json says float32",
        ),
        (
            {"files": torch.float32},
            "F32",
            "float32; its config.json says bfloat16",
            "float32, as the checkpoint has them; its config.json says bfloat16",
        ),
        (
            {"norms": torch.float32},
            "F32",
            "bfloat16 and float32",
            "float32, which holds all that the checkpoint has: bfloat16 and float32",
        ),
        ({"config": None}, "BF16", "bfloat16", "bfloat16, as the checkpoint has them"),
    ],
)
def test_the_files_decide_what_is_written_and_the_config_is_said(capfd, folder, tmp_path, options, kind, has, words):
    source, out = folder(**options), tmp_path / "out"
    capfd.readouterr()  # transformers' own bar, of making it
    assert main(["info", str(source), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["checkpoint_dtype"] == has
    assert main(["export", str(source), "--rope", "yarn", "--factor", "2", "--out", str(out)]) == 0
    assert stored(out) == {kind}
    assert f"Weights: {words}." in (out / "README.md").read_text()
    before, after = load_file(source / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(after[name], before[name].to(after[name].dtype)) for name in before)
    named = options.get("config", "bfloat16")  # readers compute in it: as they do for the source
    assert json.loads((out / "config.json").read_text())["dtype"] == (named or "bfloat16")
    assert main(["verify", str(out)]) == 0


def test_a_format_that_was_asked_for_is_what_the_config_says(folder, tmp_path):
    loaded = load.run(str(folder(config="float32")), device="cpu")
    out = hf.run(loaded, RopeSpec(), None, tmp_path / "out", dtype=torch.float16)
    assert stored(out) == {"F16"}
    assert json.loads((out / "config.json").read_text())["dtype"] == "float16"
    said = "float16, as asked; the checkpoint has bfloat16; its config.json says float32"
    assert f"Weights: {said}." in (out / "README.md").read_text()


def test_a_tied_output_matrix_is_written_once_where_an_export_narrows(demo, tmp_path):
    out = hf.run(demo, RopeSpec("yarn", 2.0), None, tmp_path / "out", dtype=torch.float16)
    before, after = (load_file(path / "model.safetensors") for path in (demo.template, out))
    assert before.keys() == after.keys()
    assert all(after[name].dtype == torch.float16 and torch.equal(before[name], after[name]) for name in before)


def test_float16_files_under_a_wider_config_are_written_as_wide_and_it_is_said(capfd, demo, tmp_path):
    """The demo: a scaled weight may leave float16, and no full-precision logit is to change by more than 1e-3."""
    assert main(["info", "demo", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["checkpoint_dtype"] == "float16; its config.json says float32"
    assert main(["export", "demo", "--rope", "yarn", "--factor", "2", "--out", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().err == ""
    assert stored(tmp_path / "out") == {"F32"}
    said = "Weights: float32, as its config.json says; the checkpoint's files have float16."
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_without_files_of_plain_numbers_it_is_what_was_loaded(tiny):
    loaded = tiny()
    assert own_dtype(loaded) is None
    assert written_dtype(loaded)[0] == torch.float32
    assert "as loaded" in written_dtype(loaded)[1]


def test_the_command_line_keeps_it_unless_asked_and_says_where_it_does_not(capfd, folder, tmp_path):
    source = str(folder())
    capfd.readouterr()  # transformers' own bar, of making it
    assert main(["export", source, "--out", str(tmp_path / "a")]) == 0
    assert capfd.readouterr() == (f"{tmp_path / 'a'}\n", "")
    assert stored(tmp_path / "a") == {"BF16"}
    assert main(["export", source, "--dtype", "float32", "--out", str(tmp_path / "b")]) == 0
    assert "weights were written as float32, as asked; the checkpoint has bfloat16\n" in capfd.readouterr().err
    assert stored(tmp_path / "b") == {"F32"}
    assert main(["info", source, "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["dtype"], facts["checkpoint_dtype"]) == ("float32", "bfloat16")
    assert main(["verify", str(tmp_path / "a")]) == 0


@pytest.mark.parametrize(
    ("content", "head", "said"),
    [
        ("# Modèle".encode("latin-1"), "# Modèle", "read as latin-1"),
        ("# Modèle".encode("utf-16"), "# Modèle", "read as utf-16"),
        ("# Modèle".encode("utf-8-sig"), "# Modèle", None),
        ("# Modèle".encode(), "# Modèle", None),
    ],
)
def test_a_card_in_any_encoding_is_kept_and_the_change_is_said(folder, tmp_path, content, head, said):
    source = folder()
    (source / "README.md").write_bytes(content)
    out = hf.run(load.run(str(source), device="cpu"), RopeSpec(), None, tmp_path / "out")
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"{head}\n\n## What was changed\n")
    assert ("is not UTF-8; it was " in card) == (said is not None)
    assert said is None or said in card
