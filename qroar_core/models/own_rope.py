"""The interpolation that a checkpoint ships with, in words, and what an export may promise beside it.

A config's `rope_parameters` may scale RoPE already (Llama 3.1: llama3 x8 from 8,192 tokens). `--rope default` keeps
that; any other --rope takes its place, and every result and export says so.

Which window the model was trained to before it is in `original_max_position_embeddings`, which llama3, YaRN and
LongRoPE have. Linear and dynamic scaling name none, and max_position_embeddings is the stretched window in some of
them (Gemma 3, DeepSeek Coder) and the one before it in others (Vicuna 16k): nothing is divided on a guess, the native
window is max_position_embeddings then, and `native_from` says that it may not be the trained one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.interpolations.checkpoint_rope import own_spec
from qroar_core.interpolations.frequencies import rope_parameters
from qroar_core.interpolations.tie import Tie, ties_words
from qroar_core.models.geometry import Geometry
from qroar_core.specs import RopeSpec

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.loaded import LoadedModel

NONE = "none"  # plain theta^(-2i/r)
ALIKE = 1e-6  # relative: factors are float32
STILL_BELOW = 1e-12  # rad/token of a pair that is written to stand still


def own_rope(loaded: LoadedModel) -> str:
    """`none`, `llama3 x8 (from 8192)`; where layers differ `full_attention: linear x8; sliding_attention: none`."""
    blocks = loaded.family.rope_blocks(loaded.model.config)
    context = loaded.model.config.max_position_embeddings
    words = {kind: words_of(block, context) for kind, block in blocks.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{kind}: {said}" for kind, said in words.items())


def replaced_rope(loaded: LoadedModel, rope: RopeSpec) -> str:
    """What `rope` takes the place of, `llama3 x8 (from 8192)`; empty where it replaces nothing."""
    if rope.method == "default" or is_own(loaded, rope):
        return ""
    block = loaded.family.rope_blocks(loaded.model.config)[loaded.geometry.interpolated_kind]
    words = words_of(block, loaded.model.config.max_position_embeddings)
    return "" if words == NONE else words


def replacing(loaded: LoadedModel, rope: RopeSpec) -> str:
    """`; yarn x2 replaces llama3 x8 (from 8192)`, to stand behind what a result says of its text; often empty."""
    replaced = replaced_rope(loaded, rope)
    if rope.method != "default" and is_own(loaded, rope):
        return f"; {rope.method} x{rope.factor:g} is the checkpoint's own"
    return f"; {rope.method} x{rope.factor:g} replaces {replaced}" if replaced else ""


def is_own(loaded: LoadedModel, rope: RopeSpec) -> bool:
    """Whether `rope` asks for exactly what the checkpoint ships with: every number of its block, and no other."""
    config, kind = loaded.model.config, loaded.geometry.interpolated_kind
    block = loaded.family.rope_blocks(config)[kind]
    if rope.tie or block.get("rope_type", "default") != rope.method or block.get("mscale_all_dim"):
        return False
    asked = replace(rope, original_context=rope.original_context or loaded.geometry.original_context)
    if rope.method == "default" or own_spec(block, config.max_position_embeddings) != asked:
        return rope.method == "default"
    written = rope_parameters(config, loaded.geometry, rope)
    written = written[kind] if kind else written
    return all(written.get(name) == value for name, value in block.items() if value is not None)


def native_from(loaded: LoadedModel) -> str:
    """Which entry of the config the native window is, and what that leaves open."""
    block = loaded.family.rope_blocks(loaded.model.config)[loaded.geometry.interpolated_kind]
    if block.get("original_max_position_embeddings"):
        return "original_max_position_embeddings"
    words = words_of(block, loaded.model.config.max_position_embeddings)
    if words == NONE:
        return "max_position_embeddings"
    return f"max_position_embeddings; {words} may have stretched it, the config names no window before"


def exported_context(own: int, geometry: Geometry, rope: RopeSpec) -> int:
    """max_position_embeddings of an export, tokens: what `rope` promises, and never less than the checkpoint has.

    Two methods compute with this entry, so there it is what they compute with: transformers' dynamic NTK counts from
    it, and vLLM takes LongRoPE's factor as its quotient with the native window.

    Args:
        own: max_position_embeddings of the checkpoint.
    """
    if rope.method == "default":
        return own
    native = rope.original_context or geometry.original_context
    if rope.method == "dynamic":
        return native
    promised = int(native * rope.factor)
    return promised if rope.method == "longrope" else max(own, promised)


def words_of(block: dict[str, Any], context: int) -> str:
    """One `rope_parameters` block, `llama3 x8 (from 8192)`. `context`: max_position_embeddings beside it.

    Of a list of factors it says which pairs it ties: `longrope x1 (from 16384), tied 20–21, still 26–31`.
    """
    kind = block.get("rope_type", "default")
    if kind == "default":
        return NONE
    native = block.get("original_max_position_embeddings")
    factor = block.get("factor")
    if factor is None and native:  # as transformers takes it for YaRN and LongRoPE
        factor = context / native
    tied = ties_words(_ties_of(block))
    return f"{kind}{f' x{factor:g}' if factor else ''}{f' (from {native})' if native else ''}{tied and f', {tied}'}"


def _ties_of(block: dict[str, Any]) -> list[Tie]:
    """Groups of neighbouring pairs that turn alike, or stand still, under a list of factors that holds at any length.

    So an export of tied pairs is known again (exporters/written_rope.py).
    """
    factors, theta = block.get("long_factor"), block.get("rope_theta")
    if not factors or factors != block.get("short_factor") or not theta:
        return []
    count = len(factors)
    omega = [theta ** (-i / count) / factor for i, factor in enumerate(factors)]
    edges = [i for i in range(1, count) if abs(omega[i] / omega[i - 1] - 1) > ALIKE]
    groups = zip([0, *edges], [*(edge - 1 for edge in edges), count - 1], strict=True)
    ties = [Tie(first, last, 0.0 if omega[first] < STILL_BELOW else 1.0) for first, last in groups if last > first]
    alone = [
        Tie(i, i, 0.0) for i in range(count) if omega[i] < STILL_BELOW and not any(t.first <= i <= t.last for t in ties)
    ]
    return sorted([*ties, *alone], key=lambda tie: tie.first)
