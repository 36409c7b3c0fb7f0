"""Where a search of K's offset begins: the constant part of K on channels that do not turn, from calibration text.

Two constants are tried behind each start: the mean of K, which leaves the least energy, and the middle of its range
once it is scaled and mapped, which leaves the least absmax. The objective says which head takes which, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.attention_error import CapturedLayer, channel_log2
from qroar_core.maths.channel_groups import ChannelGroup, whole_head
from qroar_core.maths.rope import Pairing
from qroar_core.maths.scatter_gather import gathered
from qroar_core.maths.transform_point import TransformParts


@dataclass(frozen=True, slots=True, eq=False)
class KeyConstants:
    """K over all captured tokens.

    mean, deviation: of each channel after RoPE, (layers, n_kv_heads, head_dim), float32. constant: (layers, head_dim),
    what RoPE makes of 1 where a channel stands still, 0 elsewhere. tokens: how many were counted.
    """

    windows: Sequence[Sequence[CapturedLayer]]
    mean: Tensor
    deviation: Tensor
    constant: Tensor
    tokens: int

    @classmethod
    def of(cls, windows: Sequence[Sequence[CapturedLayer]]) -> KeyConstants:
        """Counted once; the tokens of all windows alike."""
        tokens = sum(layers[0].k.shape[1] for layers in windows)
        mean = torch.stack([gathered([x.k.sum(1) for x in layers]) for layers in windows]).sum(0) / tokens
        square = torch.stack([gathered([x.k.square().sum(1) for x in layers]) for layers in windows]).sum(0) / tokens
        constant = torch.stack([_constant(x) for x in windows[0]])
        return cls(windows, mean, (square - mean.square()).clamp_min(0).sqrt(), constant, tokens)

    def before_rope(self, x: Tensor) -> Tensor:
        """A vector on k after RoPE (layers, n_kv_heads, head_dim) in the units of W_K's bias, 0 where channels turn."""
        c = self.constant[:, None].to(x)
        return torch.where(c == 0, 0.0, x / torch.where(c == 0, 1.0, c))

    def centred(self, moment: Tensor) -> Tensor:
        """Sum of k k^T over tokens, (layers, n_kv_heads, head_dim, head_dim), of k less its mean where it is still."""
        mean = torch.where(self.constant[:, None] == 0, 0.0, self.mean).to(moment)
        across = (self.mean.to(moment)[..., :, None] * mean[..., None, :]).mul(self.tokens)
        own = mean[..., :, None] * mean[..., None, :] * self.tokens
        return moment - across - across.mT + own

    def middles(
        self, parts: TransformParts, groups: tuple[ChannelGroup, ...], band: Tensor, rotary_dim: int, pairing: Pairing
    ) -> Tensor:
        """The middle of K's range once it is scaled and mapped as a point has it, taken back to k after RoPE.

        Args:
            parts: of a point without turned pairs, (layers, n_kv_heads, ...).
        Returns:
            (layers, n_kv_heads, head_dim), 0 on channels that turn.
        """
        out = []
        for layer in range(len(self.mean)):
            down = 1 / channel_log2(parts.log2_g[layer], band).exp2()  # (n_kv_heads, head_dim)
            still = self.constant[layer] != 0
            if not bool(still.any()):
                out.append(torch.zeros_like(self.mean[layer]))
                continue
            matrix = torch.diag_embed(down)
            if parts.matrices:
                here = tuple(one[layer] for one in parts.matrices)
                matrix = whole_head(groups, here, down.shape[-1], rotary_dim, pairing) @ matrix
            if self.windows[0][layer].still:  # a layer without RoPE takes neither scales nor maps
                matrix = torch.eye(down.shape[-1]).expand_as(matrix)
            mapped = [window[layer].k @ matrix.to(window[layer].k).mT for window in self.windows]
            high, low = (
                torch.stack([k.amax(1) for k in mapped]).amax(0),
                torch.stack([k.amin(1) for k in mapped]).amin(0),
            )
            middle = (high + low) / 2
            back = torch.linalg.solve(matrix.double(), middle.cpu().double()[..., None])[..., 0]
            out.append(torch.where(still, back.to(self.mean), 0.0))
        return torch.stack(out)


def _constant(layer: CapturedLayer) -> Tensor:
    assert layer.constant is not None  # captured for an offset
    return layer.constant.cpu()
