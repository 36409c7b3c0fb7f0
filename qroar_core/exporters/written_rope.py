"""How an export says an interpolation, so that runtimes compute what was measured.

A method that a runtime knows is named. Tied pairs have no name anywhere: every frequency is written as a divisor of the
pair's own. transformers and vLLM read such a list as LongRoPE's, here twice the same, so that the length decides
nothing; with both windows of the config equal, both give LongRoPE an attention factor of 1. llama.cpp reads it as
`rope_freqs.weight` and has no factor beside it. The interpolation's own a(s) then goes into the rows of W_Q and W_K.
So does an attention factor that a setting fixes, over the one that the method makes of its factor: transformers alone
reads it from the config, vLLM and mlx-lm ignore it there, llama.cpp's --yarn-attn-factor is overwritten for YaRN.
Source: transformers modeling_rope_utils.py (`_compute_longrope_parameters`); vllm-project/vllm
model_executor/layers/rotary_embedding/phi3_long_rope_scaled_rope.py; ggml-org/llama.cpp src/llama-model.cpp
(get_rope_factors), src/llama-context.cpp (yarn_attn_factor).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import KEPT_ROPE_KEYS, Rope, require_loadable, rope_of, rope_parameters
from qroar_core.models.finite import require_finite_parameters
from qroar_core.models.geometry import Geometry
from qroar_core.models.own_rope import exported_context
from qroar_core.models.patch import parameters_under, scaled_parameters, substituted_weights
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales, channel_gains

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.loaded import LoadedModel

# rad/token of a pair that stands still, as lists of divisors know no 0: 1e-7 rad after 10 million tokens
LEAST_WRITTEN_FREQUENCY = 1e-14
UNTIED = "export without --tie"


@dataclass(frozen=True, slots=True, eq=False)
class WrittenRope:
    """What of an interpolation goes where.

    Args:
        parameters: `rope_parameters` of config.json.
        context: max_position_embeddings, tokens.
        native: the window beside it, where a config has one there (Phi-3), tokens.
        changed: it is not what the checkpoint says itself.
        factor: what q and k are multiplied by, in place of one on cos and sin; 1: nothing.
    """

    parameters: dict[str, Any]
    context: int
    native: int
    changed: bool
    factor: float = 1.0


def written_rope(loaded: LoadedModel, rope: RopeSpec) -> WrittenRope:
    """How a folder says `rope`.

    Raises:
        BadSpec: transformers would not load it, or tied pairs whose frequencies depend on the length.
    """
    config, geo = loaded.model.config, loaded.geometry
    context = exported_context(config.max_position_embeddings, geo, rope)
    named, fixed = own_attention_factor(rope, lambda spec: rope_of(loaded, spec, context))
    parameters = rope_parameters(config, geo, named)
    if not rope.tie:
        if rope.method != "default":
            method = rope.method
            where, do = f"--rope {method}", "export with --rope default, ntk or longrope"
            require_loadable(config, parameters, f"{method} RoPE", where, do)
        native = rope.original_context or geo.original_context
        return WrittenRope(parameters, context, native, rope.method != "default", fixed)
    kind = geo.interpolated_kind
    block = parameters[kind] if kind else parameters
    require_one_list(block)
    found = rope_of(loaded, rope, context)
    base = float(geo.theta)
    kept = {name: block[name] for name in KEPT_ROPE_KEYS if name in block}
    divided = [float(x) for x in divisors(found, base)]
    tied = {
        "rope_type": "longrope",
        "rope_theta": base,
        **kept,
        "factor": 1.0,
        "long_factor": divided,
        "short_factor": list(divided),
        "original_max_position_embeddings": context,
    }
    parameters = parameters | {kind: tied} if kind else tied
    require_loadable(config, parameters, "longrope RoPE, which tied pairs are written as", "tied pairs", UNTIED)
    return WrittenRope(parameters, context, context, True, found.attention_factor)


def own_attention_factor(rope: RopeSpec, rope_at: Callable[[RopeSpec], Rope]) -> tuple[RopeSpec, float]:
    """`rope` with the attention factor that its method makes of s, and what q and k are multiplied by beside it.

    Args:
        rope_at: frequencies and attention factor of a spec.
    """
    if rope.attention_factor is None:
        return rope, 1.0
    named = replace(rope, attention_factor=None)
    return named, rope_at(rope).attention_factor / rope_at(named).attention_factor


def as_divisors(rope: RopeSpec) -> bool:
    """Whether llama.cpp is given a divisor per pair: tied pairs, and LongRoPE with one list for every length."""
    lists = rope.long_factor, rope.short_factor
    return bool(rope.tie) or (rope.method == "longrope" and lists[0] is not None and lists[0] == lists[1])


def has_own_borders(rope: RopeSpec) -> bool:
    """Whether YaRN's borders are not its published ones: of a Llama file llama.cpp reads none, and takes 32 and 1."""
    usual = RopeSpec()
    return rope.method == "yarn" and (rope.beta_fast, rope.beta_slow) != (usual.beta_fast, usual.beta_slow)


