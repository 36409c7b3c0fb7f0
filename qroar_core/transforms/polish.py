"""The polish of tied pairs: rows of W_Q and W_K changed, so that attention under the tie is nearer that without it.

A tie turns pairs by other angles than the model was trained with. Channels of each tied group are mixed anew before
RoPE, by one matrix per query head and one per KV head: q -> P_q q, k -> P_k k. Unlike all other kinds of transform it
is not exact: it changes the model under the tie, for the better as far as text that it has not seen can show. It acts
before scales, angles and maps, which then commute with RoPE as they do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadScales
from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.rope import Pairing
from qroar_core.transforms.result import PolishedGroup


@dataclass(frozen=True, slots=True, eq=False)
class Polish:
    """Matrices of every tied group, float64, on its channels as `ChannelGroup.channels` orders them.

    Args:
        groups: of tied pairs.
        q: of each group (layers, n_heads, size, size).
        k: of each group (layers, n_kv_heads, size, size).
    """

    groups: tuple[ChannelGroup, ...]
    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if not self.groups or not len(self.groups) == len(self.q) == len(self.k):
            raise BadScales(f"a polish needs a matrix of q and one of k for each of {len(self.groups)} groups")
        for group, *each in zip(self.groups, self.q, self.k, strict=True):
            where = f"the polish of pairs {group.first} to {group.last}"
            if group.rest:
                raise BadScales("a polish is of tied pairs, not of channels past the rotated ones")
            for name, one, like in zip("qk", each, (self.q[0], self.k[0]), strict=True):
                shape = (*like.shape[:2], group.size, group.size)
                if one.ndim != 4 or tuple(one.shape) != shape:
                    raise BadScales(f"{where} must be {shape} for {name}, got {tuple(one.shape)}")
                if not bool(torch.isfinite(one).all()):
                    raise BadScales(f"every number of {where} must be finite")
        if len(self.q[0]) != len(self.k[0]):
            raise BadScales(f"a polish is of {len(self.q[0])} layers for q and of {len(self.k[0])} for k")

    @property
    def heads(self) -> tuple[int, int, int]:
        """Layers, query heads and KV heads."""
        return (*self.q[0].shape[:2], self.k[0].shape[1])

    def require_beside(self, layers: int, kv_heads: int) -> None:
        """Raises BadScales where scales of so many layers and KV heads are of another model."""
        mine, heads, mine_kv = self.heads
        if (mine, mine_kv) != (layers, kv_heads) or heads % kv_heads:
            raise BadScales(
                f"a polish of {mine} layers, {heads} query heads and {mine_kv} KV heads beside scales of {layers} "
                f"layers and {kv_heads} KV heads"
            )

    @property
    def is_identity(self) -> bool:
        """True when q and k stay as they are."""
        return all(torch.equal(one, torch.eye(one.shape[-1]).to(one).expand_as(one)) for one in (*self.q, *self.k))

    def of_layer(self, layer: int, head_dim: int, rotary_dim: int, pairing: Pairing) -> tuple[Tensor, Tensor]:
        """P_q (n_heads, head_dim, head_dim) and P_k (n_kv_heads, head_dim, head_dim), 1 beside the groups."""
        q, k = (
            whole_head(self.groups, tuple(one[layer] for one in each), head_dim, rotary_dim, pairing)
            for each in (self.q, self.k)
        )
        return q, k

    def nested(self) -> list[dict]:
        """What a file has of it: a `PolishedGroup` a group."""
        return [
            {"first": group.first, "last": group.last, "still": group.still, "q": q.tolist(), "k": k.tolist()}
            for group, q, k in zip(self.groups, self.q, self.k, strict=True)
        ]

    def digested(self) -> bytes:
        """Every number, and of which groups."""
        numbers = [one.double().cpu().contiguous().numpy().tobytes() for one in (*self.q, *self.k)]
        return b"".join((f" polish {self.groups}".encode(), *numbers))


def polish_of(groups: Sequence[PolishedGroup]) -> Polish:
    """Inverse of `Polish.nested`.

    Raises:
        BadScales: no tables of numbers, or of shapes that do not fit.
    """
    try:
        q, k = (
            tuple(torch.tensor(table, dtype=torch.float64) for table in each)
            for each in ([one.q for one in groups], [one.k for one in groups])
        )
    except (TypeError, ValueError) as error:
        raise BadScales(f"a polish is not a table of numbers: {error}") from error
    return Polish(tuple(ChannelGroup(one.first, one.last, one.still) for one in groups), q, k)
