"""Which RoPE pairs to tie for a quantizer: `--tie auto`.

Groups are compared on captured windows of calibration text at the searched length (tie_effects.py), without a forward
pass: what each costs in full precision, and what is left of the rounding error where maps spread each group. Groups
alone are ranked on some layers of one window; the best are then added one by one, seen on all layers of all windows,
since what groups leave does not add up, and rounding a few keys one way or another moves a rank. What the choice costs
in nats is then measured on development text, with nothing quantized, at a short, the native and the full length. Where
that is more than is allowed, groups are added anew within the part of that choice's error that would have been allowed:
nats grow with the squared error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.interpolations.tie import Tie, ties_text, wavelength_of
from qroar_core.models.capture import Capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.score import forward_seconds
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result_ties import TieChoice, TieCost, TiedGroup, TriedTie
from qroar_core.scale_search.tie_cost import MOST_READ, cost_lengths, cost_of
from qroar_core.scale_search.tie_effects import TieEffect, TieEffects
from qroar_core.setting import Setting
from qroar_core.transforms.refusals import require

SIZES = (2, 4, 6)  # pairs of a candidate; spreading maps are best of even numbers
TURNS = (0.8, 0.9, 1.0, 1.1, 1.25)  # of a candidate's frequency over the geometric mean of its pairs'
DEAREST = 0.1  # cost of a group alone, a share of what rounding makes, beyond which it is no candidate
# Nats that an error by a tie costs, over what the same error by rounding costs: 0.1 at 2,048 and 0.5 at 16,384 tokens
# of SmolLM2 (`python -m benchmarks tie_effects.technical.16384`); the dearer one holds for all lengths.
WEIGHT = 0.5
BETTER = 0.02  # of the untied rounding error; what a further group has to win
SHORTLIST = 4  # candidates that are tried beside those chosen
LESS = 0.8  # of the error of a choice that cost too much, the most that the next one may have
HELD = 0.02  # of all tokens and KV heads, those whose largest channel of K a candidate has to hold
CAPTURED_WINDOWS, ROWS = 4, 48  # captured windows, fewer where they are long; query rows of each
LAYERS = 10  # that rank groups alone


def run(loaded: LoadedModel, setting: Setting, texts: Texts, on_step: OnStep = no_progress) -> TieChoice:
    """Choose groups for a setting; a tie that it has already is left out of account.

    Args:
        texts: documents of "calibration" and "development".
    Raises:
        BadSpec: a layout that takes no maps, or a setting under which K is not read rounded.
        BadText: too little text. Cancelled: raised by `on_step`.
    """
    untied = replace(setting.rope, tie=())
    search = replace(setting.search, maps=False, polish=False, query_rows=ROWS)
    problem = SearchProblem(loaded, untied, setting.quant, search, texts)
    read = max(1, min(CAPTURED_WINDOWS, search.windows, MOST_READ // problem.length))
    problem = SearchProblem(loaded, untied, setting.quant, replace(search, windows=read, fewer=True), texts)
    _require_use(problem)
    with loaded.lock:
        return _Choosing(problem, on_step).choice()


def why_not(loaded: LoadedModel, setting: Setting) -> str:
    """Why no tie can help under this setting, and what to do; empty where one may."""
    search = replace(setting.search, maps=False, polish=False)
    try:
        _require_use(SearchProblem(loaded, setting.rope, setting.quant, search, {}))
    except BadSpec as refusal:
        return f"{refusal.what}; {refusal.do}"
    return ""


def _require_use(problem: SearchProblem) -> None:
    require("maps", problem.loaded.geometry, replace(problem.rope, tie=(Tie(0, 1),)), problem.quant)
    if problem.weights_only or problem.verdict.acts != "yes":
        raise BadSpec(
            "ties are chosen by the error of a rounded K, and no query reads K rounded here",
            where="--tie auto",
            do="quantize the K cache, for example by --k int4, or name the groups",
        )


@dataclass(slots=True, eq=False)
class _Choosing:
    """One choice under way."""

    problem: SearchProblem
    on_step: OnStep
    tried: list[TriedTie] = field(default_factory=list)

    def choice(self) -> TieChoice:
        problem = self.problem
        read = problem.calibration()
        bare = forward_seconds(problem.loaded, read.ids)
        began = time.perf_counter()
        taken = problem.captured(read.ids, self.on_step)
        effects = TieEffects(problem, taken)
        coarse = TieEffects(problem, replace(taken, windows=taken.windows[:1]), max(1, len(taken.metric) // LAYERS))
        largest = absmax_shares(problem, taken)
        ranked = sorted(self._candidates(coarse, largest), key=lambda one: _score(coarse.of((one,))))
        untied = self._try(effects, ())
        ties, costs, dropped = self._afforded(effects, coarse, ranked, untied)
        self._try(effects, ties)
        return TieChoice(
            groups=self._described(effects, taken, ties),
            left_untied=untied.left,
            tried=self.tried,
            costs=costs,
            dropped=dropped,
            text=f"{read.counted_as('calibration')} of {problem.length} tokens, digest {read.digest}",
            seconds=time.perf_counter() - began,
            forward_seconds=bare,
        )

    def _candidates(self, effects: TieEffects, largest: torch.Tensor) -> Iterator[Tie]:
        """Neighbouring pairs that hold the largest channels of K and may share a frequency at a cost."""
        pairs = self.problem.loaded.geometry.n_pairs
        for size in SIZES:
            for first in range(pairs - size, -1, -1):  # the slower, the cheaper
                last = first + size - 1
                if largest[first : last + 1].sum() < HELD:
                    continue
                turns = (1.0, 0.0) if last == pairs - 1 else (1.0,)
                fitting = [one for turn in turns if self._cost(effects, one := Tie(first, last, turn)) <= DEAREST]
                yield from fitting
                if not fitting:
                    break  # faster pairs cost more

    def _best_turn(self, effects: TieEffects, tie: Tie) -> Tie:
        """The group at the frequency at which tying it costs least; one that stands still stays so."""
        if not tie.turn:
            return tie
        return min((replace(tie, turn=turn) for turn in TURNS), key=lambda one: self._cost(effects, one))

    def _cost(self, effects: TieEffects, tie: Tie) -> float:
        found: float = effects.cost((tie,))
        self.on_step(Step("search", 0, 1, f"cost of tying {ties_text((tie,))}"))
        return found

    def _try(self, effects: TieEffects, ties: Sequence[Tie]) -> TriedTie:
        """Measure one choice of groups, and note it."""
        self.on_step(Step("search", len(self.tried), len(self.tried) + 10, f"tie {ties_text(ties) or 'none'}"))
        effect = effects.of(ties)
        self.tried.append(TriedTie(tie=ties_text(ties), cost=effect.cost, left=effect.left))
        return self.tried[-1]

    def _added(
        self, effects: TieEffects, coarse: TieEffects, ranked: Sequence[Tie], untied: TriedTie, most: float
    ) -> tuple[Tie, ...]:
        """Groups added one by one, the best ranked first, while each wins more than it costs.

        Args:
            most: cost of all groups together that is not to be passed.
        """
        chosen: tuple[Tie, ...] = ()
        best = _score(untied)
        while True:
            beside = islice(self._fitting(effects, coarse, ranked, chosen, most), SHORTLIST)
            tried = {ties: _score(self._try(effects, ties)) for ties in beside}
            if not tried or min(tried.values()) > best - BETTER * untied.left:
                return tuple(self._best_turn(coarse, one) for one in chosen)
            chosen = min(tried, key=lambda ties: tried[ties])
            best = tried[chosen]

    def _fitting(
        self, effects: TieEffects, coarse: TieEffects, ranked: Sequence[Tie], chosen: tuple[Tie, ...], most: float
    ) -> Iterator[tuple[Tie, ...]]:
        """The chosen groups with one more, the best ranked first, that cost no more than `most` together."""
        for one in ranked:
            if any(one.first <= x.last and x.first <= one.last for x in chosen):
                continue
            added = one if most == math.inf else self._best_turn(coarse, one)
            ties = tuple(sorted((*chosen, added), key=lambda x: x.first))
            if most == math.inf or (coarse.cost((added,)) <= most and effects.cost(ties) <= most):
                yield ties

    def _afforded(
        self, effects: TieEffects, coarse: TieEffects, ranked: Sequence[Tie], untied: TriedTie
    ) -> tuple[tuple[Tie, ...], list[TieCost], list[str]]:
        """Groups that cost no more nats than is allowed, what they cost, and the groups of dearer choices."""
        dear: list[Tie] = []
        before: dict[int, list[float]] = {}
        most = math.inf
        while ties := self._added(effects, coarse, ranked, untied, most):
            costs: list[TieCost] = []
            for length in cost_lengths(self.problem):
                costs.append(cost_of(self.problem, ties, length, before, self.on_step))
                if costs[-1].nats > costs[-1].allowed:
                    break
            else:
                return ties, costs[::-1], [ties_text((one,)) for one in dict.fromkeys(dear) if one not in ties]
            dear += ties
            most = effects.cost(ties) * min(LESS, max(0.0, costs[-1].allowed / costs[-1].nats))
        return (), [], [ties_text((one,)) for one in dict.fromkeys(dear)]

    def _described(self, effects: TieEffects, taken: Capture, ties: tuple[Tie, ...]) -> list[TiedGroup]:
        problem = self.problem
        rope = rope_of(problem.loaded, replace(problem.rope, tie=ties), problem.length)
        largest = absmax_shares(problem, taken)
        return [
            TiedGroup(
                first=one.first,
                last=one.last,
                turn=one.turn,
                wavelength=wavelength_of(float(rope.inv_freq[one.first])),
                absmax_share=float(largest[one.first : one.last + 1].sum()),
                cost=effects.cost((one,)),
                left_without=effects.left(tuple(other for other in ties if other != one)),
            )
            for one in ties
        ]


def _score(tried: TriedTie | TieEffect) -> float:
    """What is left, an error by the tie counted as less than one by rounding."""
    return tried.left - (1 - WEIGHT) * tried.cost


def absmax_shares(problem: SearchProblem, taken: Capture) -> torch.Tensor:
    """Share of tokens and KV heads whose largest channel of K belongs to each RoPE pair; float64 (pairs,)."""
    geo = problem.loaded.geometry
    pair = geo.channel_band(tuple((i, i) for i in range(geo.n_pairs)))
    counts = torch.zeros(geo.n_pairs, dtype=torch.float64)
    total = 0
    for layers in taken.windows:
        for layer in layers:
            if layer.still:
                continue
            holder = pair[layer.k.abs().argmax(-1).cpu()].flatten()
            counts += torch.bincount(holder[holder >= 0], minlength=geo.n_pairs).double()
            total += holder.numel()
    return counts / max(1, total)