def require_one_list(block: dict[str, Any]) -> None:
    """Raises BadSpec where the frequencies that pairs are tied under depend on the length that is read.

    Also where the softmax scale of the checkpoint comes from the block that would be replaced (DeepSeek).
    """
    kind = block.get("rope_type", "default")
    if kind == "dynamic":
        raise BadSpec(
            "dynamic NTK's frequencies depend on the length, and a list of divisors holds at every length",
            where="tied pairs",
            do=f"choose --rope ntk or yarn, or {UNTIED}",
        )
    if kind == "longrope" and list(block["long_factor"]) != list(block["short_factor"]):
        raise BadSpec(
            "LongRoPE's frequencies depend on the length: its two lists differ",
            where="tied pairs",
            do=f"give --longrope-factors with equal lists, or {UNTIED}",
        )
    if block.get("mscale_all_dim"):
        raise BadSpec(
            "this checkpoint's softmax scale comes from its own interpolation, which the divisors would replace",
            where="tied pairs",
            do=UNTIED,
        )


def divisors(rope: Rope, base: float) -> Tensor:
    """base^(-2i/r) / omega_i, float32, (pairs,): what runtimes divide the frequencies of this base by.

    transformers and vLLM multiply them by powers in float32 and take the reciprocal; of the nearest float32 numbers the
    one is taken that gives omega_i back best, as a phase error grows with the position.
    """
    pairs, wanted = rope.inv_freq.numel(), rope.inv_freq.clamp_min(LEAST_WRITTEN_FREQUENCY)
    powers = base ** (torch.arange(0, 2 * pairs, 2, dtype=torch.int64).float() / (2 * pairs))
    near = (1 / (wanted.double() * powers.double())).float()
    up, down = (torch.nextafter(near, torch.tensor(end)) for end in (math.inf, 0.0))
    tried = torch.stack((near, up, down))
    best = (1 / (tried * powers) - wanted).abs().argmin(0)
    return tried.gather(0, best[None])[0]


def folding(geometry: Geometry, factor: float) -> Scales | None:
    """q and k times `factor` in the layers that an interpolation changes, on rotated channels; None: nothing to do."""
    if factor == 1:
        return None
    kind = geometry.interpolated_kind
    each = [factor if geometry.kind_of(layer) == kind else 1.0 for layer in range(geometry.n_layers)]
    g = torch.tensor(each, dtype=torch.float64)[:, None, None].expand(-1, geometry.n_kv_heads, 1).contiguous()
    return Scales("shared", "layer", ((0, geometry.n_pairs - 1),), g)


def written_gains(geometry: Geometry, scales: Scales | None, factor: float) -> tuple[Tensor, Tensor] | None:
    """What the rows of W_Q and of W_K are multiplied by, scales and attention factor; None where nothing changes them.

    Returns:
        float64, (layers, heads, head_dim) and (layers, kv_heads, head_dim).
    """
    parts = [one for one in (scales, folding(geometry, factor)) if one is not None and not one.keeps_keys]
    if not parts:
        return None
    geo = geometry
    each = [channel_gains(one, geo.head_dim, geo.rotary_dim, geo.pairing, geo.n_heads) for one in parts]
    q, k = each[0]
    for more_q, more_k in each[1:]:
        q, k = q * more_q, k * more_k
    return q, k


def written_parameters(loaded: LoadedModel, scales: Scales | None, factor: float) -> dict[str, Tensor | None]:
    """Parameters to write, where they differ from the loaded: `parameters_under`, with the factor in q and k.

    Scales and factor are multiplied in float32 (float64 models: float64) and rounded once.

    Raises:
        BadScales: scales of another model. NonFinite: a product that leaves the dtype.
    """
    fold = folding(loaded.geometry, factor)
    new = parameters_under(loaded, None if fold else scales)
    if fold is None:
        return new
    names = {name for slots in loaded.slots() for s in slots for name in (s.weight, s.bias, s.norm_gain) if name}
    there = {name: p.data for name, p in loaded.model.named_parameters()} | new
    own = {name: p for name, p in there.items() if p is not None}
    wide = {name: own[name].to(torch.promote_types(own[name].dtype, torch.float32)) for name in names & {*own}}
    for one in (scales, fold):
        if one is not None and not one.is_identity:
            with substituted_weights(loaded, wide):
                wide = wide | scaled_parameters(loaded, one)
    narrow = {name: value.to(own[name].dtype if name in own else loaded.dtype) for name, value in wide.items()}
    require_finite_parameters(narrow, loaded.dtype)
    return new | narrow
