"""Parameters put into a model and what was there before, so that putting it back is undoing bit for bit.

A parameter that a module may have and has not, as the bias of a linear layer, is made and taken away again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn


def there(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor | None]:
    """What the model has under these names of parameters, not copied; None: no such parameter."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name].data if name in parameters else None for name in names}


def put(model: nn.Module, new: Mapping[str, Tensor | None]) -> None:
    """Put tensors into parameters by name; None: no parameter."""
    parameters = dict(model.named_parameters())
    for name, tensor in new.items():
        if tensor is not None and name in parameters:
            parameters[name].data = tensor
        elif tensor is not None or name in parameters:
            owner, _, leaf = name.rpartition(".")
            made = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
            model.get_submodule(owner).register_parameter(leaf, made)
