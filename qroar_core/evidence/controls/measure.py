"""Controls: what else could the gain of the tuned scales come from? Each possibility on the same held-out windows.

The same scales on the unquantized model (retuning?), the same values in other bands or heads (any spread of scales?),
scales searched on other text or with another seed (luck?), and all of it in other number formats (a poor reference?).
Every interval is paired window by window against the same model without scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from qroar_core.errors import BadScales, BadSpec, NonFinite
from qroar_core.evidence.controls.findings import (
    QUANTIZED,
    REFERENCE,
    TUNED,
    UNQUANTIZED,
    controls_of,
    counted,
    findings,
    precision_of,
)
from qroar_core.evidence.controls.result import Controls, Precision
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.number_format import in_format
from qroar_core.models.own_dtype import DTYPES
from qroar_core.models.own_rope import replacing
from qroar_core.models.stream import Condition
from qroar_core.models.text import Documents, windows
from qroar_core.models.window_losses import measure
from qroar_core.progress import OnStep, Step, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.setting import Setting
from qroar_core.specs import ControlSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales
from qroar_core.transforms.shuffled import shuffled_bands, shuffled_heads

OTHER_SEEDS = "other seeds"  # name of the scales that searches with other seeds found


def measure_controls(
    loaded: LoadedModel,
    setting: Setting,
    scales: Scales,
    spec: ControlSpec,
    documents: Documents,
    on_step: OnStep = no_progress,
    *,
    others: Mapping[str, Sequence[Scales]] | None = None,
) -> Controls:
    """Measure every control.

    Args:
        scales: the tuned ones, found under this setting.
        documents: held-out text.
        others: scales of other searches under the same setting: `OTHER_SEEDS` -> one a seed, or the name of the
            text they were searched on -> one.
    Raises:
        BadText: too little text. BadSpec: nothing is quantized. BadScales: identity, which has nothing to control.
    """
    rope, quant = setting.rope, setting.quant
    if quant.is_none:
        raise BadSpec("nothing is quantized: there is no gain to control", where="controls", do="choose a quantizer")
    if scales.is_identity:
        raise BadScales("the scales are identity: there is no gain to control", where="controls", do="search first")
    length = spec.length or promised_length(loaded, rope)
    texts = windows(loaded.tokenizer, documents, length, spec.windows, spec.seed, fewer=spec.fewer, least=2)
    asked = _conditions(loaded, scales, spec, others or {})
    formats = [DTYPES[name] for name in spec.dtypes if DTYPES[name] != loaded.dtype]
    total = sum(map(len, asked.values())) + 2 + 3 * len(formats)
    scorer = _Scorer(loaded, rope, quant, texts.ids, spec.chunk, on_step, total)
    nll = {name: [scorer.nll(QuantSpec(), one, name) for one in sets] for name, sets in _unquantized(scales).items()}
    nll |= {name: [scorer.nll(quant, one, name) for one in sets] for name, sets in asked.items()}
    controls = controls_of(nll, spec.confidence)
    precisions = []
    if formats:
        precisions.append(precision_of(_word(loaded.dtype), nll, nll[REFERENCE][0], spec.confidence, loaded=True))
    precisions += [_in_format(scorer, name, scales, nll, spec.confidence) for name in formats]
    return Controls(
        spec=asdict(spec),
        mode=scales.mode,
        length=length,
        windows=len(texts),
        confidence=spec.confidence,
        text=f"{texts.counted} of {length} tokens, digest {texts.digest}, seed {spec.seed}{texts.noted}"
        f"{replacing(loaded, rope)}{what_a_query_reads(quant)}",
        controls=controls,
        precisions=precisions,
        findings=findings(controls, precisions, scales.mode, counted(nll, texts.documents, spec.confidence)),
        window_nll=nll,
        documents=texts.documents,
    )


@dataclass(slots=True, eq=False)
class _Scorer:
    """One model, one setting, the held-out windows; counts its passes."""

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    ids: Tensor  # (windows, length)
    chunk: int
    on_step: OnStep
    total: int
    done: int = field(default=0)

    def nll(self, quant: QuantSpec, scales: Scales | None, what: str, loaded: LoadedModel | None = None) -> list[float]:
        """Mean NLL of every window (all tokens but the first), nats per token."""
        loaded = loaded or self.loaded

        def renamed(step: Step) -> None:
            self.on_step(Step("controls", step.done, step.total, what))

        step = subprogress(renamed, self.done, self.done + 1, self.total)
        condition = calibrated(loaded, Condition(self.rope, quant, scales), self.ids[:1], self.chunk)
        seen = measure(loaded, condition, self.ids, self.ids.shape[1] - 1, chunk=self.chunk, what=what, on_step=step)
        self.done += 1
        return seen.per_window


def _unquantized(scales: Scales) -> dict[str, list[Scales | None]]:
    return {REFERENCE: [None], UNQUANTIZED: [scales]}


def _conditions(
    loaded: LoadedModel, scales: Scales, spec: ControlSpec, others: Mapping[str, Sequence[Scales]]
) -> dict[str, list[Scales | None]]:
    """What the quantized model is measured under: condition -> scales of each draw."""
    seeds = [spec.seed + i for i in range(spec.shuffles)]
    asked: dict[str, list[Scales | None]] = {QUANTIZED: [None], TUNED: [scales]}
    asked["shuffled bands"] = [shuffled_bands(scales, seed) for seed in seeds]
    heads = [shuffled_heads(scales, seed, loaded.geometry.without_rope) for seed in seeds]
    if None not in heads:
        asked["shuffled heads"] = heads
    return asked | {name: list(sets) for name, sets in others.items() if sets}


def _in_format(scorer: _Scorer, dtype: torch.dtype, scales: Scales, nll: Mapping, confidence: float) -> Precision:
    """Reference, quantized and tuned in another number format, or why this device cannot."""
    word = _word(dtype)
    try:
        with in_format(scorer.loaded, dtype) as loaded:
            here = {
                REFERENCE: [scorer.nll(QuantSpec(), None, f"reference in {word}", loaded)],
                QUANTIZED: [scorer.nll(scorer.quant, None, f"quantized in {word}", loaded)],
                TUNED: [scorer.nll(scorer.quant, scales, f"tuned in {word}", loaded)],
            }
    except NonFinite:
        return Precision(dtype=word, loaded=False, problem="its numbers overflow: the NLL is not finite")
    except RuntimeError as problem:  # torch names the operation that a device lacks in this format
        if "not implemented for" not in str(problem):
            raise
        return Precision(dtype=word, loaded=False, problem=f"{scorer.loaded.device} does not compute in it")
    return precision_of(word, here, nll[REFERENCE][0], confidence, loaded=False)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
