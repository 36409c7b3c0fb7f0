"""`python -m benchmarks [--keep] [--install] [--minutes N] [PART ...]`, parts as in parts.py; no part runs all of them.

Every figure is a ratio inside one run, or a count; wall seconds are printed beside for the reader. With --keep
each part's output is also written to benchmarks/results/PART.md, under the date and the versions that made it, and to
the tables of docs/ that show it. A part that lacks something says in one line what, and the others go on.
A part that keeps every pass on disk ends between two of them after --minutes, and goes on when it is run again; `gpu`
skips the rows that would not end in them, 8 where none are named; those of `endurance` begin nothing after them.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from benchmarks.headline_units import commit
from benchmarks.parts import LIMITED, PARTS, RESUMED, chosen
from benchmarks.runtimes import install_missing
from docs.tables import write as write_tables
from qroar_core.errors import QRoarError

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    """Run the named parts and print their tables."""
    parser = argparse.ArgumentParser("python -m benchmarks")
    parser.add_argument("--keep", action="store_true", help="write each part's output to benchmarks/results")
    parser.add_argument("--install", action="store_true", help="first install the runtimes asked for, by pip")
    parser.add_argument("--minutes", type=float, help=f"end {' and '.join(RESUMED)} between two passes after so many")
    parser.add_argument("parts", nargs="*", metavar="PART", help="all parts where none is named")
    asked = parser.parse_args(arguments)
    try:
        names = chosen(asked.parts, PARTS)
    except KeyError as unknown:
        print(f"unknown part {unknown.args[0]}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    endless = [name for name in names if name not in (*RESUMED, *LIMITED)]
    if asked.minutes is not None and endless:
        print(f"--minutes: {endless[0]} cannot be resumed; give it with {' or '.join(RESUMED)} alone", file=sys.stderr)
        return 2
    if asked.install:
        try:
            install_missing({name.rpartition(".")[2] for name in names if name.startswith("runtimes.")})
        except QRoarError as error:
            print(error, file=sys.stderr)
    began, lacking = time.monotonic(), 0
    for name in names:
        print(f"\n## {name}\n", flush=True)
        run: Callable[[], None] = PARTS[name]
        if asked.minutes is not None:
            run = partial(run, minutes=max(0.0, asked.minutes - (time.monotonic() - began) / 60))
        try:
            if asked.keep:
                kept(name, run)
            else:
                run()
        except QRoarError as error:
            lacking += 1
            print(error)
    return 2 if lacking else 0


def kept(name: str, run: Callable[[], None]) -> None:
    """Run one part, its output to the terminal and, once it has ended well, to its file."""
    said = Both(sys.stdout)
    with redirect_stdout(said):
        run()
    RESULTS.mkdir(exist_ok=True)
    versions = ", ".join(f"{what} {version(what)}" for what in ("torch", "transformers"))
    where = f"{os.cpu_count()} cores, commit {commit()}"
    made = f"`python -m benchmarks --keep {name}`, {date.today()}, {versions}, {where}."
    (RESULTS / f"{name}.md").write_text(f"# {name}\n\n{made}\n\n{said.kept.getvalue().strip()}\n", encoding="utf-8")
    write_tables()


class Both(io.TextIOBase):
    """What is written goes on to a stream and is kept."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.kept = stream, io.StringIO()

    def write(self, text: str) -> int:
        self.stream.write(text)
        return self.kept.write(text)

    def flush(self) -> None:
        self.stream.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
