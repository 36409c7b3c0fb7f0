"""Equal weights under another interpolation of their own are another model: no result of one is shown for the other."""

import json
import shutil

import pytest

from pages.state.job_key import stage_key
from qroar_core.errors import BadOutput
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import DEMO
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.record import read_record
from qroar_core.runs.store import run_name
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec


@pytest.fixture
def both(tmp_path):
    """The demo, and a copy under the same name whose config says linear x4."""
    found = []
    for place, rope in (("a", {}), ("b", {"rope_type": "linear", "factor": 4.0})):
        folder = tmp_path / place / "demo"
        shutil.copytree(DEMO, folder)
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"] |= rope
        (folder / "config.json").write_text(json.dumps(config))
        found.append(load_model(str(folder), device="cpu", dtype="float32"))
    return found


def test_the_same_weights_with_an_interpolation_of_their_own_are_another_run(both, tmp_path):
    plain, linear = both
    assert plain.fingerprint == linear.fingerprint  # names weights alone
    one, two = (default_setting(loaded, RopeSpec()) for loaded in both)
    assert one.own_rope == ""
    assert two.own_rope == "linear x4"
    assert stage_key("evaluate", plain, one) != stage_key("evaluate", linear, two)
    assert run_name(plain, one) != run_name(linear, two)
    folder = RunFolder.open(tmp_path / "run", plain, one, "x")
    folder.save("report.html", "<html></html>", "report", 1.0)
    assert "own_rope" not in folder.manifest.specs
    with pytest.raises(BadOutput, match=r"another setting \(own_rope\)"):
        RunFolder.open(tmp_path / "run", linear, two, "x")
    RunFolder.open(tmp_path / "other", linear, two, "x")
    assert read_record(tmp_path / "other").setting == two
