"""Rebuild `technical/`: the Python language reference as every CPython 3.11.7 ships it (pydoc_data.topics).

Technical prose and code, which is nearer to what small language models are used on than old state papers
are. Topics are taken in alphabetical order and cut into DOCUMENTS runs of about equal size (a topic is never
split); the runs are dealt in turn to calibration, development and heldout, so a split is by document.

    python3.11 assets/text/build_technical.py
"""

import hashlib
import pydoc_data.topics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent / "technical"
SPLITS = ("calibration", "heldout", "development")
DOCUMENTS = 9
VERSION = (3, 11, 7)


def main() -> None:
    """Write the documents and print the rows of PROVENANCE.md."""
    if sys.version_info[:3] != VERSION:
        sys.exit(f"needs CPython {'.'.join(map(str, VERSION))}: other versions word their reference differently")
    topics = pydoc_data.topics.topics
    total = sum(map(len, topics.values()))
    runs: list[list[str]] = [[] for _ in range(DOCUMENTS)]
    done = 0
    for name in sorted(topics):
        runs[min(DOCUMENTS - 1, done * DOCUMENTS // total)].append(name)
        done += len(topics[name])
    for number, names in enumerate(runs):
        split = SPLITS[number % len(SPLITS)]
        path = HERE / split / f"python-{number}-{names[0]}-to-{names[-1]}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(topics[name].strip() for name in names) + "\n", encoding="utf-8")
        raw = path.read_bytes()
        print(f"| technical/{split}/{path.name} | {len(raw)} | `{hashlib.sha256(raw).hexdigest()}` |")


if __name__ == "__main__":
    main()
