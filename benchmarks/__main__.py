"""`python -m benchmarks [--keep] [PART ...]`, parts as in parts.py; no part runs all of them.

Every figure is a ratio inside one run, or a count; wall seconds are printed beside for the reader. With --keep
each part's output is also written to benchmarks/results/PART.md, under the date and the versions that made it.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from benchmarks.parts import PARTS, chosen

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    """Run the named parts and print their tables."""
    try:
        names = chosen([name for name in arguments if name != "--keep"], PARTS)
    except KeyError as unknown:
        print(f"unknown part {unknown.args[0]}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"\n## {name}\n", flush=True)
        if "--keep" in arguments:
            kept(name)
        else:
            PARTS[name]()
    return 0


def kept(name: str) -> None:
    """Run one part, its output to the terminal and, once it has ended well, to its file."""
    said = Both(sys.stdout)
    with redirect_stdout(said):
        PARTS[name]()
    RESULTS.mkdir(exist_ok=True)
    versions = ", ".join(f"{what} {version(what)}" for what in ("torch", "transformers"))
    made = f"`python -m benchmarks --keep {name}`, {date.today()}, {versions}, {os.cpu_count()} cores."
    (RESULTS / f"{name}.md").write_text(f"# {name}\n\n{made}\n\n{said.kept.getvalue().strip()}\n", encoding="utf-8")


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
