"""What a remedy puts in place of the checkpoint's parameters, made from calibration text.

A scale s on input channels goes into W's columns, and the inputs are divided by it; a real checkpoint has 1/s inside
the norm or linear before. So only linears are scaled whose inputs such a neighbour can take it for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qroar_core.maths.awq import awq_search
from qroar_core.maths.gptq import gptq
from qroar_core.maths.rescale import Scales, pooled
from qroar_core.maths.smoothquant import smoothquant
from qroar_core.maths.statistics_scales import smooth_attention
from qroar_core.models.key_range import key_absmax
from qroar_core.models.linear_inputs import LinearInputs, linear_inputs
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import quantized_parameters, scaled_parameters
from qroar_core.progress import OnStep, Step
from qroar_core.specs import Method, QuantSpec, RopeSpec, WeightQuantSpec


@dataclass(frozen=True, slots=True, eq=False)
class Readied:
    """The quantizers to run under, and what stands in for the checkpoint's parameters (models.patch.standing_in)."""

    quant: QuantSpec
    parameters: dict[str, Tensor] = field(default_factory=dict)
    divide: dict[str, Tensor] = field(default_factory=dict)  # name of a linear's weight -> what divides its inputs


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """The model without anybody's scales, its setting, and calibration windows (count, length)."""

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    ids: Tensor
    chunk: int
    on_step: OnStep

    @property
    def weights(self) -> WeightQuantSpec:
        """The weight quantizer, for remedies that only apply where there is one."""
        assert self.quant.weights is not None
        return self.quant.weights

    def inputs(self, what: str) -> Iterator[tuple[LinearInputs, dict[str, Tensor], Tensor]]:
        """Inputs of linears, the weights that read them by name, and those stacked by rows."""
        parameters = dict(self.loaded.model.named_parameters())
        for inputs in linear_inputs(self.loaded, self.rope, self.ids, chunk=self.chunk, on_step=self.on_step):
            self.on_step(Step("measure", 1, 1, f"{what} {inputs.weights[0].removesuffix('.weight')}"))
            own = {name: parameters[name].data for name in inputs.weights}
            yield inputs, own, torch.cat(list(own.values()))

    def outputs(self) -> set[str]:
        """Weights of the attention's output projections."""
        geo, family = self.loaded.geometry, self.loaded.family
        return {family.output_projection(geo.decoder_layer(layer)) for layer in range(geo.n_layers)}


def readied(method: Method, bench: Bench) -> Readied:
    """Make what `method` needs. The model stays as it is."""
    make = MAKERS.get(method)
    return Readied(bench.quant) if make is None else make(bench)


def _smooth_attention(bench: Bench) -> Readied:
    """One scale a RoPE pair, from the range of K's two channels of it."""
    loaded, geo = bench.loaded, bench.loaded.geometry
    pairs = tuple((pair, pair) for pair in range(geo.n_pairs))
    pair_of = geo.channel_band(pairs)
    absmax = key_absmax(loaded, bench.rope, bench.ids, chunk=bench.chunk, on_step=bench.on_step)
    reach = torch.stack([absmax[..., pair_of == pair].amax(-1) for pair in range(geo.n_pairs)], -1)
    log2_g = pooled(smooth_attention(reach).log2(), geo.finest)  # (layers, n_kv_heads, pairs)
    scales = Scales("symmetric", geo.finest, pairs, log2_g.exp2().contiguous())
    return Readied(bench.quant, scaled_parameters(loaded, scales))


def _gptq(bench: Bench) -> Readied:
    """Every linear rounded by GPTQ; what no calibration token reaches, and stacked experts, to nearest."""
    new = quantized_parameters(bench.loaded, bench.weights, {})
    for inputs, own, stacked in bench.inputs("GPTQ:"):
        rounded = gptq(stacked, inputs.hessian, bench.weights)
        new |= dict(zip(own, rounded.split([len(w) for w in own.values()]), strict=True))
    return Readied(replace(bench.quant, weights=None), new)


def _awq(bench: Bench) -> Readied:
    """Scaled weights, to be rounded to nearest. W_O stays where V has fewer heads: W_V cannot take its 1/s."""
    geo, made = bench.loaded.geometry, Readied(bench.quant)
    left = bench.outputs() if geo.n_kv_heads != geo.n_heads else set()
    for inputs, own, stacked in bench.inputs("AWQ:"):
        if left.isdisjoint(own):
            _scaled(made, own, awq_search(stacked, inputs.mean_abs, inputs.hessian, bench.weights)[0])
    return made


def _smoothquant(bench: Bench) -> Readied:
    """Linears that read the normed residual stream are smoothed, as in the paper's code; W_O and W_down are not."""
    geo, outputs, made = bench.loaded.geometry, bench.outputs(), Readied(bench.quant)
    for inputs, own, stacked in bench.inputs("SmoothQuant:"):
        if len(inputs.absmax) == geo.hidden_size and outputs.isdisjoint(own):
            _scaled(made, own, smoothquant(inputs.absmax, stacked))
    return made


def _scaled(made: Readied, own: dict[str, Tensor], s: Tensor) -> None:
    for name, w in own.items():
        made.parameters[name] = (w.to(s) * s).to(w.dtype)
        made.divide[name] = s


MAKERS: dict[Method, Callable[[Bench], Readied]] = {
    "smooth_attention": _smooth_attention,
    "awq": _awq,
    "gptq": _gptq,
    "smoothquant": _smoothquant,
}
