"""How torch's threads wait: what OpenMP is told by the time torch brings it in, which is when it reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ENTRIES = {"dashboard": "import pages.state.session", "command line": "from qroar_core.cli import app"}
ASK = """
import os, sys
def told(event, args):
    if event == "import" and args[0] == "torch":
        print(os.environ.get("OMP_WAIT_POLICY"), flush=True)
        os._exit(0)  # torch itself takes seconds
sys.addaudithook(told)
{code}
import torch
"""


def policy(code, **environment):
    """OMP_WAIT_POLICY at the moment when `code`, or what follows it, first imports torch."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    ran = subprocess.run(
        [sys.executable, "-c", ASK.format(code=code)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=plain | {"PYTHONPATH": str(ROOT)} | environment,
    )
    return ran.stdout.split()[-1]


@pytest.mark.parametrize("entry", ENTRIES)
def test_threads_sleep_where_they_wait(entry):
    assert policy(ENTRIES[entry]) == "PASSIVE"


def test_a_policy_of_the_person_who_starts_it_stays():
    assert policy(ENTRIES["dashboard"], OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_without_the_package_nothing_is_told():
    """So that the tests above can fail."""
    assert policy("") == "None"
