"""Files that somebody else wrote, read whole: plain files alone, up to a size that real ones never reach.

A pipe is waited for, a device may have no end, a file of gigabytes fills the memory before a parser sees its first
byte. So what stands under a name is looked at before it is opened, and never more than the limit is read. Something
that is no file is never taken for an absent one. Whoever calls turns the OSError or ValueError into its own line.
"""

from __future__ import annotations

import codecs
import json
import os
import stat
from pathlib import Path
from typing import Any

MIB = 2**20
HEAD, JSON = 4096, b"{["  # bytes looked at before the rest, and how a file of JSON begins in them
DEEPEST = 64  # lists and tables inside each other; what walks over the content later recurses
OTHERS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotPlain(OSError):
    """No plain file, or one too large for what it is; `str()` says so in a few words."""


class NotUtf8(ValueError):
    """Bytes that are no UTF-8 text; `str()` says where."""


def is_there(path: Path) -> bool:
    """Does a plain file stand here?

    Raises:
        NotPlain: something else stands here, a link that leads nowhere among it.
        OSError: its folder cannot be looked into.
    """
    try:
        _require_plain(_status(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def check(path: Path, most: int) -> None:
    """Raises NotPlain, or OSError, for what `read_bytes` would refuse: another library is to read this file."""
    status = _status(path)
    _require_plain(status)
    _require_size(status.st_size, most)


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a plain file of at most `most` bytes.

    Raises:
        NotPlain: another kind of thing, or larger.
        OSError: it cannot be read.
    """
    return _read(path, most)


def read_text(path: Path, most: int) -> str:
    """The same as UTF-8 text.

    Raises:
        NotUtf8: a ValueError.
    """
    return _text(read_bytes(path, most))


def read_json(path: Path, most: int) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: not UTF-8, not JSON, or nested deeper than DEEPEST.
    """
    return parsed(_read(path, most, JSON))


def parsed(content: bytes) -> Any:
    """What a JSON file of this content holds; raises as `read_json` does."""
    _require_text(content[:HEAD])
    try:
        found = json.loads(_text(content))
    except RecursionError:
        raise ValueError("lists and tables nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    _require_shallow(found)
    return found


def reason(error: BaseException) -> str:
    """Why a file cannot be read, in one line of at most 160 characters."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:160] or type(error).__name__


def _read(path: Path, most: int, beginnings: bytes = b"") -> bytes:
    """The content of a file that begins with one of these bytes after white space, if any are given."""
    check(path, most)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:  # not blocking: a pipe may have taken its place since
        _require_plain(os.fstat(file.fileno()))
        head = file.read(HEAD)
        if beginnings and (begun := head.lstrip()[:1]) and begun not in beginnings:
            _require_text(head)
            raise ValueError("it is no JSON")
        content = head + file.read(max(0, most + 1 - len(head)))
    _require_size(len(content), most)
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotUtf8(f"not UTF-8 text at byte {error.start}") from error


def _require_text(head: bytes) -> None:
    """Raises NotUtf8 where a file begins as no text in UTF-8 does; its last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        raise NotUtf8(f"not UTF-8 text at byte {error.start}") from error
    if b"\0" in head and head.strip(b"\0"):  # JSON holds none, UTF-16 every other byte, a broken download nothing else
        raise NotUtf8(f"not UTF-8 text: a zero at byte {head.index(0)}")


def _status(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise NotPlain("it is a link that leads nowhere") from error
        raise


def _require_plain(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = next((word for matches, word in OTHERS if matches(status.st_mode)), "something else")
        raise NotPlain(f"it is {what}, no plain file")


def _require_size(size: int, most: int) -> None:
    if size > most:
        raise NotPlain(f"it has more than {most:,} bytes, which no real one reaches")


def _require_shallow(found: Any) -> None:
    """Level by level: what recurses would meet the depth that is looked for."""
    level = [found]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError("lists and tables nested too deeply")
