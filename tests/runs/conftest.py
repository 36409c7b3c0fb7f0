"""What the tests of the shelf share: an empty root for runs, a tiny model and its setting."""

import pytest

from qroar_core.setting import default_setting
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec


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
    return default_setting(loaded, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)))
