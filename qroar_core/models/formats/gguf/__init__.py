"""Reading GGUF files: `open_gguf` understands one, `template_folder` writes its config and tokenizer."""

from qroar_core.models.formats.gguf.opened import Opened, open_gguf
from qroar_core.models.formats.gguf.template import template_folder

__all__ = ["Opened", "open_gguf", "template_folder"]
