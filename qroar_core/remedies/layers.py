"""Which layers' K/V cache to keep as it is under a memory budget, measured on development text.

The loss of a cache is the KL, nats a token, to the same model whose whole cache is kept: weights and activations may be
quantized on both sides. A layer's worth is what the loss falls by where that layer alone is kept, or what it rises by
where that layer alone is quantized. Layers are kept in the order of worth per byte (greedy: what several are worth
together is not the sum), and every step of that order is measured, which is the curve. A budget takes the layers in
that order that still fit and are worth anything. Held-out text then judges the choice beside the first and last
layers, none and all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import substituted_weights
from qroar_core.models.text import Texts, Windows, windows
from qroar_core.models.window_losses import measure
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.remedies.layer_findings import judged, layers_by_rule
from qroar_core.remedies.layer_memory import (
    budget_of,
    cache_bytes,
    first_and_last,
    kept_bytes,
    require_budget,
    require_quantized_cache,
    within,
)
from qroar_core.remedies.result_layers import CurvePoint, LayerChoice, LayerWorth, by_gain_per_byte
from qroar_core.setting import Setting
from qroar_core.specs.layers import LayerChoiceSpec


def run(
    loaded: LoadedModel, setting: Setting, spec: LayerChoiceSpec, texts: Texts, on_step: OnStep = no_progress
) -> LayerChoice:
    """Measure every layer and the curve on development text, choose, and judge the choice on held-out text.

    Args:
        setting: `keep_layers` of its quantizers is left out of account.
        texts: documents of "calibration", "development" and "heldout".
    Raises:
        BadSpec: neither K nor V is quantized, or a budget below what the quantized cache takes.
        BadText: too little text. Cancelled: raised by `on_step`.
    """
    length = spec.length or setting.search.length or promised_length(loaded, setting.rope)
    quant = replace(setting.quant, keep_layers=())
    require_quantized_cache(loaded.geometry, quant)
    require_budget(loaded.geometry, quant, length, spec.cache_bytes)
    tokenizer = loaded.tokenizer
    held = windows(tokenizer, texts["heldout"], length, spec.heldout_windows, spec.seed, fewer=spec.fewer, least=2)
    development = windows(tokenizer, texts["development"], length, spec.windows, spec.seed, fewer=True)
    read = windows(tokenizer, texts["calibration"], length, 1, spec.seed, fewer=True)
    with substituted_weights(loaded, {}):  # without scales that a person applied
        condition = calibrated(loaded, Condition(setting.rope, quant), read.ids[:1], spec.chunk)
        passes = _Passes(loaded, condition, development, spec, on_step, 2 * loaded.geometry.n_layers + 4)
        choice = passes.choice()
        asked = layers_by_rule(choice, loaded.geometry)
        known: dict[tuple[int, ...], list[float]] = {}
        for rule, kept in asked.items():
            if tuple(kept) not in known:
                known[tuple(kept)] = passes.heldout(kept, held, rule)
    on_step(Step("layers", 1, 1, "done"))
    found = judged(choice, loaded.geometry, quant, {rule: known[tuple(kept)] for rule, kept in asked.items()})
    said = f"{held.counted_as('held-out')} of {length} tokens, digest {held.digest}, seed {spec.seed}; {choice.text}"
    return found.model_copy(update={"text": f"{said}{held.noted}"})


def choose(
    loaded: LoadedModel,
    condition: Condition,
    development: Windows,
    spec: LayerChoiceSpec,
    on_step: OnStep = no_progress,
) -> LayerChoice:
    """Measure layers and curve on development text and choose; nothing is judged yet.

    Args:
        condition: of which no layer is kept yet, calibrated where its quantizers need that.
    """
    return _Passes(loaded, condition, development, spec, on_step, 2 * loaded.geometry.n_layers).choice()


@dataclass(slots=True, eq=False)
class _Passes:
    """Forward passes over development text, each set of kept layers once."""

    loaded: LoadedModel
    condition: Condition
    development: Windows
    spec: LayerChoiceSpec
    on_step: OnStep
    total: int  # passes, about
    done: int = 0
    known: dict[frozenset[int], tuple[float, float]] = field(default_factory=dict)  # KL and NLL

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.development.ids.shape[1]

    def choice(self) -> LayerChoice:
        """Every layer, the curve, and what the budget takes of it."""
        geo, quant, length = self.loaded.geometry, self.condition.quant, self.length
        layers, more, least = geo.decoder_numbers, kept_bytes(geo, quant, length), cache_bytes(geo, quant, length)
        every = frozenset(layers)
        with ExitStack() as stack:
            states = stack.enter_context(HiddenStateFile(length - 1))
            self.known[every] = 0.0, self._measured(every, "every layer kept", keep=states)[1]
            alone = self.spec.sensitivity == "kept"
            without = self._loss((), states)[0] if alone else 0.0
            worth = []
            for layer in layers:
                loss = self._loss({layer} if alone else every - {layer}, states)[0]
                worth.append(LayerWorth(layer=layer, bytes=more[layer], gain=without - loss if alone else loss))
            order, curve = by_gain_per_byte(worth), []
            for count in range(len(order) + 1):
                kept = order[:count]
                kl, nll = self._loss(kept, states)
                size = least + math.fsum(more[layer] for layer in kept)
                lost = nll - self.known[every][1]
                curve.append(CurvePoint(layers=sorted(kept), bytes=size, kl=kl, lost=lost))
        budget = budget_of(geo, quant, length, self.spec.cache_bytes)
        gains = {one.layer: one.gain for one in worth}
        kept = within([layer for layer in order if gains[layer] > 0], more, budget - least)
        return LayerChoice(
            sensitivity=self.spec.sensitivity,
            layers=worth,
            curve=curve,
            budget=budget,
            kept=kept,
            bytes=least + math.fsum(more[layer] for layer in kept),
            first_last=first_and_last(geo, quant, length, budget),
            length=length,
            confidence=self.spec.confidence,
            text=f"chosen on {self.development.counted_as('development')}, digest {self.development.digest}",
            cache=quant.name,
        )

    def heldout(self, kept: Sequence[int], held: Windows, what: str) -> list[float]:
        """Mean NLL of every held-out window with these layers kept."""
        with self._step(f"held-out text, {what}") as on_step:
            return measure(
                self.loaded, self._keeping(kept), held.ids, self.length - 1, chunk=self.spec.chunk, on_step=on_step
            ).per_window

    def _loss(self, kept: Collection[int], states: HiddenStateFile) -> tuple[float, float]:
        """KL to the model whose every layer is kept, and NLL, nats a token."""
        key = frozenset(kept)
        if key not in self.known:
            self.known[key] = self._measured(key, f"{len(key)} of {self.loaded.geometry.n_layers} kept", against=states)
        return self.known[key]

    def _measured(
        self,
        kept: Collection[int],
        what: str,
        keep: HiddenStateFile | None = None,
        against: HiddenStateFile | None = None,
    ) -> tuple[float, float]:
        with self._step(what) as on_step:
            found = measure(
                self.loaded,
                self._keeping(kept),
                self.development.ids,
                self.length - 1,
                chunk=self.spec.chunk,
                on_step=on_step,
                keep=keep,
                against=against,
            )
        kl = 0.0 if found.apart is None else float(found.apart.kl.double().mean())
        return kl, float(found.nll.double().mean())

    def _keeping(self, kept: Collection[int]) -> Condition:
        return replace(self.condition, quant=replace(self.condition.quant, keep_layers=tuple(kept)))

    @contextmanager
    def _step(self, what: str) -> Iterator[OnStep]:
        """One pass: its own steps run from 0 to 1."""
        yield lambda step: self.on_step(Step("layers", self.done + step.fraction, self.total, what))
        self.done = min(self.done + 1, self.total - 1)
