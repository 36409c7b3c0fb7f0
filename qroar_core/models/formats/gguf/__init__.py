"""Reading GGUF files: see `opened.open_gguf`."""

from qroar_core.models.formats.gguf.opened import Opened, open_gguf

__all__ = ["Opened", "open_gguf"]
