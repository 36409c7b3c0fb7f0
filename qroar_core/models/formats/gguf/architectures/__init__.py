"""One small file an architecture; all of them are found here by `general.architecture`."""

from qroar_core.models.formats.gguf.architecture import Architecture
from qroar_core.models.formats.gguf.architectures.llama import LLAMA
from qroar_core.models.formats.gguf.architectures.qwen2 import QWEN2

ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in (LLAMA, QWEN2)}

__all__ = ["ARCHITECTURES"]
