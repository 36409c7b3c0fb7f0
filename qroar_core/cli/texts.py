"""The texts a command reads: an embedded collection, or a file of the user's cut in three."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.text import Document


def documents(options: dict[str, Any]) -> dict[str, list[Document]]:
    """Calibration, development and held-out documents: an embedded collection, or --text FILE cut in three."""
    from qroar_core.models.text import COLLECTIONS, SPLITS, read_text, split, thirds

    asked = options.get("text") or "messages"
    if asked in COLLECTIONS:
        return {name: split(name, asked) for name in SPLITS}
    return thirds(read_text(asked))


def text_label(options: dict[str, Any]) -> str:
    """How a manifest names the text; a file also by its content, so that an edited one is not resumed."""
    from qroar_core.models.text import COLLECTIONS

    asked = options.get("text") or "messages"
    if asked in COLLECTIONS:
        return asked
    return f"{asked} (sha256 {hashlib.sha256(Path(asked).read_bytes()).hexdigest()[:8]})"
