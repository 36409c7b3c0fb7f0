"""A checkpoint's own interpolation as if it had been asked for: what `--rope default` stretches RoPE by.

`default` names no method and no factor, and what a run is named by stays so. How fast the frequencies move with the
factor is another question: a checkpoint that ships YaRN x4 moves as `--rope yarn --factor 4` does. Its block of
`rope_parameters` is read by the file of its method, which wrote such a block in the first place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec
from qroar_core.interpolations.registry import stretching
from qroar_core.specs import RopeSpec

if TYPE_CHECKING:
    from qroar_core.models.loaded import LoadedModel

WINDOW = "original_max_position_embeddings"
NO_STRETCH = RopeSpec("linear", 1.0)  # nothing stretched, whatever the checkpoint ships


def own_block(loaded: LoadedModel, kind: str) -> dict[str, Any]:
    """`rope_parameters` of the layers of this kind, as the config holds them."""
    return dict(loaded.family.rope_blocks(loaded.model.config)[kind])


def own_spec(block: Mapping[str, Any], longest: int) -> RopeSpec:
    """The interpolation that a checkpoint's block asks for; RopeSpec() where it asks for none.

    Args:
        block: of `rope_parameters`. longest: max_position_embeddings beside it, tokens.
    Raises:
        BadSpec: numbers that no interpolation has, such as a factor below 1, or a method without a file here.
    """
    name = block.get("rope_type", "default")
    if name not in stretching():
        if name != "default" and (block.get("factor") or 1.0) != 1.0:
            raise BadSpec(
                f"how {name} RoPE moves with its factor is not known here",
                where="rope_parameters of config.json",
                do=f"add interpolations/methods/{name}.py",
            )
        return RopeSpec()
    # transformers' dynamic NTK counts from max_position_embeddings, the others from the window before the stretch
    context = int((block.get(WINDOW) if name != "dynamic" else None) or longest)
    factor = block.get("factor")
    factor = longest / context if factor is None else factor  # as transformers takes it for YaRN and LongRoPE
    try:
        return RopeSpec(name, float(factor), context, **stretching()[name].own_options(block))
    except BadSpec as problem:
        raise BadSpec(
            f"the checkpoint's own {name}: {problem.what}", where="rope_parameters of config.json"
        ) from problem


def in_force(loaded: LoadedModel, spec: RopeSpec, kind: str) -> tuple[RopeSpec, dict[str, Any]]:
    """What stretches the layers of `kind` under `spec`, and their own block where `spec` keeps it (else empty)."""
    if spec.method != "default":
        return spec, {}
    block = own_block(loaded, kind)
    return replace(own_spec(block, loaded.model.config.max_position_embeddings), tie=spec.tie), block


def without_interpolation(loaded: LoadedModel) -> RopeSpec | None:
    """What runs the model at plain theta^(-2i/r): RopeSpec() where it ships so.

    None where nothing else may take the place of its own interpolation, as its softmax scale comes from that factor.
    """
    block = own_block(loaded, loaded.geometry.interpolated_kind)
    if block.get("rope_type", "default") == "default":
        return RopeSpec()
    return None if block.get("mscale_all_dim") else NO_STRETCH


def promised_length(loaded: LoadedModel, spec: RopeSpec) -> int:
    """The longest context that `spec` is made for, tokens: the native window times its factor.

    `default` keeps the checkpoint's own interpolation, and what that promises. Without a window before the stretch in
    its block, max_position_embeddings may be either (models/own_rope.py), so it is taken as it stands; but for dynamic
    NTK, which counts from it. An interpolation that is not known here promises no more than the config says.
    """
    native = loaded.geometry.original_context
    if spec.method != "default":
        return int(native * spec.factor)
    longest = max(native, int(loaded.model.config.max_position_embeddings))
    block = own_block(loaded, loaded.geometry.interpolated_kind)
    try:
        own = own_spec(block, longest)
    except BadSpec:
        return longest
    if not (block.get(WINDOW) or own.method == "dynamic"):
        return longest
    return max(longest, int((own.original_context or native) * own.factor))
