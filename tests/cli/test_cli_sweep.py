"""The command `sweep`: what it refuses before any model is read, and where it says so."""

import pytest

from qroar_core.models import load
from tests.cli.command import refused

ASKED = "models: [demo]\nropes: [{method: yarn, factor: 4}]\nquantizers: [{k: int4}]\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("a model was read")

    monkeypatch.setattr(load, "run", never)
    path = tmp_path / "sweep.yaml"
    path.write_text(ASKED)
    return path


def test_a_file_with_a_slip_is_named_with_its_key(capfd, file, tmp_path):
    file.write_text(ASKED + "remedy: [none]\n")
    said = refused(capfd, "sweep", file, "--out", tmp_path / "out")
    assert said.startswith(f"{file}: unknown key 'remedy'; choose from models, ropes, lengths, quantizers, remedies,")
    assert not (tmp_path / "out").exists()


def test_the_table_needs_a_folder_of_its_own(capfd, file, tmp_path):
    assert refused(capfd, "sweep", file) == "sweep: where to?; add --out DIR"
    said = refused(capfd, "sweep", file, "--out", tmp_path)
    assert said == f"{tmp_path}: exists and is not a sweep; choose a new folder"
    assert refused(capfd, "sweep", " ", "--out", tmp_path) == "FILE: is empty; give a value"
