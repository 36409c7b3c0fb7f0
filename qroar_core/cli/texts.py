"""The texts a command reads: an embedded collection, a file of the user's cut in three, or a field of a dataset."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.text import Texts


def documents(options: dict[str, Any]) -> Texts:
    """Calibration, development and held-out documents of --text or --dataset, whose windows start as --bos says."""
    from dataclasses import replace

    from qroar_core.models.dataset import dataset_documents
    from qroar_core.models.text import COLLECTIONS, SPLITS, open_text, split, thirds

    asked, bos = options.get("text") or "messages", options.get("bos", "auto")
    if options.get("dataset"):
        if options.get("text"):
            raise BadSpec("--text names the texts too", where="--dataset", do="give one of the two")
        return {
            name: [replace(document, bos=bos) for document in found]
            for name, found in dataset_documents(options["dataset"]).parts.items()
        }
    if asked in COLLECTIONS:
        return {name: split(name, asked, bos) for name in SPLITS}
    return thirds(replace(open_text(asked), bos=bos))


def text_label(options: dict[str, Any]) -> str:
    """How a manifest names the text; a file also by its content, so that an edited one is not resumed."""
    from qroar_core.models.dataset import dataset_documents
    from qroar_core.models.text import COLLECTIONS

    if options.get("dataset"):
        return dataset_documents(options["dataset"]).label
    asked = options.get("text") or "messages"
    if asked in COLLECTIONS:
        return asked
    with Path(asked).open("rb") as file:
        return f"{asked} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:8]})"
