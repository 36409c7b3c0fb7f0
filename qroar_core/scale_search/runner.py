"""One search, step by step: bounds, text, candidates, guard, decision; and the outcome of a cancelled one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import Cancelled
from qroar_core.models.capture import Capture
from qroar_core.models.own_rope import replacing
from qroar_core.models.score import forward_seconds
from qroar_core.models.text import Windows
from qroar_core.progress import OnStep, Step
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.scale_search import messages
from qroar_core.scale_search.distributed import tries_of
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.guard import WindowScorer, guarded
from qroar_core.scale_search.objective import FIRST, Refinement
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.polish import FoundPolish, find_polish
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result import HistoryPoint, SearchReport
from qroar_core.scale_search.result_ties import PolishReport
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.scale_search.search_objectives import objectives, require_gradient
from qroar_core.scale_search.starts import starts
from qroar_core.scale_search.state import AdamState, SearchState
from qroar_core.scale_search.tie_cost import polish_report
from qroar_core.scale_search.validation import TooLittleText, decide
from qroar_core.scale_search.value_search import FoundValueMaps, find_value_maps
from qroar_core.statistics.intervals import NO_GAIN
from qroar_core.transforms.scales import Scales

GUARD_WINDOWS = 4
CANCELLED = "cancelled before its gain was measured on development text"


class SearchRunner:
    """One search under way."""

    def __init__(
        self, problem: SearchProblem, on_step: OnStep, resume: SearchOutcome | None, storage: Path | None = None
    ) -> None:
        require_gradient(problem.spec)
        self.problem, self.spec, self.on_step, self.resume, self.storage = (
            problem,
            problem.spec,
            on_step,
            resume,
            storage,
        )
        self.history: list[HistoryPoint] = list(resume.report.history) if resume else []
        self.spent = resume.report.seconds if resume else 0.0
        self.scorer = WindowScorer(problem.loaded, problem.rope, problem.quant, on_step)
        self.descent: SearchState | None = None
        self.refinement: Refinement | None = None
        self.starts: dict[str, Tensor] = {}
        self.values: FoundValueMaps | None = None
        self.polish: FoundPolish | None = None
        self.tie_costs: PolishReport | None = None
        self.began = self.idle = 0.0
        self.windows = self.bounds = self.limits = torch.empty(0)
        self.read = Windows(self.windows, ())

    def outcome(self, diagnosis: Diagnosis | None) -> SearchOutcome:
        problem = self.problem
        if not self.begin(diagnosis):
            report = messages.untouched(problem, self.bounds)
            return SearchOutcome(problem.none, problem.none, problem.none, problem.none, report)
        self.idle = self.bare()
        self.began = time.perf_counter()
        try:
            value, point = self.descend(self.captured())
            self.spent += time.perf_counter() - self.began
            self.began = 0.0
            before, after = value(torch.zeros_like(point)), value(point)
            searched = self.scales_at(point)
            if (polish := self.polish) is not None:
                self.tie_costs = polish_report(problem, polish.polish, polish.error_left, self.on_step)
            found, guard = self.guard(searched)
            if not torch.equal(found.point, searched.point):
                after = value(found.point.float())
            kept, reason, decision = self.decide(found)
        except Cancelled as stop:
            raise Cancelled(stop.where, partial=self.partial()) from stop
        idle = (self.idle + self.bare()) / 2
        report = self.report(before, after, guard, "identity" if kept.is_identity else "found", reason, idle)
        report = report.model_copy(update={"decision": decision})
        return self.with_baselines(found, kept, report)

    def bare(self) -> float:
        """Seconds of one window's bare forward pass: what the search's cost is counted in."""
        return forward_seconds(self.problem.loaded, self.windows[:1])

    def begin(self, diagnosis: Diagnosis | None) -> bool:
        """Bounds and text; False where scales cannot act."""
        problem, spec = self.problem, self.spec
        self.bounds = problem.bounds(diagnosis)
        if problem.verdict.acts == "no":
            return False
        self.limits = problem.limits(self.bounds)
        objectives()[spec.objective].require_seen(problem)
        self.read = problem.calibration()
        self.windows = self.read.ids
        self.tries = tries_of(self.storage, problem, self.bounds, self.on_step)
        return True

    def captured(self) -> Capture:
        """q, k and v of the calibration text, and where to start from."""
        if self.spec.polish:
            known = None if self.resume is None else self.resume.found.polish
            self.polish = find_polish(self.problem, self.windows, self.on_step, known)
            taken = self.polish.taken
        else:
            taken = self.problem.captured(self.windows, self.on_step)
        self.starts = starts(self.problem, taken)
        if self.spec.value_maps and self.problem.quant.v is not None:
            self.values = find_value_maps(taken, self.problem.quant.v, self.on_step, self.problem.kept)
        return taken

    def scales_at(self, point: Tensor) -> Scales:
        """What was found: the point of the search, and value maps and a polish where they are searched."""
        scales = self.problem.scales(point)
        values, polish = self.values, self.polish
        maps = None if values is None else values.maps
        return replace(scales, value_maps=maps, polish=None if polish is None else polish.polish)

    def descend(self, taken: Capture) -> tuple[Callable[[Tensor], float], Tensor]:
        """The objective that decides, and the point found under it, as `SearchProblem.parts` reads it."""
        problem, resume = self.problem, self.resume
        base = self.starts["identity"]
        before = resume.found.point.float() if resume else None
        in_refinement = resume is not None and resume.report.objective != FIRST
        value: Callable[[Tensor], float] = lambda x: 1.0  # noqa: E731 (replaced wherever there is an objective)
        if not problem.weights_only and problem.of_scales.acts != "no":
            objective = problem.objective(taken)
            objective.pull = problem.pull
            value = objective.value
            if not in_refinement:
                state = replace(resume.state) if resume and resume.state else None
                past = tuple(self.history)
                self.descent = SearchState(
                    objective, self.limits, self.spec, self.note, past, before, state, self.tries(FIRST)
                )
                begin = {name: x for name, x in self.starts.items() if name != "mad"}  # a baseline, never a good start
                search_methods()[self.spec.method].descend(self.descent, begin)
                base = self.descent.best
        refine = objectives()[self.spec.objective].refine
        if refine is not None:
            state = replace(resume.state) if in_refinement and resume and resume.state else None
            self.refinement = refine(problem, self.limits, self.note, state, self.tries(self.spec.objective))
            past = tuple(self.history) if in_refinement else ()
            self.history = list(past)
            base = before if in_refinement and before is not None else base
            return self.refinement.value, self.refinement.run(base, past)
        return value, base

    def note(self, step: int, label: str, value: float, best: float | None = None) -> None:
        """Keep a candidate and show it; may raise Cancelled. Without `best` the value is of a few rows only."""
        if best is None:
            best = self.history[-1].best if self.history else value
        candidate = HistoryPoint(step=step, label=label, objective=value, best=best)
        self.history.append(candidate)
        total = messages.total(self.spec, len(self.problem.bands), self.refinement)
        self.on_step(Step("search", min(step, total), total, label, candidate))

    def guard(self, found: Scales) -> tuple[Scales, str]:
        """The short-context guard on development text."""
        problem = self.problem
        short = max(2, min(problem.loaded.geometry.original_context, problem.length // 4))
        text = problem.read("development", short, GUARD_WINDOWS, fewer=True)
        kept, sentence = guarded(self.scorer, found, text.ids, self.spec.guard_tau)
        if len(text) < GUARD_WINDOWS:
            sentence += f", on {text.counted}"
        return (kept if kept is not None else problem.none), sentence

    def decide(self, found: Scales) -> tuple[Scales, str, Decision | None]:
        """Keep `found` only if development text that the search has not read shows a gain."""
        if found.is_identity:
            return self.problem.none, f"{NO_GAIN}, the search found nothing better or the guard rejected it", None
        try:
            decision = decide(self.scorer, self.problem, found)
        except TooLittleText as refusal:
            return self.problem.none, f"not decided: keep identity, {refusal.what}", None
        if decision.significant:
            return found, f"significant gain: {decision.measured}", decision
        return self.problem.none, f"{NO_GAIN} ({decision.measured})", decision

    def partial(self) -> SearchOutcome | None:
        """What a cancelled search has by now: the best exact candidate, unguarded and undecided."""
        objective, state = FIRST, self.descent.state if self.descent is not None else None
        if self.refinement is not None and self.refinement.started:
            objective, state = self.spec.objective, self.refinement.settled()
            best, value = self.refinement.best, self.refinement.value
            before, after = value(torch.zeros_like(best)), value(best)
        elif self.descent is not None and self.descent.started:
            self.descent.settle()
            best, before, after = self.descent.best, 1.0, self.descent.value
        else:
            return self.resume
        self.spent += time.perf_counter() - self.began if self.began else 0.0
        report = self.report(before, after, "not asked: cancelled before its end", "identity", CANCELLED, self.idle)
        report = report.model_copy(update={"objective": objective})
        return self.with_baselines(self.scales_at(best), self.problem.none, report, state)

    def report(self, before: float, after: float, guard: str, chosen: str, reason: str, idle: float) -> SearchReport:
        """The report of the search; `idle` is one window's bare forward pass, seconds."""
        spec, once = self.spec, idle * len(self.windows)
        text = f"{self.read.counted_as('calibration')} of {self.problem.length} tokens, digest {self.read.digest}, "
        text += f"seed {spec.seed}{self.read.noted}{replacing(self.problem.loaded, self.problem.rope)}"
        text += what_a_query_reads(self.problem.quant)
        method = ", ".join(filter(None, (spec.method, objectives()[spec.objective].words)))
        return SearchReport(
            verdict=self.problem.verdict,
            method=method,
            objective=spec.objective,
            objective_identity=before,
            objective_found=after,
            history=self.history,
            bounds=self.bounds.tolist(),
            trials=len(self.history),
            seconds=self.spent,
            forward_seconds=once,
            forward_equivalents=self.spent / once,
            guard=guard,
            text=text,
            chosen="found" if chosen == "found" else "identity",
            reason=reason,
            value_maps=None if self.values is None else self.values.report,
            polish=self.tie_costs or (PolishReport(error_left=self.polish.error_left) if self.polish else None),
        )

    def with_baselines(
        self, found: Scales, kept: Scales, report: SearchReport, state: AdamState | None = None
    ) -> SearchOutcome:
        """The outcome, with SmoothAttention's and MAD clipping's scales beside what was found."""
        smooth, mad = (self.problem.scales(self.starts[name]) for name in ("smooth_attention", "mad"))
        return SearchOutcome(found, kept, smooth, mad, report, state)
