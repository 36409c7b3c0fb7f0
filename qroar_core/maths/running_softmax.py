"""A softmax over more keys than are held at once: running sums that are rescaled when a larger logit comes."""

from __future__ import annotations

import torch
from torch import Tensor


def grown(top: Tensor, z: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """exp(logits - new top), new top, new sum, and the factor that turns old sums into new ones.

    Args:
        top: largest logit so far, -inf before any; z: sum of exp(logit - top) so far; both (...).
        logits: of the next keys, -inf where one is not seen; (..., N).
    """
    new = torch.maximum(top, logits.amax(-1))
    at = new.masked_fill(new.isinf(), 0.0)  # a row that has seen nothing yet
    weight, before = (logits - at[..., None]).exp(), (top - at).exp()
    return weight, new, z * before + weight.sum(-1), before
