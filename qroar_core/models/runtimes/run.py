"""A reader that is no part of this environment, asked in a process of its own for ln p of given tokens.

It lies in the cache under `runtimes/NAME`: either what `pip install --target` put there, which goes before this
environment's own packages, or an environment of its own with bin/python. What is importable here needs neither.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qroar_core.errors import BadCheckpoint, BadSpec
from qroar_core.models.cache_folder import cache_dir

PATIENCE = 600  # seconds for all jobs of one process
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True, slots=True)
class Job:
    """One folder and what to score in it.

    Args:
        folder: an exported checkpoint.
        ids: tokens that are read in one pass.
        first: the first token of these that is scored.
        text: to be cut into tokens by the reader.
        greedy: how many tokens it is to continue ids[:-greedy] by, the likeliest each time.
    """

    folder: str
    ids: list[int]
    first: int
    text: str = ""
    greedy: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader makes of a job: ln p in nats of ids[first:], the text's tokens, those it goes on by; or why not."""

    values: list[float]
    tokens: list[int]
    error: str = ""
    greedy: tuple[int, ...] = ()


def place_of(name: str) -> Path:
    """Where a runtime that is not importable here is looked for."""
    return cache_dir() / "runtimes" / name


def is_installed(name: str, module: str, *, here: bool = True) -> bool:
    """Whether a runtime can be started.

    Args:
        module: what must be importable. here: whether the module of this very environment is that runtime.
    """
    place = place_of(name)
    return (
        (place / module).is_dir()
        or (place / "bin" / "python").is_file()
        or (here and importlib.util.find_spec(module) is not None)
    )


def ask(worker: str, jobs: Sequence[Job], place: Path | None) -> tuple[str, list[Answer]]:
    """The runtime's version and its answers, in the order of `jobs`.

    Args:
        worker: a file beside this one. place: see `place_of`; None: what is importable here.
    Raises:
        BadCheckpoint: the process ended without answers, or took longer than PATIENCE.
        BadSpec: no such place.
    """
    if place is not None and not place.is_dir():
        raise BadSpec("no such runtime", where=str(place), do="install it there")
    where = worker.removesuffix("_worker")
    own = place / "bin" / "python" if place is not None else Path()
    python = str(own) if own.is_file() else sys.executable
    path = {} if place is None or own.is_file() else {"PYTHONPATH": str(place)}
    with tempfile.TemporaryDirectory() as folder:
        asked, answers = Path(folder) / "jobs.json", Path(folder) / "answers.json"
        asked.write_text(json.dumps([asdict(job) | {"folder": str(Path(job.folder).absolute())} for job in jobs]))
        line = [python, "-P", str(Path(__file__).with_name(f"{worker}.py")), str(asked), str(answers)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        try:
            done = subprocess.run(
                line, env=environment | QUIET | path, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired as error:
            raise BadCheckpoint(f"it took longer than {PATIENCE} s", where=where, do="run it by hand") from error
        if not answers.is_file():
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise BadCheckpoint(f"it does not start ({last[:200]})", where=where, do="install it again")
        said: dict[str, Any] = json.loads(answers.read_text())
    return said["version"], [_answer(one) for one in said["answers"]]


def _answer(one: dict[str, Any]) -> Answer:
    if "error" in one:
        return Answer([], [], one["error"])
    return Answer([float(x) for x in one["values"]], list(one["tokens"]), greedy=tuple(one.get("greedy", ())))
