"""What the tests of the store share: an empty root for runs, a tiny model and its setting."""

from dataclasses import replace

import pytest

from qroar_core.setting import default_setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty root for runs, not made yet."""
    monkeypatch.setenv("QROAR_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def loaded(tiny):
    return tiny()


@pytest.fixture
def setting(loaded):
    """Of what is planted: two bands, evaluated at 256 and 1,024 tokens."""
    made = default_setting(loaded, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)))
    evaluation = replace(made.evaluation, lengths=(256, 1024), windows=16, targets=128)
    search = replace(made.search, bands=BandSpec(2), length=1024)
    asked = {"length": 64, "short_length": 16, "windows": 2, "paired_tokens": 8, "eps": 0.01, "bands": BandSpec(2)}
    return replace(made, diagnosis=replace(made.diagnosis, **asked), search=search, evaluation=evaluation)
