"""One small file a family, registered by the architecture name its config carries.

An architecture not listed here is refused: rewriting the rows of a layout one has only guessed
would corrupt a model silently.
"""

from __future__ import annotations

from qroar_core.errors import UnsupportedModel
from qroar_core.models.families.base import Family, QKSlot
from qroar_core.models.families.llama import LLAMA
from qroar_core.models.families.mistral import MISTRAL
from qroar_core.models.families.qwen2 import QWEN2

FAMILIES: tuple[Family, ...] = (LLAMA, MISTRAL, QWEN2)
BY_ARCHITECTURE: dict[str, Family] = {name: family for family in FAMILIES for name in family.architectures}

NO_ROPE = {  # architectures people try whose positions are not rotary
    "GPT2LMHeadModel": "learned absolute positions",
    "OPTForCausalLM": "learned absolute positions",
    "BloomForCausalLM": "ALiBi",
    "MptForCausalLM": "ALiBi",
    "MambaForCausalLM": "no attention",
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
    named = ", ".join(architectures or ()) or "none"
    raise UnsupportedModel(
        f"unknown attention layout (architecture {named})",
        where=where,
        do=f"known are {', '.join(sorted(BY_ARCHITECTURE))}",
    )


__all__ = ["BY_ARCHITECTURE", "FAMILIES", "Family", "QKSlot", "family_of"]
