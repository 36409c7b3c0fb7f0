"""The comparison: what people use already, beside band scales and with band scales on top, in one run.

Same model, same text, same seed. Every remedy that applies to what is quantized is measured on the same held-out
windows; under each of them band scales are searched anew, with the same budget, and measured too. A remedy is
either other quantizers (a rotation, per-channel K) or other parameters (AWQ, GPTQ, SmoothAttention, SmoothQuant),
so nothing else has to know it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from qroar_core.errors import Cancelled
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.interpolations.own import promised_length
from qroar_core.interpolations.tie import COUNTED
from qroar_core.models.applicability import applicability_on
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.measure import measure
from qroar_core.models.own_rope import replacing
from qroar_core.models.patch import substituted_weights
from qroar_core.models.stream import Condition
from qroar_core.models.text import Texts, windows
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.remedies.applicable import Applied, applicable_remedies, searches
from qroar_core.remedies.findings import Measured, remedy_rows, sentences
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.prepare import prepare
from qroar_core.remedies.prepared import RemedyInputs
from qroar_core.remedies.result import Comparison
from qroar_core.result import exp
from qroar_core.scale_search.find_scales import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import ComparisonSpec, QuantSpec, RopeSpec
from qroar_core.specs.labels import capital
from qroar_core.statistics.intervals import mean_interval, paired_interval

SEARCH_UNITS, READY_UNITS = 3, 2  # of progress; measuring a condition is one


def run(
    loaded: LoadedModel,
    setting: Setting,
    spec: ComparisonSpec,
    texts: Texts,
    on_step: OnStep = no_progress,
) -> Comparison:
    """Measure every remedy, alone, with band scales, and with angles too where the search asks for them.

    Args:
        texts: documents of "calibration", "development" and "heldout".
    Raises:
        BadText: too little text. BadSpec: nothing is quantized, or a method asked for that does not apply.
        Cancelled: raised by `on_step`; nothing stays changed.
    """
    entered = applicable_remedies(setting.quant, spec.methods)
    try:
        with substituted_weights(loaded, {}):  # without scales that a person applied
            return _Comparison(loaded, setting.rope, spec, texts, on_step, entered).result()
    except Cancelled as stop:
        raise Cancelled("comparison") from stop  # what one search had found is no part of a comparison


@dataclass(slots=True, eq=False)
class _Comparison:
    loaded: LoadedModel
    rope: RopeSpec
    spec: ComparisonSpec
    texts: Texts
    on_step: OnStep
    entered: list[Applied]
    heldout: Tensor = field(init=False)  # (windows, length)
    calibration: Tensor = field(init=False)
    text: str = field(init=False)
    documents: list[str] = field(init=False)  # of each held-out window
    done: int = 0  # units of progress

    def __post_init__(self) -> None:
        spec, length, tokenizer = self.spec, self.length, self.loaded.tokenizer
        held = windows(tokenizer, self.texts["heldout"], length, spec.windows, spec.seed, fewer=spec.fewer, least=2)
        read = windows(tokenizer, self.texts["calibration"], length, spec.calibration_windows, spec.seed, fewer=True)
        self.heldout, self.calibration, self.documents = held.ids, read.ids, held.documents
        self.text = (
            f"{held.counted_as('held-out')} of {length} tokens, digest {held.digest}, seed {spec.seed}; "
            f"calibrated on {read.counted} of other documents, digest {read.digest}{held.noted}"
            f"{replacing(self.loaded, self.rope)}{_reads(self.entered)}"
        )

    @property
    def length(self) -> int:
        """Tokens per window."""
        return self.spec.search.length or promised_length(self.loaded, self.rope)

    @property
    def total(self) -> int:
        """Units of progress, at most."""
        tops = sum(len(searches(self.spec, one.method)) for one in self.entered)
        return 1 + len(self.entered) * (READY_UNITS + 1) + tops * (SEARCH_UNITS + 1)

    def result(self) -> Comparison:
        """Every remedy in turn."""
        reference = self.nll(Condition(self.rope), "reference")
        made = [one for remedy in self.entered for one in self.both(remedy)]
        confidence = self.spec.confidence
        over, gap = mean_interval(reference), paired_interval(made[0].window_nll, reference, confidence)
        rows = remedy_rows(reference, made, confidence)
        self.on_step(Step("comparison", self.total, self.total, "done"))
        return Comparison(
            reference_nll=over.mean,
            reference_ppl=exp(over.mean),
            reference_window_nll=reference,
            gap=gap.mean,
            gap_low=gap.low,
            gap_high=gap.high,
            rows=rows,
            sentences=[
                *sentences(reference, rows, self.length, confidence, self.documents),
                *([capital(COUNTED)] if self.rope.tie else ()),
            ],
            length=self.length,
            confidence=confidence,
            text=self.text,
            documents=self.documents,
        )

    def both(self, remedy: Applied) -> list[Measured]:
        """One remedy alone, and with band scales searched under it where those can act."""
        method, name, no_op = remedy.method, BY_NAME[remedy.method].name, self.no_op(remedy.quant)
        with self.part(READY_UNITS, name) as on_step:
            given = RemedyInputs(self.loaded, self.rope, remedy.quant, self.calibration, self.spec.chunk, on_step)
            ready = prepare(method, given)
        with substituted_weights(self.loaded, ready.parameters, ready.divide):
            alone = Measured(method, self.nll(Condition(self.rope, ready.quant), name), no_op=no_op)
            if no_op or not self.spec.band_scales:
                return [alone]
            return [alone, *(self.on_top(method, ready.quant, angles) for angles in searches(self.spec, method))]

    def on_top(self, method: str, quant: QuantSpec, angles: bool) -> Measured:
        """Band scales, and angles where asked, searched on the model as it stands now."""
        name, what = BY_NAME[method].name, f"band scales{' and angles' * angles}"
        with self.part(SEARCH_UNITS, f"{what} under {name}") as on_step:
            search = self.spec.search.without_maps(angles)
            found = find_scales(self.loaded, Setting(self.rope, quant, search=search), self.texts, on_step=on_step)
        nll = self.nll(Condition(self.rope, quant, found), f"{name} and {what}")
        return Measured(method, nll, band_scales=True, angles=angles)

    def nll(self, condition: Condition, what: str) -> list[float]:
        """Mean NLL of every held-out window (all tokens but the first), nats per token."""
        condition = calibrated(self.loaded, condition, self.calibration[:1], self.spec.chunk)
        with self.part(1, what, inner=True) as on_step:
            return measure(
                self.loaded, condition, self.heldout, self.length - 1, chunk=self.spec.chunk, on_step=on_step
            ).per_window

    @contextmanager
    def part(self, units: int, name: str, inner: bool = False) -> Iterator[OnStep]:
        """Steps of a part of the whole; only where `inner` do its own steps run once from 0 to 1."""

        def say(step: Step) -> None:
            done = self.done + units * step.fraction if inner else self.done
            self.on_step(Step("comparison", done, self.total, ": ".join(filter(None, (name, step.what)))))

        yield say
        self.done += units

    def no_op(self, quant: QuantSpec) -> str:
        """Why band scales cannot act under these quantizers; empty where they can."""
        search = self.spec.search
        bands = bands_of(self.loaded, search.bands)
        found = applicability_on(self.loaded.geometry, quant, search.mode, bands, length=self.length)
        return found.reason if found.acts == "no" else ""


def _reads(entered: list[Applied]) -> str:
    """What a query reads under the quantizers asked for, and under those of remedies that put others in their place."""
    plain = what_a_query_reads(entered[0].quant)
    others = {BY_NAME[one.method].name: what_a_query_reads(one.quant) for one in entered[1:]}
    return plain + "".join(
        said.replace("; the", f"; under {name} the", 1) for name, said in others.items() if said != plain
    )
