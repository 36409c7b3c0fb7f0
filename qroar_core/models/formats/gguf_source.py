"""Which GGUF file a MODEL argument means, if it means one."""

from __future__ import annotations

from pathlib import Path


def gguf_of(asked: str) -> Path | None:
    """The .gguf file behind what a person typed; None for the demo, folders and hub ids.

    Raises:
        BadCheckpoint: `smollm2` when it has not been fetched.
    """
    if asked == "smollm2":
        from qroar_core.models.smollm2 import gguf_path

        return gguf_path()
    return Path(asked).expanduser() if asked.endswith(".gguf") else None
