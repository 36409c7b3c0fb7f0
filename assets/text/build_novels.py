"""Rebuild `novels/`: the beginnings of Jane Austen's six novels from Debian's package r-cran-janeaustenr 1.0.0-1.

A third kind of text: dialogue and narration. The novels in order of publication are dealt in turn to calibration,
development and heldout, so a split is by document; of each the first BYTES bytes are kept, up to a paragraph's end.
The package keeps each novel as one R character vector, a line an entry, in a file of zlib streams.

    apt-get download r-cran-janeaustenr=1.0.0-1 && dpkg-deb -x r-cran-janeaustenr_1.0.0-1_all.deb austen
    python assets/text/build_novels.py --rdb austen/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb
"""

import argparse
import hashlib
import struct
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent / "novels"
RDB_SHA256 = "8fb5198960d0da724b1562f96e4221e5c1b41ff455000280b02c55980c3d8f21"
STORED = ("emma", "mansfield-park", "northanger-abbey", "persuasion", "pride-and-prejudice", "sense-and-sensibility")
PUBLISHED = ("sense-and-sensibility", "pride-and-prejudice", "mansfield-park", "emma", "northanger-abbey", "persuasion")
SPLITS = ("calibration", "development", "heldout")
BYTES = 100_000  # of each novel, about 23,000 SmolLM2 tokens
CHARACTERS = 16  # R's code of a character vector


def streams(raw: bytes) -> list[bytes]:
    """The objects of a lazy-load file: each a length (4 bytes, big-endian) and a zlib stream."""
    found, at = [], 0
    while at < len(raw):
        reader = zlib.decompressobj()
        found.append(reader.decompress(raw[at + 4 :]))
        at = len(raw) - len(reader.unused_data)
    return found


def lines(stored: bytes) -> list[str]:
    """A character vector in R's serialization, version 3, big-endian."""
    (encoding,) = struct.unpack(">i", stored[14:18])
    at = 18 + encoding
    kind, count = struct.unpack(">ii", stored[at : at + 8])
    if kind & 0xFF != CHARACTERS:
        sys.exit(f"expected a character vector, found R type {kind & 0xFF}")
    at, out = at + 8, []
    for _ in range(count):
        _, length = struct.unpack(">ii", stored[at : at + 8])
        out.append(stored[at + 8 : at + 8 + length].decode("utf-8"))
        at += 8 + length
    return out


def beginning(entries: list[str]) -> str:
    """Paragraphs parted by an empty line, up to BYTES bytes."""
    paragraphs, size = [], 0
    for part in "\n".join(entries).split("\n\n"):
        words = " ".join(part.split())
        if not words:
            continue
        size += len(words.encode()) + 2
        if size > BYTES:
            break
        paragraphs.append(words)
    return "\n\n".join(paragraphs) + "\n"


def main() -> None:
    """Write the documents and print the rows of PROVENANCE.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rdb", type=Path, required=True)
    raw = parser.parse_args().rdb.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != RDB_SHA256:
        sys.exit(f"sha256 {digest}, expected {RDB_SHA256}; take r-cran-janeaustenr 1.0.0-1 from Debian")
    novels = dict(zip(STORED, map(lines, streams(raw)), strict=True))
    for number, name in enumerate(PUBLISHED):
        split = SPLITS[number % len(SPLITS)]
        path = HERE / split / f"austen-{number}-{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(beginning(novels[name]), encoding="utf-8")
        written = path.read_bytes()
        print(f"| novels/{split}/{path.name} | {len(written)} | `{hashlib.sha256(written).hexdigest()}` |")


if __name__ == "__main__":
    main()
