"""The interpolation chosen on the quantized model, beside the one chosen in full precision.

Two studies look for the interpolation of least NLL on development text at the target length, one with nothing
quantized, one under the setting's quantizers. Both begin with the setting's own interpolation and with every method at
its published numbers, and both try the other's best candidates at their end: neither choice is worse on development
text than what is known, nor than what the other study came upon by luck. Held-out text then judges both choices in both
conditions (docs/method.md section 5).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from qroar_core.errors import BadOutput, BadSpec, Cancelled, NonFinite
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.interpolations.frequencies import native_inv_freq, rope_of
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.patch import substituted_weights
from qroar_core.models.text import Texts, Windows, windows
from qroar_core.progress import OnStep, Step, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.rope_search import findings
from qroar_core.rope_search.result import (
    CHOICES,
    Choice,
    ChosenRope,
    How,
    RopeSearch,
    RopeStudy,
    RopeTrials,
    TriedRope,
)
from qroar_core.rope_search.resume import everything_measured, measured_under, require_same, studies_of
from qroar_core.rope_search.space import Candidate, RopeSpace
from qroar_core.rope_search.study import Proposals
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSearchSpec
from qroar_core.specs.written import written

OnTrials = Callable[[RopeTrials], None]  # takes everything measured by now
JUDGED = 2 * len(CHOICES)  # passes over held-out text at a length, at most: every choice in both conditions


def run(
    loaded: LoadedModel,
    setting: Setting,
    spec: RopeSearchSpec,
    texts: Texts,
    on_step: OnStep = no_progress,
    resume: RopeTrials | None = None,
    on_trials: OnTrials | None = None,
) -> RopeSearch:
    """Search in both conditions, then judge both choices on held-out text.

    Args:
        setting: its interpolation is what the choices are compared with; its factor is what is searched around, its
            length what is read. Pairs that it ties are tied in it alone.
        texts: documents of "development" and "heldout".
        resume: the `partial` of a search that was stopped. What it measured is not measured again, and what comes out
            is what it would have found.
        on_trials: called after every pass over text with everything measured by then, to be kept against a sudden end.
    Raises:
        BadSpec: nothing is quantized, or an interpolation that stretches nothing. BadText: too little text.
        BadOutput: `resume` was measured under another model, setting or text.
        Cancelled: raised by `on_step`; its `partial` is what was tried by then, a `RopeTrials`.
    """
    if setting.quant.is_none:
        raise BadSpec(
            "nothing is quantized, so that both choices are one",
            where="tune-rope",
            do="quantize something, for example by --k int4",
        )
    with loaded.lock, substituted_weights(loaded, {}):  # without scales that a person applied
        return _RopeSearch(loaded, setting, spec, texts, on_step, resume, on_trials).result()


@dataclass(slots=True, eq=False)
class _RopeSearch:
    """One search under way."""

    loaded: LoadedModel
    setting: Setting
    spec: RopeSearchSpec
    texts: Texts
    on_step: OnStep
    resume: RopeTrials | None = None
    on_trials: OnTrials | None = None
    space: RopeSpace = field(init=False)
    length: int = field(init=False)
    development: Windows = field(init=False)
    heldout: Windows = field(init=False)
    short: Windows = field(init=False)
    tried: dict[bool, list[TriedRope]] = field(default_factory=lambda: {False: [], True: []})
    seen: dict[tuple[bool, bytes], float] = field(default_factory=dict)  # NLL of frequencies that were tried
    held: dict[tuple[RopeSpec, bool, bool], list[float]] = field(default_factory=dict)  # NLL by window; short or not
    under: dict[str, str] = field(init=False)  # checksums of what all of it is measured under
    began: float = field(default_factory=time.perf_counter)
    known: list[tuple[How, RopeSpec, Candidate]] = field(init=False)  # what both studies begin with
    done: float = 0.0  # units of progress: passes over the development windows

    def __post_init__(self) -> None:
        asked, loaded = self.setting, self.loaded
        self.length = self.spec.length or asked.search.length or promised_length(loaded, asked.rope)
        self.space = RopeSpace.of(loaded, asked.rope, self.length)
        self.known = list(self.space.known())
        short = min(self.spec.short_length or asked.diagnosis.short_length or self.length, self.length)
        self.development = self._read("development", self.length, self.spec.windows, 1)
        self.heldout = self._read("heldout", self.length, self.spec.heldout_windows, 2)
        self.short = self._read("heldout", short, self.spec.heldout_windows, 2)
        read = {"development": self.development, "held-out": self.heldout, "short held-out": self.short}
        self.under = measured_under(loaded, asked, self.space, self.spec.seed, read)
        if self.resume is not None:
            self._take_up(self.resume)

    def _take_up(self, trials: RopeTrials) -> None:
        """What was measured before, for every place that would measure it again."""
        require_same(trials, self.under)
        for study in trials.studies:
            for tried in study.trials:
                self.seen.setdefault(self._key(tried.spec, study.quantized), tried.nll)
        for one in trials.heldout:
            if len(one.nll) != len(self.short if one.short else self.heldout):
                raise BadOutput("the trials lack held-out windows", where="resume", do="start anew")
            self.held[one.spec, one.quantized, one.short] = one.nll
        self.began -= trials.seconds

    def _read(self, split: str, length: int, count: int, least: int) -> Windows:
        spec, tokenizer = self.spec, self.loaded.tokenizer
        return windows(tokenizer, self.texts[split], length, count, spec.seed, fewer=spec.fewer, least=least)

    def result(self) -> RopeSearch:
        """Both studies, and what held-out text says of their choices."""
        try:
            for quantized in (False, True):
                self._study(quantized)
            for quantized in (False, True):
                self._exchange(quantized)
            studies = studies_of(self.tried)
            full, under = (study.best.spec for study in studies)
            chosen: dict[Choice, RopeSpec] = {"setting": self.setting.rope, "full precision": full, "quantizer": under}
            long, short = (self._judge(chosen, short) for short in (False, True))
        except Cancelled as stop:
            raise Cancelled("rope", self._trials()) from stop
        self.on_step(Step("rope", 1, 1, "done"))
        return self._judged(studies, chosen, long, short, time.perf_counter() - self.began)

    def _keep(self) -> None:
        if self.on_trials is not None:
            self.on_trials(self._trials())

    def _trials(self) -> RopeTrials:
        return everything_measured(
            self.tried, self.held, self.resume, self.under, seconds=time.perf_counter() - self.began
        )

    def _study(self, quantized: bool) -> None:
        """What is known, then what Optuna proposes, in one condition."""
        space, spec = self.space, self.spec
        most = {method: space.most_still(method) for method in space.ranges}
        proposals = Proposals(space.ranges, most, spec.seed)
        if all(self.setting.rope != rope for _, rope, _ in self.known):
            self._try(self.setting.rope, "setting", quantized)
        for how, rope, candidate in self.known:
            own: How = "setting" if rope == self.setting.rope else how
            proposals.add(candidate, self._try(rope, own, quantized))
        while space.ranges and len(self.tried[quantized]) < spec.trials:
            number, candidate = proposals.ask()
            proposals.tell(number, self._try(space.spec(candidate), "proposed", quantized))

    def _exchange(self, quantized: bool) -> None:
        """Try the other study's best here too, so that luck in proposing does not look like a difference."""
        best = sorted(self.tried[not quantized], key=lambda one: one.nll)
        here = {one.spec for one in self.tried[quantized]}
        for spec in list(dict.fromkeys(one.spec for one in best))[: self.spec.exchanged]:
            if spec not in here:
                self._try(spec, "exchanged", quantized)

    def _try(self, rope: RopeSpec, how: How, quantized: bool) -> float:
        """Mean NLL of the development windows, noted; infinite where it leaves the number format."""
        count = f"{len(self.tried[quantized]) + 1} of at most {self._most}"
        what = f"{'under the quantizer' if quantized else 'in full precision'}, {count}: {rope.method}"
        key = self._key(rope, quantized)
        if known := key in self.seen:
            self.done += 1
        else:
            try:
                per_window = self._nll(rope, quantized, self.development, what)
                self.seen[key] = math.fsum(per_window) / len(per_window)
            except NonFinite:
                self.seen[key] = math.inf
        self.tried[quantized].append(TriedRope(rope=written(rope), how=how, nll=self.seen[key]))
        if not known:
            self._keep()
        return self.seen[key]

    def _key(self, rope: RopeSpec, quantized: bool) -> tuple[bool, bytes]:
        """What decides the NLL: two specs of the same frequencies are measured once."""
        found = rope_of(self.loaded, rope, self.length)
        return quantized, torch.cat([found.inv_freq, torch.tensor([found.attention_factor])]).numpy().tobytes()

    def _judge(self, chosen: Mapping[Choice, RopeSpec], short: bool) -> dict[tuple[Choice, bool], list[float]]:
        """NLL of every window by choice and condition; choices that are one are measured once."""
        out: dict[tuple[Choice, bool], list[float]] = {}
        read = self.short if short else self.heldout
        for quantized in (False, True):
            for choice in CHOICES:
                rope = chosen[choice]
                if (rope, quantized, short) in self.held:
                    self.done += self._units(read.ids)
                else:
                    what = f"held-out text at {read.ids.shape[1]} tokens: {rope.method}"
                    self.held[rope, quantized, short] = self._nll(rope, quantized, read, what)
                    self._keep()
                out[choice, quantized] = self.held[rope, quantized, short]
        return out

    def _nll(self, rope: RopeSpec, quantized: bool, read: Windows, what: str) -> list[float]:
        """Mean NLL of every window, all tokens but the first, nats per token."""
        units = self._units(read.ids)
        total = float(2 * self._most)
        total += JUDGED * (self._units(self.heldout.ids) + self._units(self.short.ids))

        def named(step: Step) -> None:
            self.on_step(Step("rope", step.done, step.total, what))

        step = subprogress(named, self.done, self.done + units, total)
        quant = self.setting.quant if quantized else QuantSpec()
        found = WindowScorer(self.loaded, rope, quant, step).nll(read.ids, None, what)
        self.done += units
        return found

    @property
    def _most(self) -> int:
        return self.spec.most_tried(len(self.known))

    def _units(self, ids: Tensor) -> float:
        return ids.numel() / self.development.ids.numel()

    def _judged(
        self,
        studies: list[RopeStudy],
        chosen: Mapping[Choice, RopeSpec],
        long: findings.Means,
        short: findings.Means,
        seconds: float,
    ) -> RopeSearch:
        loaded, held, level = self.loaded, self.heldout, self.spec.confidence
        rows = findings.judged(long, short, level)
        won, by_document = findings.worth(long, True, level), findings.worth_by_document(long, held.documents, level)
        native = self.setting.rope.original_context or loaded.geometry.original_context
        lengths = self.length, self.short.ids.shape[1], native
        return RopeSearch(
            spec=asdict(self.spec),
            quantization=written(self.setting.quant),
            length=self.length,
            short_length=lengths[1],
            native=native,
            windows=len(held),
            short_windows=len(self.short),
            confidence=level,
            text=f"{held.counted_as('held-out')} of {self.length} tokens, digest {held.digest}, seed {self.spec.seed}; "
            f"chosen on {self.development.counted_as('development')}, digest {self.development.digest}{held.noted}"
            f"{replacing(loaded, self.setting.rope)}{what_a_query_reads(self.setting.quant)}",
            documents=held.documents,
            absent=dict(self.space.absent),
            native_inv_freq=native_inv_freq(loaded).tolist(),
            studies=studies,
            chosen=[self._chosen(choice, chosen[choice]) for choice in CHOICES],
            judged=rows,
            worth=won,
            worth_by_document=by_document,
            reverse=findings.worth(long, False, level),
            kept="quantizer" if findings.keeps(rows) else "setting",
            sentences=findings.sentences(chosen, rows, won, by_document, lengths, len(set(held.documents))),
            seconds=seconds,
        )

    def _chosen(self, choice: Choice, rope: RopeSpec) -> ChosenRope:
        found = rope_of(self.loaded, rope, self.length)
        return ChosenRope(
            choice=choice,
            rope=written(rope),
            inv_freq=found.inv_freq.double().tolist(),
            attention_factor=found.attention_factor,
        )
