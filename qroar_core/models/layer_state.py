"""What layers without K and V carry from token to token: transformers' own state of a convolution or a recurrence.

A stream in chunks hands it from chunk to chunk, or such a layer would start anew with every chunk. Its size does
not depend on the length.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache


class LayerState(DynamicCache):
    """transformers' cache without its keys and values: those are the stream's, which rounds them as a cache would."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The new tokens as they are; nothing is kept."""
        return key_states, value_states
