"""The table of planted faults cannot rot: every substitution still finds its text, in every folder of the core."""

from pathlib import Path

import pytest

from tests.planted_faults import CORE, FAULTS, ROOT, Fault

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_can_still_be_planted(fault):
    source = (ROOT / CORE / fault.file).read_text()
    assert fault.new not in (fault.old, "")
    compile(fault.planted(source), fault.file, "exec")
    for word in fault.tests.partition(" -k ")[0].split():
        assert (ROOT / "tests" / word).exists()


def test_there_are_twenty_and_one_in_every_folder():
    folders = {path.parent.name for path in Path(ROOT, CORE).glob("*/__init__.py")}
    assert sum(not fault.slow for fault in FAULTS) >= 20
    assert {fault.folder for fault in FAULTS} == folders


def test_a_text_that_is_gone_or_there_twice_is_no_fault():
    fault = Fault("x", "x.py", "a", "b", "")
    assert fault.planted("a c") == "b c"
    for source in ("c", "a a"):
        with pytest.raises(ValueError, match="not once"):
            fault.planted(source)
