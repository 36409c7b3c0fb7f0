"""Which layers to keep from quantization, what each is worth, and how the choice does on held-out text."""

from __future__ import annotations

from typing import Annotated, Literal

from qroar_core.quantizers.layer_flags import layer_flags
from qroar_core.result import Result
from qroar_core.result_shapes import ANY, axes
from qroar_core.specs.labels import kept_words
from qroar_core.specs.layers import Sensitivity

Rule = Literal["none", "chosen", "first_last", "all"]
RULES: dict[Rule, str] = {
    "none": "no layer kept",
    "chosen": "chosen layers kept",
    "first_last": "first and last layers kept",
    "all": "every layer kept",
}
FEWER = ("first and last layers: none fits", "first layer kept")  # of `first_last`, by how many fit
Layers = Annotated[list[int], axes(ANY)]


class LayerWorth(Result):
    """One layer. `layer`: its number among all of the decoder's; `bytes`: what its cache takes more a token when it is
    kept; `gain`: nats a token of KL to the model whose whole cache is kept, see LayerChoice.sensitivity."""

    layer: int
    bytes: float
    gain: float


class CurvePoint(Result):
    """The cache with some layers kept, on development text. `bytes` a token of the whole cache; `kl` to the model whose
    whole cache is kept, and `lost`: NLL minus that model's, nats a token."""

    layers: Layers
    bytes: float
    kl: float
    lost: float


class JudgedRule(Result):
    """A rule on held-out text. `lost`: NLL minus that with every layer kept, None where that was not measured; `gain`:
    NLL with no layer kept minus this one's. Nats a token, intervals paired over windows."""

    rule: Rule
    layers: Layers
    bytes: float
    nll: float
    lost: float | None = None
    lost_low: float | None = None
    lost_high: float | None = None
    gain: float | None = None  # None of `none` itself
    gain_low: float | None = None
    gain_high: float | None = None
    window_nll: Annotated[list[float], axes("window")]

    @property
    def name(self) -> str:
        """The rule in words; the simple one by the layers for which the budget has room."""
        if self.rule == "first_last" and len(self.layers) < len(FEWER):
            return FEWER[len(self.layers)]
        return RULES[self.rule]


class LayerChoice(Result):
    """Layers kept under a budget. `curve` has one point a layer more, in the order of gain per byte.

    Bytes are of a token over all layers, a kept number in 16 bits; layers that see a short window only hold its tokens,
    which counts as that share of the context.
    """

    sensitivity: Sensitivity
    layers: Annotated[list[LayerWorth], axes("layer")]  # as the model has them
    curve: Annotated[list[CurvePoint], axes(ANY)]
    budget: float  # bytes a token
    kept: Layers
    bytes: float  # of the cache with these kept
    first_last: Layers  # the simple rule under the same budget
    rules: Annotated[list[JudgedRule], axes(ANY)] = []  # empty until it is judged on held-out text
    sentences: Annotated[list[str], axes(ANY)] = []
    length: int
    confidence: float
    text: str
    cache: str = ""  # the preset's name, where the cache is one

    @property
    def order(self) -> list[int]:
        """Layers by gain per byte, the best first."""
        return by_gain_per_byte(self.layers)

    @property
    def words(self) -> str:
        """What is kept, and what that takes."""
        what = kept_words(self.kept, len(self.layers))
        return f"{what}, {self.bytes:,.0f} of at most {self.budget:,.0f} bytes a token"

    @property
    def least_more(self) -> float:
        """What the cheapest layer takes more, bytes a token, where it is kept."""
        return min(one.bytes for one in self.layers)

    @property
    def flags(self) -> list[str]:
        """How runtimes are told, a sentence or a command each."""
        return layer_flags(self.kept, self.cache)


def by_gain_per_byte(layers: list[LayerWorth]) -> list[int]:
    """Numbers of layers, the largest gain per byte first; the earlier layer of equal ones."""
    return [one.layer for one in sorted(layers, key=lambda one: (-one.gain / one.bytes, one.layer))]
