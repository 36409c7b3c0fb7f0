"""One small file an architecture; all of them are found here by `general.architecture`."""

from qroar_core.models.formats.gguf.architecture import Architecture
from qroar_core.models.formats.gguf.architectures.cohere2 import COHERE2
from qroar_core.models.formats.gguf.architectures.command_r import COMMAND_R
from qroar_core.models.formats.gguf.architectures.deepseek2 import DEEPSEEK2
from qroar_core.models.formats.gguf.architectures.falcon import FALCON
from qroar_core.models.formats.gguf.architectures.gemma2 import GEMMA2
from qroar_core.models.formats.gguf.architectures.gemma3 import GEMMA3
from qroar_core.models.formats.gguf.architectures.glm4 import GLM4
from qroar_core.models.formats.gguf.architectures.gpt_neox import GPT_NEOX
from qroar_core.models.formats.gguf.architectures.gpt_oss import GPT_OSS
from qroar_core.models.formats.gguf.architectures.granite import GRANITE
from qroar_core.models.formats.gguf.architectures.lfm2 import LFM2
from qroar_core.models.formats.gguf.architectures.llama import LLAMA
from qroar_core.models.formats.gguf.architectures.olmo2 import OLMO2
from qroar_core.models.formats.gguf.architectures.phi3 import PHI3
from qroar_core.models.formats.gguf.architectures.qwen2 import QWEN2
from qroar_core.models.formats.gguf.architectures.qwen2_moe import QWEN2_MOE
from qroar_core.models.formats.gguf.architectures.qwen3 import QWEN3
from qroar_core.models.formats.gguf.architectures.qwen3_moe import QWEN3_MOE
from qroar_core.models.formats.gguf.architectures.smollm3 import SMOLLM3
from qroar_core.models.formats.gguf.architectures.stablelm import STABLELM
from qroar_core.models.formats.gguf.architectures.starcoder2 import STARCODER2

ARCHITECTURES: dict[str, Architecture] = {
    one.name: one
    for one in (
        *(LLAMA, QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE, GEMMA2, GEMMA3, PHI3, STARCODER2, STABLELM, FALCON, GPT_NEOX),
        *(GRANITE, COMMAND_R, COHERE2, GLM4, OLMO2, SMOLLM3, GPT_OSS, DEEPSEEK2, LFM2),
    )
}

__all__ = ["ARCHITECTURES"]
