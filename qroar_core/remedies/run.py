"""The comparison: what people use already, beside band scales and with band scales on top, in one run.

Same model, same text, same seed. Every remedy that applies to what is quantized is measured on the same held-out
windows; under each that has no scales of its own band scales are searched anew, with the same budget, and measured too;
those that have are also measured with a rotation at run time on top. A remedy is either other quantizers (a rotation,
per-channel K), other ranges for them (clipped, static) or other parameters (AWQ, GPTQ, SmoothAttention, SmoothQuant,
this project's searches), so nothing else has to know it.

Everything is counted from the model without a tie: a tie is part of the remedy whose maps need it, and its cost counts
against that one alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from torch import Tensor

from qroar_core.errors import Cancelled
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.models.applicability import applicability_on
from qroar_core.models.calibrate import calibrated, needs_calibration
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.patch import substituted_weights
from qroar_core.models.shared_losses import SharedLosses
from qroar_core.models.stream import Condition
from qroar_core.models.text import Texts, Windows, windows
from qroar_core.models.window_losses import TokenLosses, measure
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.remedies.applicable import PLAIN, ApplicableRemedy, applicable_remedies, searches, turned_keys
from qroar_core.remedies.findings import MeasuredRemedy, remedy_rows, sentences
from qroar_core.remedies.layer_findings import judged
from qroar_core.remedies.prepare import prepare, why_not
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.remedies.remedy import SEARCH, TURNING
from qroar_core.remedies.result import Comparison, RemedyRow
from qroar_core.remedies.result_layers import LayerChoice, Rule
from qroar_core.result import exp
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import ComparisonSpec, QuantSpec, RopeSpec
from qroar_core.statistics.intervals import mean_interval, paired_interval


def run(
    loaded: LoadedModel,
    setting: Setting,
    spec: ComparisonSpec,
    texts: Texts,
    on_step: OnStep = no_progress,
    *,
    shared: SharedLosses | None = None,
) -> Comparison:
    """Measure every remedy, alone, with band scales, and with angles too where the search asks for them.

    Args:
        texts: documents of "calibration", "development" and "heldout".
        shared: what evaluations before have measured on the same windows is taken from here; rows then have a KL.
    Raises:
        BadText: too little text. BadSpec: nothing is quantized, or a method asked for that does not apply.
        Cancelled: raised by `on_step`; nothing stays changed.
    """
    setting = replace(setting, search=spec.search)
    entered = applicable_remedies(setting.quant, spec.methods, partial(why_not, loaded=loaded, setting=setting))
    try:
        with substituted_weights(loaded, {}):  # without scales that a person applied
            return _Comparison(loaded, setting, spec, texts, on_step, entered, shared).result()
    except Cancelled as stop:
        raise Cancelled("comparison") from stop  # what one search had found is no part of a comparison


@dataclass(slots=True, eq=False)
class _Comparison:
    loaded: LoadedModel
    setting: Setting
    spec: ComparisonSpec
    texts: Texts
    on_step: OnStep
    entered: list[ApplicableRemedy]
    shared: SharedLosses | None
    rope: RopeSpec = field(init=False)  # without a tie
    heldout: Tensor = field(init=False)  # (windows, length)
    calibration: Tensor = field(init=False)
    text: str = field(init=False)
    documents: list[str] = field(init=False)  # of each held-out window
    own: dict[str, Windows] = field(init=False)  # of a remedy that reads a calibration text of its own
    total: float = field(init=False)  # units of progress, at most
    left_out: list[str] = field(default_factory=list)  # sentences about remedies without a row
    done: float = 0.0  # units of progress
    layers: LayerChoice | None = None  # of the remedy that keeps some

    def __post_init__(self) -> None:
        self.rope = replace(self.setting.rope, tie=())
        spec, length, tokenizer = self.spec, self.length, self.loaded.tokenizer
        held = windows(tokenizer, self.texts["heldout"], length, spec.windows, spec.seed, fewer=spec.fewer, least=2)
        read = windows(tokenizer, self.texts["calibration"], length, spec.calibration_windows, spec.seed, fewer=True)
        self.heldout, self.calibration, self.documents = held.ids, read.ids, held.documents
        self.text = (
            f"{held.counted_as('held-out')} of {length} tokens, digest {held.digest}, seed {spec.seed}; "
            f"calibrated on {read.counted} of other documents, digest {read.digest}{held.noted}"
            f"{replacing(self.loaded, self.rope)}{_reads(self.entered)}"
        )
        self.own = {one.method: self.own_text(one) for one in self.entered if one.about.tokens}
        self.total = 1 + sum(self.units(one) for one in self.entered)

    @property
    def length(self) -> int:
        """Tokens per window."""
        return self.spec.search.length or promised_length(self.loaded, self.rope)

    def units(self, one: ApplicableRemedy) -> float:
        """Of making and measuring a remedy, what is on top of it, and its tie unquantized; measuring takes one."""
        tops = (
            0
            if self.no_op(one.quant)
            else sum(self.searching(angles) + 1 for angles in searches(self.spec, one.method))
        )
        return self.making(one) + 1 + tops + (turned_keys(self.entered, one) is not None) + one.about.retunes

    def making(self, one: ApplicableRemedy) -> float:
        """Of making it: its own work, and text of its own to read."""
        own = len(self.own[one.method]) / len(self.heldout) if one.about.tokens else 0
        return one.about.work * self.spec.search.windows / len(self.heldout) + own

    def searching(self, angles: bool) -> float:
        """Of a search of band scales."""
        return (TURNING if angles else SEARCH) * self.spec.search.windows / len(self.heldout)

    def result(self) -> Comparison:
        """Every remedy in turn."""
        reference = self.nll(Condition(self.rope), "reference", plain=True)
        made = [one for remedy in self.entered for one in self.measured(remedy)]
        confidence = self.spec.confidence
        over, gap = mean_interval(reference), paired_interval(made[0].window_nll, reference, confidence)
        rows = remedy_rows(reference, made, confidence)
        layers = self.judged_layers(rows, reference)
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
                *(layers.sentences if layers else ()),
                *self.left_out,
            ],
            length=self.length,
            confidence=confidence,
            text=self.text,
            documents=self.documents,
            untied=True,
            layers=layers,
        )

    def judged_layers(self, rows: list[RemedyRow], reference: list[float]) -> LayerChoice | None:
        """The choice of layers beside the simple rules, on the comparison's own windows."""
        if self.layers is None:
            return None
        quant, by_key = self.setting.quant, {row.key: row.window_nll for row in rows}
        known: dict[Rule, list[float]] = {"none": by_key["plain"], "chosen": by_key["protected_layers"]}
        if "first_last_layers" in by_key:
            known["first_last"] = by_key["first_last_layers"]
        if quant == QuantSpec(k=quant.k, v=quant.v):  # else the reference lacks more than the cache's rounding
            known["all"] = reference
        return judged(self.layers, self.loaded.geometry, quant, known)

    def measured(self, remedy: ApplicableRemedy) -> list[MeasuredRemedy]:
        """One remedy alone, and what goes on top of it where that can act."""
        before, name = self.done, remedy.about.name
        with self.part(self.making(remedy), name) as on_step:
            ready, calibration = self.prepared(remedy, on_step)
        rows = []
        self.layers = ready.layers or self.layers
        if ready.left_out:
            self.left_out.append(f"There is no row for {name}: {ready.left_out}")
        else:
            with substituted_weights(self.loaded, ready.parameters, ready.divide):
                rows = [replace(self.alone(remedy, ready), calibration=calibration), *self.on_top(remedy, ready)]
        if ready.rope is not None and ready.rope.tie:  # maps change nothing in full precision: without them
            tied = self.nll(Condition(ready.rope), f"{name}, nothing quantized")
            rows = [replace(row, tied_reference=tied) for row in rows]
        self.done = before + self.units(remedy)
        return rows

    def prepared(self, remedy: ApplicableRemedy, on_step: OnStep) -> tuple[Prepared, str]:
        """What a remedy puts in place of parameters, and the text that it read where that is its own."""
        ids, said = self.calibration, ""
        if remedy.about.tokens:
            own = self.own[remedy.method]
            ids, read = own.ids, own.ids.numel()
            said = f"{read:,} tokens in windows of {self.length}"
            if read < remedy.about.tokens:
                all_there = ", all that the text holds" if len(own) < own.asked else ""
                said += f"{all_there}; its authors read {remedy.about.tokens:,}"
        tie = self.setting.rope.tie
        given = RemedyInputs(
            *(self.loaded, self.rope, remedy.quant, ids, self.spec.chunk, on_step, self.spec.search, self.texts, tie),
            cache_bytes=self.spec.cache_bytes,
        )
        return prepare(remedy.method, given), said

    def own_text(self, remedy: ApplicableRemedy) -> Windows:
        """As many calibration windows as a remedy's authors read tokens, or as were asked for, or as there are."""
        tokens = self.spec.calibration_tokens or remedy.about.tokens
        count = max(1, -(-tokens // self.length))
        documents = self.texts["calibration"]
        return windows(self.loaded.tokenizer, documents, self.length, count, self.spec.seed, fewer=True)

    def alone(self, remedy: ApplicableRemedy, ready: Prepared) -> MeasuredRemedy:
        """A remedy by itself, on the model as it stands now."""
        condition = Condition(ready.rope or self.rope, ready.quant, static=ready.static, clip=ready.clip)
        losses = self.losses(condition, remedy.about.name, plain=remedy.method == PLAIN)
        on_top = remedy.about.takes_scales and not remedy.about.alone
        no_op = self.no_op(remedy.quant) if on_top else ""
        kept = ready.quant.keep_layers
        kl = None if losses.apart is None else losses.apart.kl.double().mean(1).tolist()
        nll = losses.per_window
        return MeasuredRemedy(remedy.method, nll, no_op=no_op, note=ready.note, kept_layers=kept, window_kl=kl)

    def on_top(self, remedy: ApplicableRemedy, ready: Prepared) -> Iterator[MeasuredRemedy]:
        """Band scales, and angles where asked, searched on the model as it stands now; or a rotation at run time."""
        method, name = remedy.method, remedy.about.name
        turned = turned_keys(self.entered, ApplicableRemedy(method, ready.quant))
        if turned is not None:
            nll = self.nll(Condition(ready.rope or self.rope, turned), f"{name} and a rotation")
            yield MeasuredRemedy(method, nll, turned=True, note=ready.note)
        for angles in () if self.no_op(remedy.quant) else searches(self.spec, method):
            what = f"band scales{' and angles' * angles}"
            with self.part(self.searching(angles), f"{what} under {name}") as on_step:
                setting = Setting(self.rope, ready.quant, search=self.spec.search.without_maps(angles))
                found = find_scales(self.loaded, setting, self.texts, on_step=on_step)
            nll = self.nll(Condition(self.rope, ready.quant, found), f"{name} and {what}")
            yield MeasuredRemedy(method, nll, band_scales=True, angles=angles)

    def nll(self, condition: Condition, what: str, plain: bool = False) -> list[float]:
        """Mean NLL of every held-out window (all tokens but the first), nats per token."""
        return self.losses(condition, what, plain).per_window

    def losses(self, condition: Condition, what: str, plain: bool = False) -> TokenLosses:
        """Losses of every token of the held-out windows but the first of each.

        Args:
            plain: the checkpoint's own parameters, which an evaluation may have measured under this condition.
        """
        if condition.static is None:
            plain = plain and not needs_calibration(condition.quant)  # an evaluation reads other text for ranges
            condition = calibrated(self.loaded, condition, self.calibration[:1], self.spec.chunk)
        chunk, targets = self.spec.chunk, self.length - 1
        with self.part(1, what, inner=True) as on_step:
            if self.shared is None:
                return measure(self.loaded, condition, self.heldout, targets, chunk=chunk, on_step=on_step)
            windows = self.shared.on(self.loaded, self.rope, self.heldout, targets, chunk)
            return (windows.losses if plain else windows.of_this_model)(condition, what, on_step)

    @contextmanager
    def part(self, units: float, name: str, inner: bool = False) -> Iterator[OnStep]:
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


def _reads(entered: list[ApplicableRemedy]) -> str:
    """What a query reads under the quantizers asked for, and under those of remedies that put others in their place."""
    plain = what_a_query_reads(entered[0].quant)
    others = {one.about.name: what_a_query_reads(one.quant) for one in entered[1:]}
    return plain + "".join(
        said.replace("; the", f"; under {name} the", 1) for name, said in others.items() if said != plain
    )
