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
import tempfile
import traceback
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

    def run(self, words: list[str], cwd: Path, path: Path, **environment: str) -> Done:
        """`python *words` in the folder `cwd` with `path` as PYTHONPATH, and with these variables besides."""
        with tempfile.TemporaryDirectory() as folder:
            asked = {"words": words, "cwd": str(cwd), "path": str(path), "environment": environment, "said": folder}
            self._parent.stdin.write(json.dumps(asked) + "\n")
            self._parent.stdin.flush()
            code = self._parent.stdout.readline()
            assert code, "the process that forks has ended"
            out, err = (Path(folder, name).read_text() for name in ("out", "err"))
        return Done(int(code), out, err)


def _child(words: list[str], cwd: str, path: str, environment: dict[str, str], said: str) -> None:
    """What `python` does with these words; never returns."""
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(environment, PYTHONPATH=path)
    os.chdir(cwd)
    sys.path[:0] = [cwd, path]
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
        child = os.fork()
        if child == 0:
            _child(**json.loads(line))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
