"""One small file a family, found by itself and registered by the architecture name its config carries.

An architecture not listed here is refused: rewriting the rows of a layout one has only guessed
would corrupt a model silently.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from qroar_core.errors import UnsupportedModel
from qroar_core.members import names_in
from qroar_core.models.families.base import Family
from qroar_core.models.families.slot import QKSlot


def _families_here() -> tuple[Family, ...]:
    """Every `Family` that a file of this folder defines, by the name of its file."""
    modules = [import_module(f"{__name__}.{name}") for name in names_in(Path(__file__).parent)]
    members = [value for module in modules for value in vars(module).values() if isinstance(value, Family)]
    return tuple(dict.fromkeys(members))


FAMILIES = _families_here()
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
