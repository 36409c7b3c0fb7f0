"""No garbage is looked for while large modules are imported; afterwards all is as before, whatever happened."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from qroar_core.large_imports import all_imported, large_imports

ROOT = Path(__file__).parents[1]
SAID = """
import gc
from qroar_core.large_imports import large_imports
walks = []
gc.callbacks.append(lambda phase, info: walks.append(info["generation"]))
with large_imports(freeze=True):
    kept = [[] for _ in range(100_000)]
during = len(walks)
with large_imports(freeze=True):
    more = [[] for _ in range(100_000)]
frozen = gc.get_freeze_count()
also = [[] for _ in range(100_000)]
print(during, gc.isenabled(), 100_000 < frozen < 200_000, len(walks) > 0)
"""


def test_garbage_is_collected_again_once_all_is_imported(collecting):
    gc.enable()
    with large_imports(freeze=False):
        all_imported()
        assert gc.isenabled()
        with large_imports(freeze=False):
            assert not gc.isenabled()
        assert gc.isenabled()
    assert gc.isenabled()


@pytest.fixture
def collecting():
    before = gc.isenabled()
    yield
    (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_off_inside_and_then_as_it_was(collecting, on):
    (gc.enable if on else gc.disable)()
    with large_imports(freeze=False):
        assert not gc.isenabled()
    assert gc.isenabled() == on
    with pytest.raises(ImportError), large_imports(freeze=False):
        raise ImportError("no such module")
    assert gc.isenabled() == on


def test_a_librarys_user_keeps_what_can_be_freed(collecting):
    before = gc.get_freeze_count()
    with large_imports(freeze=False):
        pass
    assert gc.get_freeze_count() == before


def test_what_is_there_at_the_end_is_walked_no_more_and_only_the_first_time():
    ran = subprocess.run([sys.executable, "-c", SAID], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "True", "True", "True"]
