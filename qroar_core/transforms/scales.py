"""Band scales and what they do to q and k channels (docs/method.md section 4).

`symmetric`: q channels of band b times g_b, k channels times 1/g_b; both channels of a pair share
one g, which commutes with the rotation, so no full-precision logit changes. `shared`: both times
g_b, a temperature g_b^2 per band. Channels past rotary_dim belong to no band and keep gain 1.

Pair angles go one step further: q and k of a RoPE pair are turned by one more angle. Turns of a plane commute
with RoPE's and with each other, so that no full-precision logit changes either, but the quantizer's axes lie
elsewhere. Scale and angle together are the pre-RoPE transform of FPTQuant (arXiv 2506.04985, section 3).

Maps are the last step that the rule allows: a matrix M on k, and its inverse's transpose on q, over channels that turn
alike (`maths/channel_groups`). They act after scales and angles.

A constant may be taken off K's channels that do not turn, before all of these: k - b adds -q . b to every logit of a
row, which its softmax does not see. What is left is smaller where K's mean is large.

A polish is no transform of this kind: it changes the model under tied pairs (`transforms/polish`). It acts before all
others.

Value maps have a rule of their own: V carries no RoPE, so that v -> M v with W_O's columns times M^-1 leaves every
output as it is, for any invertible M of a KV head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qroar_core.errors import BadScales
from qroar_core.interpolations.bands import Bands, band_of_channel
from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.rope import Pairing, rotate
from qroar_core.maths.transform_point import TransformParts
from qroar_core.specs import Granularity, Mode
from qroar_core.transforms.polish import Polish, polish_of
from qroar_core.transforms.result import GroupMap, PolishedGroup

WORST_CONDITION = 1e6  # of a map: past it an inverse in float32 keeps no digit


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """One positive scale per band, and, where given, one angle per RoPE pair and one matrix per group of channels.

    `g` is (n_layers, n_kv_heads, bands), `angles` (n_layers, n_kv_heads, rotary_dim // 2) rad, each of `maps`
    (n_layers, n_kv_heads, size, size) of the group at its place in `groups`; float64, whatever the granularity.
    `value_maps`, (n_layers, n_kv_heads, value_dim, value_dim) float64, are of every KV head its own at any granularity.
    So is `k_offset`, (n_layers, n_kv_heads, head_dim) float64, in the units of k before RoPE, 0 on channels that turn.
    """

    mode: Mode
    granularity: Granularity
    bands: Bands
    g: Tensor
    angles: Tensor | None = None
    groups: tuple[ChannelGroup, ...] = ()
    maps: tuple[Tensor, ...] = ()
    value_maps: Tensor | None = None
    k_offset: Tensor | None = None
    polish: Polish | None = None

    def __post_init__(self) -> None:
        if self.g.ndim != 3 or self.g.shape[-1] != len(self.bands):
            raise BadScales(f"g must be (layers, kv_heads, {len(self.bands)}), got {tuple(self.g.shape)}")
        if not bool(torch.isfinite(self.g).all()) or not bool((self.g > 0).all()):
            raise BadScales("every g must be finite and positive")
        pairs = self.bands[-1][1] + 1
        if self.angles is not None and tuple(self.angles.shape) != (*self.g.shape[:2], pairs):
            raise BadScales(f"angles must be {(*self.g.shape[:2], pairs)}, got {tuple(self.angles.shape)}")
        if self.angles is not None and not bool(torch.isfinite(self.angles).all()):
            raise BadScales("every angle must be finite")
        if len(self.groups) != len(self.maps) or (self.maps and self.angles is None):
            raise BadScales(f"need a map for each of {len(self.groups)} groups, and angles beside them")
        for group, one in zip(self.groups, self.maps, strict=True):
            self._check_map(group, one)
        if self.value_maps is not None:
            self._check_value_maps(self.value_maps)
        offset = self.k_offset
        if offset is not None and (offset.ndim != 3 or offset.shape[:2] != self.g.shape[:2]):
            raise BadScales(f"a K offset must be {(*self.g.shape[:2], 'head_dim')}, got {tuple(offset.shape)}")
        if offset is not None and not bool(torch.isfinite(offset).all()):
            raise BadScales("every number of a K offset must be finite")
        if self.polish is not None:
            self.polish.require_beside(*self.g.shape[:2])

    def _check_map(self, group: ChannelGroup, one: Tensor) -> None:
        shape = (*self.g.shape[:2], group.size, group.size)
        if tuple(one.shape) != shape:
            raise BadScales(f"the map of pairs {group.first} to {group.last} must be {shape}, got {tuple(one.shape)}")
        if not bool(torch.isfinite(one).all()) or not bool((torch.linalg.cond(one) < WORST_CONDITION).all()):
            raise BadScales(f"the map of pairs {group.first} to {group.last} cannot be undone")
        if not group.commutes(one):
            raise BadScales(f"the map of pairs {group.first} to {group.last} does not commute with their turning")

    def _check_value_maps(self, maps: Tensor) -> None:
        if maps.ndim != 4 or maps.shape[:2] != self.g.shape[:2] or maps.shape[2] != maps.shape[3]:
            raise BadScales(
                f"value maps must be {(*self.g.shape[:2], 'value_dim', 'value_dim')}, got {tuple(maps.shape)}"
            )
        if not bool(torch.isfinite(maps).all()) or not bool((torch.linalg.cond(maps) < WORST_CONDITION).all()):
            raise BadScales("a value map cannot be undone")

    @property
    def turns(self) -> bool:
        """True when rows are mixed: some pair is turned, or some map is not 1."""
        return self.angles is not None and (bool(self.angles.any()) or self.mixes)

    @property
    def mixes(self) -> bool:
        """True when some map is not 1."""
        return any(not torch.equal(one, torch.eye(one.shape[-1]).to(one).expand_as(one)) for one in self.maps)

    @property
    def mixes_values(self) -> bool:
        """True when some value map is not 1."""
        maps = self.value_maps
        return maps is not None and not torch.equal(maps, torch.eye(maps.shape[-1]).to(maps).expand_as(maps))

    @property
    def keeps_keys(self) -> bool:
        """True when q and k stay: scales of exactly 1, no pair turned, no map of K or polish, nothing taken off K."""
        return bool((self.g == 1).all()) and not self.turns and not self.shifts and not self.polishes

    @property
    def polishes(self) -> bool:
        """True when rows of tied pairs are changed to make the tie cheaper, which changes the model."""
        return self.polish is not None and not self.polish.is_identity

    @property
    def shifts(self) -> bool:
        """True when something is taken off K."""
        return self.k_offset is not None and bool(self.k_offset.any())

    @property
    def is_identity(self) -> bool:
        """True when q, k and V stay as they are."""
        return self.keeps_keys and not self.mixes_values

    @property
    def point(self) -> Tensor:
        """Where a search stands, (layers, kv, bands [+ pairs [+ numbers of the groups]] [+ head_dim]).

        See maths/transform_point.
        """
        return TransformParts(self.g.log2(), self.angles, self.maps, self.k_offset).point(self.groups)

    def point_among(self, groups: tuple[ChannelGroup, ...], channels: int = 0) -> Tensor:
        """The same point where a search has maps of these groups, and an offset of so many channels.

        Those that these scales lack are identity, zero.
        """
        heads = self.g.shape[:2]
        parts = self
        if channels and self.k_offset is None:
            parts = replace(parts, k_offset=self.g.new_zeros(*heads, channels))
        if groups and not self.groups:
            angles = self.g.new_zeros(*heads, self.bands[-1][1] + 1) if self.angles is None else self.angles
            one = [group.matrix(self.g.new_zeros(*heads, group.numbers)) for group in groups]
            parts = replace(parts, angles=angles, groups=groups, maps=tuple(one))
        return parts.point

    @property
    def digest(self) -> str:
        """16 hex digits of what the scales do: mode, bands and every number, wherever they came from."""
        groups = f" {self.groups}" * bool(self.groups) + " K offset" * (self.k_offset is not None)
        said = hashlib.sha256(f"{self.mode} {self.bands} {tuple(self.point.shape)}{groups}".encode())
        said.update(self.point.double().cpu().contiguous().numpy().tobytes())
        if self.value_maps is not None:
            said.update(b" value maps" + self.value_maps.double().cpu().contiguous().numpy().tobytes())
        if self.polish is not None:
            said.update(self.polish.digested())
        return said.hexdigest()[:16]

    def nested(self) -> list:
        """g nested to the granularity: [band], [layer][band] or [layer][kv_head][band]."""
        return self.nested_as(self.g)

    def nested_angles(self) -> list | None:
        """The angles nested like g, None without any."""
        return None if self.angles is None else self.nested_as(self.angles)

    def nested_value_maps(self) -> list | None:
        """The value maps as [layer][kv_head][row][column], None without any."""
        return None if self.value_maps is None else self.value_maps.tolist()

    def nested_k_offset(self) -> list | None:
        """What is taken off K as [layer][kv_head][channel], None without any."""
        return None if self.k_offset is None else self.k_offset.tolist()

    def toward_identity(self, share: float) -> Scales:
        """`share` of the way from identity to these scales: g^share, angles times share; all others stay."""
        return replace(self, g=self.g**share, angles=None if self.angles is None else self.angles * share)

    def nested_as(self, table: Tensor) -> list:
        """A table (layers, kv_heads, ...) as lists, nested to the granularity."""
        if self.granularity == "model":
            return table[0, 0].tolist()
        return (table[:, 0] if self.granularity == "layer" else table).tolist()


def identity(
    n_layers: int, n_kv_heads: int, bands: Bands, mode: Mode = "symmetric", granularity: Granularity = "kv_head"
) -> Scales:
    """Scales that change nothing."""
    return Scales(mode, granularity, bands, torch.ones(n_layers, n_kv_heads, len(bands), dtype=torch.float64))


def from_nested(
    nested: list,
    mode: Mode,
    granularity: Granularity,
    bands: Bands,
    n_layers: int,
    n_kv_heads: int,
    angles: list | None = None,
    maps: Sequence[GroupMap] = (),
    value_maps: list | None = None,
    k_offset: list | None = None,
    polish: Sequence[PolishedGroup] = (),
) -> Scales:
    """Inverse of `Scales.nested` and of its like for the other tables, and of `nested_as` for each map.

    Raises:
        BadScales: the nesting is ragged or does not fit the granularity and model.
    """
    heads = (n_layers, n_kv_heads)
    g = _table("g", nested, granularity, heads, len(bands))
    turned = None if angles is None else _table("angles", angles, granularity, heads, bands[-1][1] + 1)
    groups = tuple(ChannelGroup(one.first, one.last, one.still, one.rest) for one in maps)
    sizes = [(group.size, group.size) for group in groups]
    tables = [_table("a map", one.matrix, granularity, heads, *size) for one, size in zip(maps, sizes, strict=True)]
    of_values = None
    if value_maps is not None:
        size = len(value_maps[0][0])
        of_values = _table("value maps", value_maps, "kv_head", heads, size, size)
    off = None if k_offset is None else _table("k_offset", k_offset, "kv_head", heads, len(k_offset[0][0]))
    changed = polish_of(polish) if polish else None
    return Scales(mode, granularity, bands, g, turned, groups, tuple(tables), of_values, off, changed)


def _table(name: str, nested: list, granularity: Granularity, heads: tuple[int, int], *width: int) -> Tensor:
    shape = {"model": (), "layer": heads[:1], "kv_head": heads}[granularity]
    try:
        table = torch.tensor(nested, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise BadScales(f"{name} is not a table of numbers: {error}") from error
    if tuple(table.shape) != (*shape, *width):
        raise BadScales(f"{name} has shape {tuple(table.shape)}, granularity {granularity} needs {(*shape, *width)}")
    return table.reshape(*shape, *([1] * (2 - len(shape))), *width).expand(*heads, *width).contiguous()


def head_maps(scales: Scales, head_dim: int, rotary_dim: int, pairing: Pairing) -> Tensor | None:
    """The maps of all groups as one matrix on k's channels, (layers, n_kv_heads, head_dim, head_dim), float64.

    None where there are none. q takes the inverse's transpose.
    """
    return whole_head(scales.groups, scales.maps, head_dim, rotary_dim, pairing) if scales.mixes else None


def require_scales_alone(scales: Scales) -> None:
    """Raises BadScales where rows are mixed, as turned pairs and maps do: finished codes cannot take that."""
    for mixed, what, options in (
        (scales.turns, "rows of W_Q and W_K, as turned pairs and maps do", "--angles and --maps"),
        (scales.mixes_values, "rows of W_V and columns of W_O, as value maps do", "--value-maps"),
        (scales.shifts, "a bias into K, as its offset does", "--k-offset"),
        (scales.polishes, "rows of W_Q and W_K, as a polish does", "--polish"),
    ):
        if mixed:
            raise BadScales(
                f"these scales mix {what}; finished codes stay as they are",
                do=f"search without {options}, or export from the unquantized checkpoint",
            )


def turned(x: Tensor, angles: Tensor, pairing: Pairing) -> Tensor:
    """Every pair of x (..., T, head_dim) turned by its angle, rad (..., pairs); channels past the pairs stay."""
    at = angles[..., None, :]
    return rotate(x, at.cos(), at.sin(), pairing)


def pooled(log2_g: Tensor, granularity: Granularity) -> Tensor:
    """Average log2 g (layers, kv_heads, bands) over what the granularity shares; same shape."""
    dims = {"model": (0, 1), "layer": (1,), "kv_head": ()}[granularity]
    return log2_g.mean(dims, keepdim=True).expand_as(log2_g) if dims else log2_g


def channel_gains(
    scales: Scales, head_dim: int, rotary_dim: int, pairing: Pairing, n_heads: int
) -> tuple[Tensor, Tensor]:
    """Gains on q and k channels: (layers, n_heads, head_dim) and (layers, n_kv_heads, head_dim), float64."""
    band = band_of_channel(scales.bands, head_dim, rotary_dim, pairing)
    padded = torch.cat((scales.g, torch.ones_like(scales.g[..., :1])), dim=-1)  # last: channels without a band
    per_kv = padded[..., torch.where(band >= 0, band, len(scales.bands))]  # (layers, kv, head_dim)
    q_gain = per_kv.repeat_interleave(n_heads // per_kv.shape[1], dim=1)
    return q_gain, (1 / per_kv if scales.mode == "symmetric" else per_kv)
