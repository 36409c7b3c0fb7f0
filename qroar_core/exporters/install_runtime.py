"""Runtimes put where `verify --runtime` and the benchmarks look for them, by pip alone."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from qroar_core.errors import BadOutput
from qroar_core.exporters.reader import Reader
from qroar_core.models.runtimes.run import place_of


def commands(name: str, reader: Reader) -> list[list[str]]:
    """What is to be run, one after the other: into a folder, an environment of its own, or this one.

    Args:
        name: of the reader's file.
    """
    place = place_of(name)
    if not reader.worker:  # imported by this very environment
        return [["pip", "install", *reader.packages]]
    if not reader.own:
        return [["pip", "install", "--no-deps", "--target", str(place), *reader.packages]]
    pip = str(place / "bin" / "pip")
    steps = [["python", "-m", "venv", str(place)], [pip, "install", *reader.packages]]
    return [*steps, [pip, "uninstall", "-y", *reader.removed]] if reader.removed else steps


def installing(name: str, reader: Reader) -> str:
    """The line to copy."""
    return " && ".join(shlex.join(step) for step in commands(name, reader))


def install(name: str, reader: Reader) -> Path:
    """Run those commands; where it lies then.

    Raises:
        BadOutput: one of them failed. Nothing of it is left there.
    """
    place = place_of(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    for step in commands(name, reader):
        here = {"pip": [sys.executable, "-m", "pip"], "python": [sys.executable]}
        done = subprocess.run([*here.get(step[0], step[:1]), *step[1:]], capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(place, ignore_errors=True)
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise BadOutput(f"{reader.name} cannot be installed ({last[:200]})", where=str(place), do=shlex.join(step))
    return place
