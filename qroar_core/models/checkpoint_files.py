"""The small files of a checkpoint: which there may be, how large a real one gets, and one way to read them.

Each limit is several times what the largest published checkpoints have (in brackets), so that only a file that is none
is refused. Where transformers or tokenizers read a file by themselves, `check_files` has looked at it before.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from qroar_core.errors import BadCheckpoint
from qroar_core.models.byte_order_mark import beginning_of, not_read, saved_or
from qroar_core.plain_file import MIB, check, is_there, read_json, read_text

TEMPLATE = MIB  # bytes of a chat template, wherever it stands (30 KB); rendering one takes many times its size
SETTINGS = 16 * MIB  # settings that may name every tensor of a mixture of experts (7 MB)
WORDS = 256 * MIB  # a vocabulary (60 MB with the codes of speech)
MOST = {  # bytes, by name or pattern
    "config.json": SETTINGS,
    "adapter_config.json": SETTINGS,
    "quantize_config.json": SETTINGS,
    "quant_config.json": SETTINGS,
    "hf_quant_config.json": SETTINGS,
    "generation_config.json": MIB,  # (2 KB)
    "chat_template.jinja": TEMPLATE,
    "chat_template.json": TEMPLATE,
    "additional_chat_templates/*.jinja": TEMPLATE,
    "model.safetensors.index.json": 128 * MIB,  # (20 MB)
    "tokenizer_config.json": 128 * MIB,  # names every added token (12 MB)
    "special_tokens_map.json": 64 * MIB,  # (9 MB)
    "added_tokens.json": 64 * MIB,  # (5 MB)
    "tokenizer.json": WORDS,
    "vocab.json": WORDS,
    "merges.txt": WORDS,
    "vocab.txt": WORDS,
    "tekken.json": WORDS,
    "*.model": WORDS,
}


def check_files(folder: Path) -> None:
    """Look at every small file of a checkpoint before anything reads one.

    Raises:
        BadCheckpoint: under the name of one stands a pipe, a device, a folder, or a file that is far too large.
    """
    for name, path in _named(folder):
        try:
            check(path, limit(name))
        except OSError as error:
            raise _unread(path, error, str(folder)) from error


def has(folder: Path, name: str) -> bool:
    """Is this file there?

    Raises:
        BadCheckpoint: something stands there that is no plain file.
    """
    try:
        return is_there(folder / name)
    except OSError as error:
        raise _unread(folder / name, error, str(folder)) from error


def text_in(path: Path, where: str = "") -> str:
    """The text of a small file of a checkpoint.

    Args:
        where: what a message calls the checkpoint; its folder where empty.
    Raises:
        BadCheckpoint: it cannot be read, is not UTF-8, or is larger than any real one.
    """
    try:
        return read_text(path, limit(path.name))
    except (OSError, ValueError) as error:
        raise _unread(path, error, where) from error


def table_in(path: Path, where: str = "") -> dict[str, Any]:
    """The table in a JSON file of a checkpoint.

    Raises:
        BadCheckpoint: as `text_in`; also not JSON, nested too deeply, or no table.
    """
    try:
        found = read_json(path, limit(path.name))
        if not isinstance(found, dict):
            raise ValueError("it is no table")
        return found
    except (OSError, ValueError) as error:
        raise _unread(path, error, where) from error


def limit(name: str) -> int:
    """Bytes that a checkpoint's file of this name may have."""
    return MOST.get(name) or next((most for like, most in MOST.items() if fnmatch(name, like)), SETTINGS)


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    """(entry of MOST, path) of what lies in the folder under a name that means something, files or not."""
    for name in MOST:
        found = folder.glob(name) if "*" in name else [folder / name] if has(folder, name) else []
        yield from ((name, path) for path in sorted(found))


def _unread(path: Path, error: Exception, where: str) -> BadCheckpoint:
    beginning = beginning_of(path) if isinstance(error, ValueError) else b""  # it was read: a plain file
    what, how = not_read(path.name, beginning, error)
    return BadCheckpoint(what, where=where or str(path.parent), do=saved_or(how, "fetch it again"))
