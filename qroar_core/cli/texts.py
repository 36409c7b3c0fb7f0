"""The texts that a command's options name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec, BadText

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.text import Texts


def documents(options: dict[str, Any]) -> Texts:
    """Calibration, development and held-out documents of --text or --dataset, whose windows start as --bos says."""
    from qroar_core.models.text import COLLECTIONS
    from qroar_core.models.text_choice import texts_of

    if None not in (options.get("dataset"), options.get("text")):
        raise BadSpec("--text names the texts too", where="--dataset", do="give one of the two")
    text = options.get("text") or "messages"
    try:
        return texts_of(text, bos=options.get("bos", "auto"), dataset=options.get("dataset"))
    except BadText as error:
        if options.get("dataset") is not None or os.path.lexists(text):
            raise
        do = f"choose {', '.join(COLLECTIONS)}, or name a text file"
        raise BadText(error.what, where=f"--text {text}", do=do) from error


def text_label(options: dict[str, Any]) -> str:
    """How a manifest names the text of these options."""
    from qroar_core.models import text_choice

    return text_choice.text_label(options.get("text") or "messages", options.get("dataset"))
