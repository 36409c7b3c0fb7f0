"""Editors and shells of Windows put a byte order mark before text; JSON has none, and its readers stop there.

Such a file, and one that is not UTF-8 at all, was saved anew by a person: fetching it again is not the only way out.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from qroar_core.plain_file import NotUtf8, reason

UNMARKED = "as UTF-8 without a byte order mark"
LONGEST = 4  # bytes of a mark
MARKS = {  # UTF-32's little end begins as UTF-16's does: it comes first
    codecs.BOM_UTF8: "a byte order mark",
    codecs.BOM_UTF32_LE: "the byte order mark of UTF-32",
    codecs.BOM_UTF32_BE: "the byte order mark of UTF-32",
    codecs.BOM_UTF16_LE: "the byte order mark of UTF-16",
    codecs.BOM_UTF16_BE: "the byte order mark of UTF-16",
}


def mark_in(beginning: bytes) -> str:
    """What the mark that these bytes begin with is called; "" where they begin with none."""
    return next((words for mark, words in MARKS.items() if beginning.startswith(mark)), "")


def beginning_of(path: Path) -> bytes:
    """As many bytes as a mark has; none of a file that cannot be opened: its reader says so."""
    try:
        with path.open("rb") as file:
            return file.read(LONGEST)
    except OSError:
        return b""


def not_read(name: str, beginning: bytes, error: BaseException) -> tuple[str, str]:
    """What is wrong with a small file of a checkpoint, and how it is to be saved; "" where its coding is not at fault.

    Args:
        beginning: its first bytes. error: what its reader raised.
    """
    if mark := mark_in(beginning):
        return f"{name} begins with {mark}", UNMARKED
    miscoded = isinstance(error, NotUtf8) or "valid UTF-8" in str(error)  # tokenizers says it in words alone
    return f"{name} cannot be read ({reason(error)})", "as UTF-8" if miscoded else ""


def saved_or(how: str, again: str) -> str:
    """What to do: save a file on this disk `how` it is to be saved, or `again`, which alone helps where that is ""."""
    return f"save it {how}" if how == UNMARKED else f"save it {how}, or {again}" if how else again
