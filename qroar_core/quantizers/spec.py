"""What is quantized, and how: weights, K and V cache, q and k activations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from qroar_core.checks import Compact, at_least, check_numbers, one_of
from qroar_core.errors import BadSpec
from qroar_core.quantizers.grids import GRIDS

ScaleAxis = Literal["token", "channel", "tensor", "block"]
ScaleDtype = Literal["float32", "float16", "bfloat16", "input"]


@dataclass(frozen=True, slots=True, repr=False)
class WeightQuantSpec(Compact):
    """Fake-quantized linear weights of every decoder layer (embeddings and lm_head stay).

    `tensor` one scale a matrix, `channel` one per output row, `group` one per `group_size` inputs of
    a row. Symmetric: levels -qmax..qmax, step absmax/qmax with qmax = 2^(bits-1)-1; `full_range`
    adds the level -2^(bits-1), step absmax/(qmax + 1/2), as W4A16 checkpoints do. Affine: min..max.
    """

    bits: int
    scale: Literal["tensor", "channel", "group"] = "channel"
    group_size: int = 128
    symmetric: bool = True
    full_range: bool = False

    def __post_init__(self) -> None:
        check_numbers(self)
        one_of("weight scale", self.scale, Literal["tensor", "channel", "group"])
        if self.full_range and not self.symmetric:
            raise BadSpec("full_range goes with symmetric weights; affine uses every level anyway")
        if not 2 <= self.bits <= 8:
            raise BadSpec(f"weight bits must be 2..8, got {self.bits}")
        at_least("group_size", self.group_size, 2)


@dataclass(frozen=True, slots=True, repr=False)
class QuantizerSpec(Compact):
    """How q, k or v vectors are rounded. Tensors are (..., tokens, head_dim).

    scale: `token` one scale per token and head; `block` one per `group_size` channels of a token;
    `channel` one per channel and `group_size` tokens (KIVI's K), complete groups only: the tokens of
    the group still being filled stay in full precision, as in a real cache; `tensor` one static,
    calibrated scale per layer (or `static_scale` when given).
    levels: `absmax` symmetric integers, step absmax/qmax with qmax = 2^(bits-1)-1; `affine` min..max
    over 2^bits-1 steps; `ggml_absmax` llama.cpp's q8_0: absmax whose codes come from the step before
    it is stored, ties away from zero; `ggml_signed` its q4_0: d = signed extreme / -2^(bits-1),
    2^bits levels; `mlx_affine` affine with the edge of larger magnitude and zero on the grid;
    `e4m3`, `e5m2` floats of 8 bits (bits must be 8).
    scale_dtype: what the step (and affine zero) are stored in; `input` is the tensor's own dtype.
    static_scale: the step itself (what vLLM calls k_scale), in place of a calibrated absmax.
    before_rope: quantize K before its rotation (K only). rotation: orthonormal Hadamard over
    head_dim before rounding, undone after, in diagonal blocks of `rotation_block` channels (None:
    the largest power of two dividing head_dim); a head_dim whose block would be under
    `rotation_least`, or is no multiple of rotation_block, stays unrotated, as llama.cpp does.
    channel_order: which order `block` and the rotation count channels in; `interleaved` is
    llama.cpp's (2i, 2i+1) order of rotated pairs.
    residual: the newest tokens kept in full precision, in aligned blocks of this many.
    """

    bits: int
    scale: ScaleAxis = "token"
    levels: str = "absmax"  # a name of GRIDS
    group_size: int | None = None
    scale_dtype: ScaleDtype = "float32"
    before_rope: bool = False
    rotation: Literal["none", "hadamard"] = "none"
    rotation_block: int | None = None
    rotation_least: int = 2
    channel_order: Literal["model", "interleaved"] = "model"
    residual: int = 0
    static_scale: float | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        one_of("scale", self.scale, ScaleAxis)
        if self.levels not in GRIDS:
            raise BadSpec(f"unknown levels {self.levels!r}", do=f"choose one of {', '.join(GRIDS)}")
        one_of("scale dtype", self.scale_dtype, ScaleDtype)
        one_of("rotation", self.rotation, Literal["none", "hadamard"])
        one_of("channel order", self.channel_order, Literal["model", "interleaved"])
        for block in (self.rotation_block, self.rotation_least):
            if block is not None and (block < 2 or block & (block - 1)):
                raise BadSpec(f"a Hadamard block must be a power of two >= 2, got {block}")
        if self.static_scale is not None and not self.static_scale > 0:
            raise BadSpec(f"static_scale must be > 0, got {self.static_scale}")
        if self.static_scale is not None and self.scale != "tensor":
            raise BadSpec(f"static_scale goes with scale tensor, not {self.scale}")
        if self.scale == "tensor" and GRIDS[self.levels].from_block:
            raise BadSpec(f"{self.levels} takes its scale from each block, not from a whole tensor")
        width = GRIDS[self.levels].width
        if width is None and not 2 <= self.bits <= 8:
            raise BadSpec(f"bits must be 2..8, got {self.bits}")
        if width not in (None, self.bits):
            raise BadSpec(f"{self.levels} has {width} bits, got bits={self.bits}")
        if self.scale in ("channel", "block") and not (self.group_size or 0) >= 2:
            raise BadSpec(f"scale {self.scale} needs group_size >= 2, got {self.group_size}")
        if self.scale == "channel" and self.rotation == "hadamard":
            raise BadSpec("per-channel scales and a Hadamard rotation exclude each other")
        if self.residual < 0:
            raise BadSpec(f"residual must be >= 0 tokens, got {self.residual}")
        if self.scale == "channel" and self.residual and self.residual % (self.group_size or 1):
            raise BadSpec(f"residual {self.residual} must be a multiple of group_size {self.group_size}")
        if self.before_rope and self.rotation == "hadamard":
            raise BadSpec("a Hadamard rotation is applied after RoPE; before_rope excludes it")

    @property
    def rotated(self) -> QuantizerSpec | None:
        """The same quantizer behind a Hadamard rotation; None where that does not apply or is there already."""
        if self.rotation == "hadamard" or self.before_rope or self.scale in ("channel", "tensor"):
            return None
        return replace(self, rotation="hadamard")

    @property
    def block_tokens(self) -> int:
        """Tokens that become quantized together: a stream's chunk must be a multiple of it."""
        return max(self.residual, self.group_size or 1) if self.scale == "channel" else max(1, self.residual)

    @property
    def keeps_recent(self) -> bool:
        """True when the newest tokens stay in full precision until their block is full."""
        return self.block_tokens > 1

    @property
    def takes_clip(self) -> bool:
        """True where each set has a range of its own that a ratio can shrink evenly on both sides."""
        return self.scale in ("token", "block") and self.levels == "absmax"

    @property
    def needs_calibration(self) -> bool:
        """True when a static scale has to be measured on calibration text first."""
        return self.scale == "tensor" and self.static_scale is None


@dataclass(frozen=True, slots=True, repr=False)
class QuantSpec(Compact):
    """Everything that is quantized at once. None means full precision.

    `k`, `v` act on the cache; `qk` on the q and k activations that enter the logits (after RoPE and
    after the cache's own rounding); `activations` on what every linear of the decoder layers reads, one scale a
    token over all its inputs. `keep_layers` are layers of the decoder whose cache `k` and `v` leave in the model's own
    numbers, counted from 0 as checkpoints and vLLM count them. `name` is the preset it came from, or "".
    """

    weights: WeightQuantSpec | None = None
    k: QuantizerSpec | None = None
    v: QuantizerSpec | None = None
    qk: QuantizerSpec | None = None
    activations: QuantizerSpec | None = None
    keep_layers: tuple[int, ...] = ()
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_numbers(self, keep_layers="give numbers of layers, counted from 0")
        if any(layer < 0 for layer in self.keep_layers):
            raise BadSpec(
                f"layers are counted from 0, got {min(self.keep_layers)}",
                where="--keep-layers",
                do="give the number of the layer in the checkpoint",
            )
        object.__setattr__(self, "keep_layers", tuple(sorted(set(self.keep_layers))))
        if self.v is not None and self.v.before_rope:
            raise BadSpec("V carries no RoPE", where="--v", do="drop before_rope")
        if self.qk is not None and (self.qk.keeps_recent or self.qk.before_rope):
            raise BadSpec("activations are rounded per token after RoPE", where="--qk")
        if self.activations is not None and self.activations != QuantizerSpec(self.activations.bits):
            raise BadSpec("linear inputs take symmetric integers, one scale a token", where="--activations")

    def __repr__(self) -> str:
        parts = (
            _cache_words(self.k, self.v),
            _weight_words(self.weights),
            _activation_words(self.qk, self.activations),
        )
        if None in parts:  # a runtime's preset, or what no words of `qroar.quantization` make
            return Compact.__repr__(self)
        words = [f"{name}={value!r}" for part in parts for name, value in (part or {}).items()]
        words += [f"keep_layers={self.keep_layers}"] if self.keep_layers else []
        return f"qroar.quantization({', '.join(words)})"

    @property
    def is_none(self) -> bool:
        """True when nothing is quantized."""
        return not (self.weights or self.k or self.v or self.qk or self.activations)

    def of_layer(self, number: int) -> QuantSpec:
        """The quantizers of the decoder's layer `number`: none of K and V where its cache is kept."""
        return replace(self, k=None, v=None) if number in self.keep_layers else self

    def require_quantized_values(self) -> None:
        """Raises BadSpec where V is not rounded, so that value maps would have nothing to help."""
        if self.v is None:
            raise BadSpec(
                "value maps help a quantized V cache, and V is not quantized here",
                where="--value-maps",
                do="quantize V as well, for example by --v int4, or search without value maps",
            )

    @property
    def changes_projections(self) -> bool:
        """True when q, k and v come out of their projections changed, before any cache rounds them."""
        return self.weights is not None or self.activations is not None

    @property
    def block_tokens(self) -> int:
        """A stream's chunk must be a multiple of this many tokens."""
        return max([1] + [s.block_tokens for s in (self.k, self.v) if s])


Words = dict[str, str | int | bool]


def _cache_words(k: QuantizerSpec | None, v: QuantizerSpec | None) -> Words | None:
    """What `qroar.quantization` makes these of: a number of bits each, and options that they share."""
    there = {name: spec for name, spec in (("k", k), ("v", v)) if spec is not None}
    if not there:
        return {}
    first = next(iter(there.values()))
    for name, spec in there.items():
        if spec.levels != "absmax":
            return None
        alike = QuantizerSpec(spec.bits, first.scale, group_size=first.group_size, rotation=first.rotation)
        if spec != replace(alike, before_rope=name == "k" and first.before_rope):
            return None
    if first.group_size is not None and first.scale not in ("block", "channel"):
        return None
    words: Words = {"kv": f"int{first.bits}"} if k == v else {name: f"int{s.bits}" for name, s in there.items()}
    words |= {} if first.scale == "token" else {"kv_scale": first.scale}
    words |= {} if first.group_size is None else {"group_size": first.group_size}
    words |= {} if first.rotation == "none" else {"kv_rotation": True}
    return words | ({"k_before_rope": True} if first.before_rope else {})


def _weight_words(weights: WeightQuantSpec | None) -> Words | None:
    if weights is None:
        return {}
    plain = WeightQuantSpec(weights.bits)
    if weights != replace(plain, scale=weights.scale, group_size=weights.group_size):
        return None
    words: Words = {"weights": f"int{weights.bits}"}
    words |= {} if weights.scale == plain.scale else {"weight_scale": weights.scale}
    return words | ({} if weights.group_size == plain.group_size else {"weight_group": weights.group_size})


def _activation_words(qk: QuantizerSpec | None, activations: QuantizerSpec | None) -> Words | None:
    there = {name: spec for name, spec in (("qk", qk), ("activations", activations)) if spec is not None}
    plain = all(spec == QuantizerSpec(spec.bits) for spec in there.values())
    return {name: f"int{spec.bits}" for name, spec in there.items()} if plain else None
