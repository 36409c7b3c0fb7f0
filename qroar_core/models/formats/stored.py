"""A tensor that lies in a file until it is asked for: what every reader hands to `models.load`.

transformers takes such objects in the place of tensors (it writes `tensor[...]` when it wants the values), so a
model is filled one tensor at a time: memory holds the model and one tensor, whatever the file's format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """One tensor of a checkpoint under its Hugging Face name.

    Args:
        shape: as `values` returns it, outputs first.
        values: reads the tensor: in the file's own float type, or float32 where the file holds codes.
        bias: it is added to what a quantized layer gives. Old AutoGPTQ writes one beside every such layer, of zeros
            where the model has none: those add nothing.
    """

    shape: tuple[int, ...]
    values: Callable[[], Tensor]
    bias: bool = False

    def __getitem__(self, index: EllipsisType) -> Tensor:
        return self.values()
