"""The texts that a person chose: an embedded collection, a file of theirs cut in three, or a field of a dataset."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from qroar_core.errors import BadText
from qroar_core.models.text import COLLECTIONS, SPLITS, Texts, open_text, split, thirds
from qroar_core.specs import Bos


def texts_of(text: str = "messages", *, bos: Bos = "auto", dataset: str | None = None) -> Texts:
    """Documents of "calibration", "development" and "heldout", whose windows start as `bos` says.

    Args:
        text: an embedded collection (`models.text.COLLECTIONS`) or a text file.
        dataset: a field of a dataset in place of `text`; see models.dataset.
    Raises:
        BadText: a file that is no text, or a dataset that cannot be read.
    """
    if dataset is not None:
        from qroar_core.models.dataset import dataset_documents

        found = dataset_documents(dataset).parts
        return {name: [replace(document, bos=bos) for document in documents] for name, documents in found.items()}
    if text in COLLECTIONS:
        return {name: split(name, text, bos) for name in SPLITS}
    return thirds(replace(open_text(text), bos=bos))


def text_label(text: str = "messages", dataset: str | None = None) -> str:
    """How a run names its text; a file also by its content, so that a run on an edited one is not taken up again.

    Raises:
        BadText: a file that cannot be read.
    """
    if dataset is not None:
        from qroar_core.models.dataset import dataset_documents

        return dataset_documents(dataset).label
    if text in COLLECTIONS:
        return text
    try:
        with Path(text).open("rb") as file:
            return f"{text} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:8]})"
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise BadText(
            getattr(error, "strerror", None) or "cannot be read",
            where=text,
            do=f"choose {', '.join(COLLECTIONS)}, or name a text file",
        ) from error
