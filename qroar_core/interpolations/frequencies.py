"""Position interpolation as transformers computes it: `RopeSpec` -> (inv_freq, attention factor).

Frequencies come from transformers' own initialisers run on a copy of the config; only static NTK is
ours, since transformers has no such type. The model itself is switched by setting its rotary
module's buffer for the length of a context manager.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.interpolations.bands import Bands, partition
from qroar_core.interpolations.base import Interpolation, RopeParameterInputs
from qroar_core.interpolations.checkpoint_rope import in_force
from qroar_core.interpolations.registry import interpolation_methods
from qroar_core.interpolations.tied_frequencies import tied
from qroar_core.maths.meters import onto
from qroar_core.maths.rope import cos_sin, static_ntk
from qroar_core.models.finite import require_finite_rope
from qroar_core.models.geometry import Geometry
from qroar_core.models.layer_groups import LayerGroup, layer_groups
from qroar_core.specs import BandSpec, RopeSpec
from qroar_core.specs.labels import rope_words

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.loaded import LoadedModel


KEPT_ROPE_KEYS = ("partial_rotary_factor", "mrope_section", "mrope_interleaved")  # of rope_parameters, under any method


@dataclass(frozen=True, slots=True, eq=False)
class Rope:
    """inv_freq in rad/token, float32 as transformers keeps it, (rotary_dim // 2,); factor on cos and sin.

    A pair that stands still has 0.
    """

    inv_freq: Tensor
    attention_factor: float
    untied: Tensor | None = None  # inv_freq of the method before pairs were tied; None: nothing is tied

    def cos_sin(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """cos and sin of positions start .. stop - 1, (stop - start, rotary_dim // 2) each, on `device`."""
        cos, sin = cos_sin(self.inv_freq, torch.arange(start, stop), self.attention_factor)
        return onto(cos, device), onto(sin, device)


def rope_parameters(config: Any, geometry: Geometry, spec: RopeSpec) -> dict[str, Any]:
    """The `rope_parameters` that make transformers compute `spec`; also what an export writes.

    Where layers have blocks of their own (Gemma 3), only that of the layers which read the whole context changes.

    Raises:
        BadSpec: LongRoPE without factor lists, or lists of a wrong length; an interpolation put over DeepSeek's own;
            an attention factor for a method that has none.
    """
    native = dict(config.rope_parameters)
    if spec.attention_factor is not None and not interpolation_methods()[spec.method].has_attention_factor:
        takers = [name for name, method in interpolation_methods().items() if method.has_attention_factor]
        raise BadSpec(
            f"{spec.method} has no attention factor to set",
            where="attention_factor",
            do=f"leave it out, or choose {' or '.join(takers)}",
        )
    if spec.method == "default":
        return native
    if kind := geometry.interpolated_kind:
        return native | {kind: _block(dict(native[kind]), geometry, spec)}
    return _block(native, geometry, spec)


def require_loadable(config: Any, parameters: dict[str, Any], what: str, where: str, do: str) -> None:
    """Raises BadSpec where transformers would not load a config with these `rope_parameters`.

    Phi-3's, for one, takes LongRoPE only.

    Args:
        what: they say. where, do: see `errors.QRoarError`.
    """
    from huggingface_hub.errors import StrictDataclassError

    from qroar_core.models.quiet import quiet_transformers  # a GGUF file is copied without transformers

    asked = copy.deepcopy(parameters)  # transformers writes into the blocks that it is given
    try:
        with quiet_transformers():
            type(config).from_dict(config.to_dict() | {"rope_parameters": asked})
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise BadSpec(
            f"transformers' {config.model_type} configuration takes no {what}: none could load it", where=where, do=do
        ) from error


def _block(native: dict[str, Any], geometry: Geometry, spec: RopeSpec) -> dict[str, Any]:
    if native.get("mscale_all_dim"):
        raise BadSpec(
            "this checkpoint's softmax scale comes from its own interpolation's factor (mscale_all_dim), "
            "so another interpolation would be another model",
            where=f"--rope {spec.method}",
            do="keep --rope default",
        )
    context = spec.original_context or geometry.original_context
    kept = {name: native[name] for name in KEPT_ROPE_KEYS if name in native}
    asked = RopeParameterInputs(spec, geometry.theta, geometry.rotary_dim, context, native)
    block = {"rope_theta": geometry.theta} | kept | interpolation_methods()[spec.method].parameters(asked)
    return block if spec.attention_factor is None else block | {"attention_factor": float(spec.attention_factor)}


def rope_for(
    config: Any, geometry: Geometry, spec: RopeSpec, length: int, default: Callable[..., Any], layers: str = ""
) -> Rope:
    """Frequencies and attention factor of `spec` for a context of `length` tokens.

    Dynamic NTK and LongRoPE depend on the length; they are fixed to what transformers uses when the
    whole context is read in one forward pass. Pairs are tied after that, on the kind of layers that an interpolation
    changes; the attention factor stays.

    Args:
        default: the rotary module's own `compute_default_rope_parameters(config)`.
        layers: the kind of layers asked about, where each kind has a block of rope_parameters of its own.
    Raises:
        BadSpec: as `rope_parameters`, or tied pairs that the model does not have. NonFinite: no frequencies.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    blocks = rope_parameters(config, geometry, spec)
    block = blocks[layers] if layers else blocks
    mine = {"layer_type": layers} if layers else {}
    patched = copy.deepcopy(config)
    if getattr(patched, "head_dim", 0) is None:  # transformers' YaRN cannot do without it
        patched.head_dim = geometry.head_dim
    context = spec.original_context or geometry.original_context
    if spec.method == "dynamic":
        patched.max_position_embeddings = context
    if spec.method != "default" and hasattr(patched, "original_max_position_embeddings"):
        patched.original_max_position_embeddings = context
    patched.rope_parameters = blocks
    kind = block.get("rope_type", "default")
    if kind == "default":
        inv_freq, attention = default(patched, **mine)
    else:
        seq_len: Any = length
        if kind == "dynamic" and length > patched.max_position_embeddings:
            seq_len = torch.tensor(length)  # as its module calls it: the base then grows in float32
        inv_freq, attention = ROPE_INIT_FUNCTIONS[kind](patched, None, seq_len=seq_len, **mine)
    alone = inv_freq.detach().float().cpu()
    if not spec.tie or layers != geometry.interpolated_kind:
        found = Rope(alone, float(attention))
    else:
        found = Rope(tied(alone, spec.tie).float(), float(attention), alone)
    require_finite_rope(found.inv_freq, found.attention_factor, rope_words(spec))
    return found


def ropes_of(loaded: LoadedModel, spec: RopeSpec, length: int) -> dict[str, Rope]:
    """The Rope of every kind of layer, the one that `spec` changes first; one named "" where layers are alike."""
    geo, config = loaded.geometry, loaded.model.config
    default = loaded.family.rotary(loaded.model).compute_default_rope_parameters
    kinds = dict.fromkeys((geo.interpolated_kind, *geo.rope_kinds))
    return {kind: rope_for(config, geo, spec, length, default, kind) for kind in kinds}


def layer_ropes(geometry: Geometry, ropes: Mapping[str, Rope]) -> list[Rope]:
    """The Rope of every layer; a layer without RoPE gets one that never turns."""
    still = Rope(torch.zeros(geometry.n_pairs), 1.0)
    turning = [ropes[geometry.kind_of(layer)] for layer in range(geometry.n_layers)]
    return [still if layer in geometry.without_rope else rope for layer, rope in enumerate(turning)]


def rope_of(loaded: LoadedModel, spec: RopeSpec, length: int) -> Rope:
    """`rope_for` on a loaded model; of layers that differ, on those that read the whole context."""
    return next(iter(ropes_of(loaded, spec, length).values()))


def native_inv_freq(loaded: LoadedModel) -> Tensor:
    """Plain theta^(-2i/r), rad/token, float64: the frequencies the bands and turns are counted on."""
    return static_ntk(loaded.geometry.theta, loaded.geometry.rotary_dim, 1.0)


def bands_of(loaded: LoadedModel, spec: BandSpec) -> Bands:
    """The model's RoPE pairs cut into bands, first and last pair of each.

    Raises:
        BadSpec: more bands than pairs, or an empty one.
    """
    return partition(native_inv_freq(loaded), loaded.geometry.original_context, spec)


@dataclass(frozen=True, slots=True, eq=False)
class LayerGroupRope:
    """How one group of layers turns under an interpolation, of the checkpoint's own where the setting keeps it."""

    group: LayerGroup
    at: Interpolation
    attention_factor: float  # a(s), on cos and sin


def layer_group_ropes(loaded: LoadedModel, spec: RopeSpec, length: int) -> tuple[LayerGroupRope, ...]:
    """Every rotated group of layers with its own frequencies, the ones that `spec` changes first."""
    geo, ropes = loaded.geometry, ropes_of(loaded, spec, length)
    out = []
    for group in layer_groups(geo):
        if group.rotated:
            rope = ropes[group.kind]
            native = static_ntk(group.theta, geo.rotary_dim, 1.0)
            # another interpolation than the checkpoint's leaves the other groups alone
            untouched = spec.method != "default" and not group.interpolated
            stretched, kept = (RopeSpec(), {}) if untouched else in_force(loaded, spec, group.kind)
            out.append(LayerGroupRope(group, _at(stretched, native, rope, geo, length, kept), rope.attention_factor))
    return tuple(out)


def interpolation_of(loaded: LoadedModel, spec: RopeSpec, length: int) -> Interpolation:
    """`spec` at work on the layers that it changes, for a context of `length` tokens.

    Raises:
        BadSpec, NonFinite: as `rope_for`.
    """
    rope = rope_of(loaded, spec, length)
    stretched, kept = in_force(loaded, spec, loaded.geometry.interpolated_kind)
    return _at(stretched, native_inv_freq(loaded), rope, loaded.geometry, length, kept)


def _at(
    spec: RopeSpec, native: Tensor, rope: Rope, geometry: Geometry, length: int, kept: Mapping[str, Any]
) -> Interpolation:
    untied = None if rope.untied is None else rope.untied.double()
    spec = replace(spec, tie=() if untied is None else spec.tie)  # other layers' pairs are not tied
    return Interpolation(spec, native, rope.inv_freq.double(), geometry.original_context, length, kept, untied)


@contextmanager
def rope_set(loaded: LoadedModel, ropes: Mapping[str, Rope]) -> Iterator[None]:
    """Run the model with `ropes` (of `ropes_of`); its rotary module is as it was afterwards, also on error."""
    rotary = loaded.family.rotary(loaded.model)
    new: dict[str, Any] = {}
    for kind, rope in ropes.items():
        prefix = f"{kind}_" if kind else ""
        device = getattr(rotary, f"{prefix}inv_freq").device
        new |= {f"{prefix}inv_freq": rope.inv_freq.to(device), f"{prefix}attention_scaling": rope.attention_factor}
    # "default" keeps transformers from recomputing dynamic frequencies per chunk
    new["rope_type"] = "default" if "" in ropes else dict.fromkeys(ropes, "default")
    before = {name: getattr(rotary, name) for name in new}
    try:
        for name, value in new.items():
            setattr(rotary, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(rotary, name, value)
