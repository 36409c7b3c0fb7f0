"""Python processes of their own that need not import torch, transformers and Streamlit anew: forks of one that has.

    with Forks() as forks:
        done = forks.run(["-c", "print(1)"], cwd, path)

A child has imported nothing of this project. It finds it on the path it is given, runs the words as `python` would
(`-m module ...` or `-c code ...`) and ends; what it does to itself dies with it.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAVY = (  # of other people; nothing of this project, which a child imports from where it is told to
    *("torch", "pandas", "plotly.graph_objects", "plotly.subplots", "optuna", "pydantic", "rich", "typer"),
    *("scipy.stats", "safetensors.torch", "transformers", "transformers.models.llama.modeling_llama"),
    *("streamlit.testing.v1", "transformers.models.falcon.modeling_falcon", "accelerate", "gguf"),
)


@dataclass(frozen=True, slots=True)
class Done:
    """How a child ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Forks:
    """A process that has imported HEAVY and forks itself for every command."""

    def __init__(self) -> None:
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._parent = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__))],
            env=bare,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: Any) -> None:
        self._parent.stdin.close()
        self._parent.wait()

    def run(self, words: list[str], cwd: Path, path: Path) -> Done:
        """`python *words` in the folder `cwd` with `path` as PYTHONPATH and the other variables as they are now."""
        self._parent.stdin.write(json.dumps([words, str(cwd), dict(os.environ, PYTHONPATH=str(path))]) + "\n")
        self._parent.stdin.flush()
        answer = self._parent.stdout.readline()
        assert answer, "the process that forks has ended"
        return Done(*json.loads(answer))


def _child(words: list[str], cwd: str, environment: dict[str, str]) -> None:
    """What `python` does with these words; never returns."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [cwd, environment["PYTHONPATH"]]
    kind, what, *rest = words
    sys.argv = ["-c" if kind == "-c" else what, *rest]
    code = 0
    try:
        if kind == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
    import importlib

    for name in HEAVY:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(_answered(*json.loads(line))) + "\n")
        answers.flush()


def _answered(words: list[str], cwd: str, environment: dict[str, str]) -> tuple[int, str, str]:
    """How the child of these words ended, and what it said."""
    pipes = {number: os.pipe() for number in (1, 2)}
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, (_, end) in pipes.items():
            os.dup2(end, number)
        os.closerange(3, 1024)
        _child(words, cwd, environment)
    for _, end in pipes.values():
        os.close(end)
    with ThreadPoolExecutor(len(pipes)) as both:
        out, err = both.map(_whole, (start for start, _ in pipes.values()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), out, err


def _whole(pipe: int) -> str:
    with os.fdopen(pipe, encoding="utf-8", errors="replace") as file:
        return file.read()


if __name__ == "__main__":
    _serve()
