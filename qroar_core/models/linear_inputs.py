"""What the linears of the decoder layers read on calibration text: the moments that AWQ, GPTQ and SmoothQuant need.

Linears that are handed the same tensor (q, k and v; gate and up) share their inputs, and one set of moments. H of a
wide linear is large, so layers are read in as many passes as memory asks for; every pass is the unquantized model
under the interpolation that will serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import drain, open_stream
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec

HESSIAN_BYTES = 2 << 30  # of all H of one pass


@dataclass(slots=True, eq=False)
class LinearInputs:
    """Moments of the inputs x, (in_features,), that `weights` (names of parameters) are applied to."""

    weights: list[str]
    hessian: Tensor  # sum of x x^T, then its mean; float32, or float64 of a float64 model
    mean_abs: Tensor  # sum of |x|, then its mean
    absmax: Tensor
    tokens: int = 0

    def add(self, x: Tensor) -> None:
        """Take in inputs (..., in_features)."""
        flat = x.detach().flatten(0, -2).to(self.hessian)  # (tokens, in_features)
        self.hessian.addmm_(flat.T, flat)
        size = flat.abs()
        self.mean_abs += size.sum(0)
        self.absmax = torch.maximum(self.absmax, size.amax(0)) if len(flat) else self.absmax
        self.tokens += len(flat)

    def settle(self) -> None:
        """Sums to means."""
        self.hessian /= max(1, self.tokens)
        self.mean_abs /= max(1, self.tokens)


@dataclass(slots=True, eq=False)
class _Listener:
    """Hooks on the linears of some decoder layers."""

    found: dict[str, LinearInputs] = field(default_factory=dict)  # name of a weight -> the inputs it shares
    passing: list[tuple[Tensor, str]] = field(default_factory=list)  # inputs of this layer's pass, and who came first

    def hook(self, name: str) -> Callable[[nn.Module, tuple], None]:
        def hear(module: nn.Module, args: tuple) -> None:
            x = args[0]
            first = next((who for seen, who in self.passing if seen is x), None)
            if first is None:
                self.passing.append((x, name))
                if name not in self.found:
                    self.found[name] = _empty(name, x)
                self.found[name].add(x)
            elif name not in self.found:
                self.found[first].weights.append(name)
                self.found[name] = self.found[first]

        return hear

    def forget(self, module: nn.Module, args: tuple, output: object) -> None:
        """A layer is through: its tensors may go."""
        self.passing.clear()


def linear_inputs(
    loaded: LoadedModel,
    rope: RopeSpec,
    ids: Tensor,
    *,
    chunk: int = 512,
    on_step: OnStep = no_progress,
    memory: int = HESSIAN_BYTES,
) -> Iterator[LinearInputs]:
    """The inputs of all linears of the decoder layers over ids (windows, length), in the order they are met.

    A linear that no token reaches (an expert of a mixture) is not among them.

    Args:
        memory: bytes of H that may be held at once; at least one layer's are.
    """
    for layers in _passes(loaded, memory):
        listener = _Listener()
        hooks = []
        with open_stream(loaded, Condition(rope), ids.shape[1], chunk=chunk) as stream:
            try:
                for layer in layers:
                    hooks.append(layer.register_forward_hook(listener.forget))
                    for name, module in _linears(loaded, layer):
                        hooks.append(module.register_forward_pre_hook(listener.hook(name)))
                for w, window in enumerate(ids):
                    on_step(Step("measure", w, len(ids), "read the inputs of the linear layers"))
                    drain(stream.run(window))
            finally:
                for hook in hooks:
                    hook.remove()
        for inputs in {id(inputs): inputs for inputs in listener.found.values()}.values():
            inputs.settle()
            yield inputs


def _passes(loaded: LoadedModel, memory: int) -> Iterator[list[nn.Module]]:
    """Decoder layers in runs whose Hessians fit."""
    run: list[nn.Module] = []
    held = 0
    for layer in loaded.family.layers(loaded.model):
        need = sum(4 * module.in_features**2 for _, module in _linears(loaded, layer))  # shared ones counted twice
        if run and held + need > memory:
            yield run
            run, held = [], 0
        run.append(layer)
        held += need
    yield run


def _linears(loaded: LoadedModel, layer: nn.Module) -> list[tuple[str, nn.Linear]]:
    """(name of the weight, module) of a layer's linears."""
    names = {id(parameter): name for name, parameter in loaded.model.named_parameters()}
    return [(names[id(m.weight)], m) for m in layer.modules() if isinstance(m, nn.Linear)]


def _empty(name: str, x: Tensor) -> LinearInputs:
    n, dtype = x.shape[-1], torch.promote_types(x.dtype, torch.float32)
    zero = torch.zeros(n, dtype=dtype, device=x.device)
    return LinearInputs([name], torch.zeros(n, n, dtype=dtype, device=x.device), zero, zero.clone())
