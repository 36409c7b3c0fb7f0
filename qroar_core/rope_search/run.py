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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from qroar_core.errors import BadSpec, Cancelled, NonFinite
from qroar_core.interpolations.frequencies import native_inv_freq, rope_of
from qroar_core.interpolations.own import promised_length
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
from qroar_core.rope_search.space import Candidate, RopeSpace
from qroar_core.rope_search.study import Proposals
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSearchSpec
from qroar_core.specs.written import written


def run(
    loaded: LoadedModel, setting: Setting, spec: RopeSearchSpec, texts: Texts, on_step: OnStep = no_progress
) -> RopeSearch:
    """Search in both conditions, then judge both choices on held-out text.

    Args:
        setting: its interpolation is what the choices are compared with; its factor is what is searched around, its
            length what is read. Pairs that it ties are tied in it alone.
        texts: documents of "development" and "heldout".
    Raises:
        BadSpec: nothing is quantized, or an interpolation that stretches nothing. BadText: too little text.
        Cancelled: raised by `on_step`; its `partial` is what was tried by then, a `RopeTrials`.
    """
    if setting.quant.is_none:
        raise BadSpec(
            "nothing is quantized, so that both choices are one",
            where="tune-rope",
            do="quantize something, for example by --k int4",
        )
    with loaded.lock, substituted_weights(loaded, {}):  # without scales that a person applied
        return _RopeSearch(loaded, setting, spec, texts, on_step).result()


@dataclass(slots=True, eq=False)
class _RopeSearch:
    """One search under way."""

    loaded: LoadedModel
    setting: Setting
    spec: RopeSearchSpec
    texts: Texts
    on_step: OnStep
    space: RopeSpace = field(init=False)
    length: int = field(init=False)
    development: Windows = field(init=False)
    heldout: Windows = field(init=False)
    short: Windows = field(init=False)
    tried: dict[bool, list[TriedRope]] = field(default_factory=lambda: {False: [], True: []})
    seen: dict[tuple[bool, bytes], float] = field(default_factory=dict)  # NLL of frequencies that were tried
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

    def _read(self, split: str, length: int, count: int, least: int) -> Windows:
        spec, tokenizer = self.spec, self.loaded.tokenizer
        return windows(tokenizer, self.texts[split], length, count, spec.seed, fewer=spec.fewer, least=least)

    def result(self) -> RopeSearch:
        """Both studies, and what held-out text says of their choices."""
        began = time.perf_counter()
        try:
            for quantized in (False, True):
                self._study(quantized)
            for quantized in (False, True):
                self._exchange(quantized)
        except Cancelled as stop:
            raise Cancelled("rope", RopeTrials(studies=self._studies())) from stop
        studies = self._studies()
        full, under = (study.best.spec for study in studies)
        chosen: dict[Choice, RopeSpec] = {"setting": self.setting.rope, "full precision": full, "quantizer": under}
        try:
            long, short = (self._judge(chosen, read) for read in (self.heldout, self.short))
        except Cancelled as stop:
            raise Cancelled("rope", RopeTrials(studies=studies)) from stop
        self.on_step(Step("rope", 1, 1, "done"))
        return self._judged(studies, chosen, long, short, time.perf_counter() - began)

    def _studies(self) -> list[RopeStudy]:
        return [RopeStudy(quantized=quantized, trials=trials) for quantized, trials in self.tried.items() if trials]

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
        found = rope_of(self.loaded, rope, self.length)
        key = quantized, torch.cat([found.inv_freq, torch.tensor([found.attention_factor])]).numpy().tobytes()
        if key not in self.seen:
            try:
                per_window = self._nll(rope, quantized, self.development, what)
                self.seen[key] = math.fsum(per_window) / len(per_window)
            except NonFinite:
                self.seen[key] = math.inf
        self.tried[quantized].append(TriedRope(rope=written(rope), how=how, nll=self.seen[key]))
        return self.seen[key]

    def _judge(self, chosen: Mapping[Choice, RopeSpec], read: Windows) -> dict[tuple[Choice, bool], list[float]]:
        """NLL of every window by choice and condition; choices that are one are measured once."""
        out: dict[tuple[Choice, bool], list[float]] = {}
        for quantized in (False, True):
            measured: dict[RopeSpec, list[float]] = {}
            for choice in CHOICES:
                rope = chosen[choice]
                if rope not in measured:
                    what = f"held-out text at {read.ids.shape[1]} tokens: {rope.method}"
                    measured[rope] = self._nll(rope, quantized, read, what)
                out[choice, quantized] = measured[rope]
        return out

    def _nll(self, rope: RopeSpec, quantized: bool, read: Windows, what: str) -> list[float]:
        """Mean NLL of every window, all tokens but the first, nats per token."""
        units = self._units(read.ids)
        total = float(2 * self._most)
        total += 6 * (self._units(self.heldout.ids) + self._units(self.short.ids))

        def named(step: Step) -> None:
            self.on_step(Step("rope", step.done, step.total, what))

        step = subprogress(named, self.done, self.done + units, total)
        quant = self.setting.quant if quantized else QuantSpec()
        found = WindowScorer(self.loaded, rope, quant, step).nll(read.ids, None, what)
        self.done += units
        return found

    @property
    def _most(self) -> int:
        """Interpolations that a study may try: known ones go first, however few are asked for."""
        return max(self.spec.trials, 1 + len(self.known)) + self.spec.exchanged

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
