"""The small folder of a GGUF model: config.json and the tokenizer's files, made from the header, no weights.

Kept in the cache under the bytes it is made from, so that a changed file or a newer reader makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from qroar_core.models.cache_folder import unwritable
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.opened import Opened
from qroar_core.models.formats.gguf.read_tokenizer import write_tokenizer

READER = 1  # raise it when the same header gives another folder


def template_folder(opened: Opened, cache: Path) -> Path:
    """The folder in `cache`, written on first use.

    Raises:
        UnsupportedModel, BadCheckpoint: a tokenizer that cannot be written.
        BadOutput: the cache cannot be written.
    """
    folder = cache / "gguf" / _key(opened)
    if (folder / "config.json").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    except OSError as error:
        raise unwritable(folder.parent, error) from error
    try:
        write_tokenizer(opened.files.header, scratch, str(opened.files.path))
        (scratch / "config.json").write_text(json.dumps(opened.config, indent=2) + "\n", encoding="utf-8")
        os.replace(scratch, folder)
    except OSError as error:
        if not (folder / "config.json").is_file():  # unless another load got there first
            raise unwritable(folder.parent, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _key(opened: Opened) -> str:
    digest = hashlib.sha256(f"reader {READER}\n".encode())
    digest.update(json.dumps(opened.config, sort_keys=True).encode())
    for path in opened.files.shards:
        with path.open("rb") as file:
            digest.update(file.read(read_header(path).data_start))
    return digest.hexdigest()[:16]
