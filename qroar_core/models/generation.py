"""generation_config.json: which ids end a text, and the file itself, which an export carries on as it is.

Instruction-tuned checkpoints name more ends there than config.json does (Qwen, Gemma), and a model filled tensor by
tensor does not read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qroar_core.errors import BadCheckpoint
from qroar_core.models.checkpoint_files import has, table_in

FILE = "generation_config.json"


def generation_ends(folder: Path) -> int | list[int] | None:
    """Ids after which a model has nothing more to say; None where the folder has no such file, or it names none.

    Raises:
        BadCheckpoint: a file that cannot be read, or ends that are no ids.
    """
    if not has(folder, FILE):
        return None
    ends = table_in(folder / FILE).get("eos_token_id")
    if ends is not None and not all(type(one) is int for one in (ends if isinstance(ends, list) else [ends])):
        raise BadCheckpoint(
            f"{FILE}: eos_token_id is {str(ends)[:40]!r}, ids belong there", where=str(folder), do="fetch it again"
        )
    return ends


def generation_defaults() -> dict[str, Any]:
    """What transformers takes where the file says nothing."""
    from transformers import GenerationConfig

    return dict(GenerationConfig().to_dict())
