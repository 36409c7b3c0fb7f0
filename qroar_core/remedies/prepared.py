"""What a remedy is given, and what it puts in place of the checkpoint's parameters, made from calibration text.

A scale s on input channels goes into W's columns, and the inputs are divided by it; a real checkpoint has 1/s inside
the norm or linear before. So only linears are scaled whose inputs such a neighbour can take it for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.interpolations.tie import Tie
from qroar_core.models.condition import ClipRatios, StaticRange
from qroar_core.models.linear_inputs import LinearInputs, linear_inputs
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, Step
from qroar_core.remedies.result_layers import LayerChoice
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The quantizers to run under, and what replaces the checkpoint's parameters (models.patch.substituted_weights).

    Args:
        static: ranges in place of those that the comparison calibrates for scales per tensor.
        clip: the share of its range that each head's quantizer keeps.
        rope: the interpolation to run under in place of the comparison's; None: that one.
        note: what was chosen, in words.
        layers: how the layers were chosen that the quantizers leave out.
        left_out: why there is nothing to measure; empty where there is.
    """

    quant: QuantSpec
    parameters: dict[str, Tensor] = field(default_factory=dict)
    divide: dict[str, Tensor] = field(default_factory=dict)  # name of a linear's weight -> what divides its inputs
    static: StaticRange | None = None
    clip: ClipRatios = ClipRatios()
    rope: RopeSpec | None = None
    note: str = ""
    layers: LayerChoice | None = None
    left_out: str = ""

    def scale_inputs(self, own: dict[str, Tensor], s: Tensor) -> None:
        """Put s on the input channels of these weights, and have their inputs divided by it."""
        for name, w in own.items():
            self.parameters[name] = (w.to(s) * s).to(w.dtype)
            self.divide[name] = s


@dataclass(frozen=True, slots=True, eq=False)
class RemedyInputs:
    """The model without anybody's scales, its setting, and calibration windows (count, length).

    Args:
        search: budget, length and objective of a search that a remedy makes of its own, on `texts`.
        tie: of the setting; `rope` has none.
        cache_bytes: the most that a cache with some layers kept may take, bytes a token; None: nobody said.
    """

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    ids: Tensor
    chunk: int
    on_step: OnStep
    search: SearchSpec = SearchSpec()
    texts: Texts = field(default_factory=dict)
    tie: tuple[Tie, ...] = ()
    cache_bytes: float | None = None

    def searched(self, rope: RopeSpec, search: SearchSpec) -> Scales:
        """What a search under this interpolation finds, guarded; identity where it finds nothing better."""
        return find_scales(self.loaded, Setting(rope, self.quant, search=search), self.texts, on_step=self.on_step)

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
