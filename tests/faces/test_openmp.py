"""How torch's threads wait: libgomp itself says, when it is loaded, how often they look before they sleep."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FACES = {"dashboard": "import pages.parts.session", "command line": "from qroar_core.cli import app"}


def spins(code, **environment):
    """Turns of a thread's loop at a barrier before it sleeps, of every OpenMP runtime that `code` loads."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; import torch"], cwd=ROOT, capture_output=True, text=True, check=True,
        env=plain | {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "VERBOSE"} | environment,
    )  # fmt: skip
    found = [int(n) for n in re.findall(r"GOMP_SPINCOUNT\s*=\s*'(\d+)'", ran.stderr)]
    if not found:
        pytest.skip("this torch brings no OpenMP that says how it waits")
    return found


@pytest.mark.parametrize("face", FACES)
def test_threads_sleep_where_they_wait(face):
    assert set(spins(FACES[face])) == {0}


def test_a_policy_of_the_person_who_starts_it_stays():
    assert min(spins(FACES["dashboard"], OMP_WAIT_POLICY="ACTIVE")) > 1000
