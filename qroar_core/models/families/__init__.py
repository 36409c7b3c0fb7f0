"""One small file a family, registered by the architecture name its config carries.

An architecture not listed here is refused: rewriting the rows of a layout one has only guessed
would corrupt a model silently.
"""

from __future__ import annotations

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.bamba import BAMBA
from qroar_core.models.families.base import Family
from qroar_core.models.families.cohere import COHERE
from qroar_core.models.families.cohere2 import COHERE2
from qroar_core.models.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from qroar_core.models.families.falcon import FALCON
from qroar_core.models.families.falcon_h1 import FALCON_H1
from qroar_core.models.families.gemma2 import GEMMA2
from qroar_core.models.families.gemma3 import GEMMA3
from qroar_core.models.families.glm4 import GLM4
from qroar_core.models.families.gpt_neox import GPT_NEOX
from qroar_core.models.families.gpt_oss import GPT_OSS
from qroar_core.models.families.granite import GRANITE
from qroar_core.models.families.granitemoehybrid import GRANITE_HYBRID
from qroar_core.models.families.lfm2 import LFM2
from qroar_core.models.families.lfm2_moe import LFM2_MOE
from qroar_core.models.families.llama import LLAMA
from qroar_core.models.families.mistral import MISTRAL
from qroar_core.models.families.mixtral import MIXTRAL
from qroar_core.models.families.olmo2 import OLMO2
from qroar_core.models.families.phi3 import PHI3
from qroar_core.models.families.qwen2 import QWEN2
from qroar_core.models.families.qwen2_moe import QWEN2_MOE
from qroar_core.models.families.qwen3 import QWEN3
from qroar_core.models.families.qwen3_5 import QWEN3_5
from qroar_core.models.families.qwen3_5_moe import QWEN3_5_MOE
from qroar_core.models.families.qwen3_moe import QWEN3_MOE
from qroar_core.models.families.qwen3_next import QWEN3_NEXT
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.families.smollm3 import SMOLLM3
from qroar_core.models.families.stablelm import STABLELM
from qroar_core.models.families.starcoder2 import STARCODER2

FAMILIES: tuple[Family, ...] = (
    *(LLAMA, MISTRAL, QWEN2, QWEN2_MOE, QWEN3, MIXTRAL, QWEN3_MOE, GRANITE, STARCODER2, STABLELM, PHI3),
    *(GPT_NEOX, OLMO2, SMOLLM3, COHERE, COHERE2, GLM4, GEMMA2, GEMMA3, FALCON, GPT_OSS),
    *(DEEPSEEK_V2, DEEPSEEK_V3),
    *(QWEN3_NEXT, QWEN3_5, QWEN3_5_MOE, LFM2, LFM2_MOE, BAMBA, FALCON_H1, GRANITE_HYBRID),
)
BY_ARCHITECTURE: dict[str, Family] = {name: family for family in FAMILIES for name in family.architectures}

NO_ROPE = {  # architectures people try whose positions are not rotary
    "GPT2LMHeadModel": "learned absolute positions",
    "OPTForCausalLM": "learned absolute positions",
    "BloomForCausalLM": "ALiBi",
    "MptForCausalLM": "ALiBi",
    "MambaForCausalLM": "no attention",
    "JambaForCausalLM": "its attention layers carry no positions",
    "NemotronHForCausalLM": "its attention layers carry no positions",
    "OlmoHybridForCausalLM": "the released checkpoints carry no positions",
}

NOT_SUPPORTED = {  # layouts known well enough to say why scales cannot be put in
    "Qwen3_5ForConditionalGeneration": "it reads images too; export its text model (Qwen3_5ForCausalLM) first",
    "Qwen3_5MoeForConditionalGeneration": "it reads images too; export its text model (Qwen3_5MoeForCausalLM) first",
    "Llama4ForCausalLM": "chunked attention, and a QK-norm without gain behind RoPE that would undo a scale",
    "Gemma3ForConditionalGeneration": "it reads images too; export its text model (Gemma3ForCausalLM) first",
    "Llama4ForConditionalGeneration": "it reads images too, in chunked attention with a QK-norm behind RoPE",
    "GPTJForCausalLM": "its attention does not ask transformers' attention interface",
    "CodeGenForCausalLM": "its attention does not ask transformers' attention interface",
}


def family_of(architectures: list[str] | None, where: str) -> Family:
    """The adapter of a config's architecture.

    Raises:
        UnsupportedModel: none named, no RoPE, or a layout this software does not know.
    """
    for name in architectures or ():
        if name in BY_ARCHITECTURE:
            return BY_ARCHITECTURE[name]
        if name in NO_ROPE:
            raise UnsupportedModel(
                f"{name} has no RoPE ({NO_ROPE[name]})", where=where, do="choose a model with rotary positions"
            )
        if name in NOT_SUPPORTED:
            raise UnsupportedModel(
                f"{name} is not supported: {NOT_SUPPORTED[name]}", where=where, do="choose a model of another family"
            )
    named = ", ".join(architectures or ()) or "none"
    raise UnsupportedModel(
        f"unknown attention layout (architecture {named})",
        where=where,
        do=f"known are {', '.join(sorted(BY_ARCHITECTURE))}",
    )


__all__ = ["BY_ARCHITECTURE", "FAMILIES", "Family", "QKSlot", "family_of"]
