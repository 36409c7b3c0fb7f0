"""Stage 3: band scales for W_Q and W_K, searched on calibration text, guarded and proven on other text.

Said first: whether scales can act at all. Then: bounds from the diagnostics, the search itself, the
guard at short context on development text, and the paired gain on held-out text. If that interval
includes zero, identity is kept and the report says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.attention_error import Setup
from qroar_core.maths.bands import Bands, band_of_channel, partition
from qroar_core.maths.bounds import log2_bounds
from qroar_core.maths.pressure import Interpolation, frequency_slope, interpolation_pressure, mean_distance
from qroar_core.maths.rescale import Scales, identity, pooled
from qroar_core.maths.statistics_scales import mad_clipped, smooth_attention
from qroar_core.maths.verdict import verdict
from qroar_core.models.capture import Capture, capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.rope import native_inv_freq, rope_of
from qroar_core.models.score import forward_seconds
from qroar_core.models.text import Document, windows
from qroar_core.progress import OnStep, Step, ignore
from qroar_core.results import Diagnosis, SearchReport
from qroar_core.results.intervals import NO_GAIN
from qroar_core.results.search import Candidate, Verdict
from qroar_core.searching.cached import CachedObjective
from qroar_core.searching.full import FullObjective, full_search
from qroar_core.searching.methods import METHODS
from qroar_core.searching.proof import Bench, guarded, proven
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec

GUARD_WINDOWS, PROOF_WINDOWS = 4, 8


@dataclass(frozen=True, slots=True, eq=False)
class SearchOutcome:
    """`kept` is `found` only where the gain was proven; `smooth` and `mad` are the statistics-only baselines."""

    found: Scales
    kept: Scales
    smooth: Scales
    mad: Scales
    report: SearchReport


def run(loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec, spec: SearchSpec, texts: dict[str, list[Document]],
        diagnosis: Diagnosis | None = None, on_step: OnStep = ignore) -> SearchOutcome:  # fmt: skip
    """Search, guard and prove.

    Args:
        texts: documents of "calibration", "development" and "heldout".
        diagnosis: its tail inflation widens the bounds; without one only the pressure shapes them.
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer.
    """
    with loaded.lock:
        return _Search(loaded, rope, quant, spec, texts, on_step).outcome(diagnosis)


class _Search:
    def __init__(self, loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec, spec: SearchSpec,
                 texts: dict[str, list[Document]], on_step: OnStep) -> None:  # fmt: skip
        self.loaded, self.rope, self.quant, self.spec, self.on_step = loaded, rope, quant, spec, on_step
        geo = loaded.geometry
        self.native = native_inv_freq(loaded)
        self.bands: Bands = partition(self.native, geo.original_context, spec.bands)
        self.length = spec.length or int(geo.original_context * rope.factor)
        self.texts = texts
        self.history: list[Candidate] = []
        self.none = identity(geo.n_layers, geo.n_kv_heads, self.bands, spec.mode, spec.granularity)
        self.bench = Bench(loaded, rope, quant, on_step)

    def outcome(self, diagnosis: Diagnosis | None) -> SearchOutcome:
        said = verdict(
            self.quant, self.spec.mode, bands=self.bands, head_dim=self.loaded.geometry.head_dim,
            rotary_dim=self.loaded.geometry.rotary_dim, pairing=self.loaded.geometry.pairing,
        )  # fmt: skip
        bounds = self.bounds(diagnosis)
        if said.acts == "no":
            return self.untouched(said, bounds)
        weights_only = self.quant.k is None and self.quant.qk is None
        if self.spec.objective == "cached" and weights_only:
            raise BadSpec(
                "the cached objective sees q, k and v, not quantized weights", where="search", do="add --objective full"
            )
        ids = self.windows("calibration", self.length, self.spec.windows)
        idle = forward_seconds(self.loaded, ids[:1])
        started = time.perf_counter()
        taken = capture(self.loaded, self.rope, ids, self.spec.query_rows, seed=self.spec.seed, on_step=self.on_step)
        starts = self.starts(taken)
        log2_g, before, after = self.descend(taken, starts, bounds, weights_only)
        seconds = time.perf_counter() - started
        once = (idle + forward_seconds(self.loaded, ids[:1])) / 2 * len(ids)
        found = self.scales(log2_g)
        found, guard = self.guard(found)
        kept, reason = self.prove(found)
        report = SearchReport(
            verdict=said,
            method=self.spec.method if self.spec.objective == "cached" else f"{self.spec.method} on full text",
            objective=self.spec.objective,
            objective_identity=before,
            objective_found=after,
            history=self.history,
            bounds=[[(float(lo), float(hi)) for lo, hi in row] for row in bounds.tolist()],
            trials=len(self.history),
            seconds=seconds,
            forward_seconds=once,
            forward_equivalents=seconds / once,
            guard=guard,
            text=f"{len(ids)} calibration windows of {self.length} tokens, seed {self.spec.seed}",
            chosen="identity" if kept.is_identity else "found",
            reason=reason,
        )
        smooth, mad = (self.scales(starts[name]) for name in ("smooth_attention", "mad"))
        return SearchOutcome(found, kept, smooth, mad, report)

    def bounds(self, diagnosis: Diagnosis | None) -> Tensor:
        """log2 g bounds, (layers, bands, 2), from pressure and, where diagnosed, tail inflation."""
        rope = rope_of(self.loaded, self.rope, self.length)
        at = Interpolation(
            self.rope, self.native, rope.inv_freq.double(), self.loaded.geometry.original_context, self.length
        )
        per_pair = interpolation_pressure(frequency_slope(at), mean_distance(self.length, "causal"))
        pressure = torch.stack([per_pair[a : b + 1].mean() for a, b in self.bands])
        tails = torch.ones(self.loaded.geometry.n_layers, len(self.bands), dtype=torch.float64)
        if diagnosis is not None and [(b.first_pair, b.last_pair) for b in diagnosis.bands] == list(self.bands):
            for x in ("k",) if self.spec.mode == "symmetric" else ("q", "k"):
                table = diagnosis.tail_inflation["post"][x]
                ratio = torch.tensor([[v if v else 1.0 for v in row] for row in table], dtype=torch.float64)
                tails = torch.maximum(tails, ratio)
        spec = self.spec
        if spec.granularity == "model":  # one scale for all layers keeps to the narrowest
            tails = tails.clamp_min(1).amin(0, keepdim=True).expand_as(tails)
        return log2_bounds(pressure, tails, spec.mode, kappa0=spec.kappa0, eta=spec.eta, tau=spec.tau_tail)

    def starts(self, taken: Capture) -> dict[str, Tensor]:
        """Identity and the statistics-only scales, as log2 g (layers, kv, bands)."""
        geo = self.loaded.geometry
        band = band_of_channel(self.bands, geo.head_dim, geo.rotary_dim, geo.pairing)
        ranges = torch.stack([taken.k_absmax[..., band == b].amax(-1) for b in range(len(self.bands))], -1)
        named = {"smooth_attention": smooth_attention(ranges), "mad": mad_clipped(ranges)}
        logs = {name: pooled(g.log2().float(), self.spec.granularity) for name, g in named.items()}
        zero = torch.zeros_like(logs["mad"])
        if self.spec.mode == "shared":  # a temperature: K's range says nothing about it
            return {"identity": zero, **{name: zero.clone() for name in logs}}
        return {"identity": zero, **logs, "equal ranges": 2 * logs["smooth_attention"]}

    def descend(self, taken: Capture, starts: dict[str, Tensor], bounds: Tensor,
                weights_only: bool) -> tuple[Tensor, float, float]:  # fmt: skip
        """log2 g found, and the objective at identity and there."""
        base, before, after = starts["identity"], 1.0, 1.0
        if not weights_only:
            geo = self.loaded.geometry
            band = band_of_channel(self.bands, geo.head_dim, geo.rotary_dim, geo.pairing).to(self.loaded.device)
            setup = Setup(self.quant, self.spec.mode, band, taken.scaling, geo.pairing, taken.cos, taken.sin)
            objective = CachedObjective(taken, setup, self.spec.granularity)
            begin = {name: x for name, x in starts.items() if name != "mad"}  # a baseline, never a good start
            base, after = METHODS[self.spec.method](objective, begin, bounds, self.spec, self.report)
        if self.spec.objective == "full":
            short = max(2, self.length // 4)
            full = FullObjective(
                self.loaded, self.rope, self.quant, self.spec, self.bands,
                self.windows("development", self.length, min(2, self.spec.windows)), (short, self.length),
            )  # fmt: skip
            self.history.clear()
            base = full_search(full, base, bounds, self.spec, self.report)
            before, after = full.value(torch.zeros_like(base)), full.value(base)
        return base, before, after

    def report(self, step: int, label: str, value: float, exact: bool = True) -> None:
        """Note a candidate and show it; may raise Cancelled. A value from a few rows (not exact) is never the best."""
        known = [c.best for c in self.history[-1:]]
        best = min([value, *known]) if exact or not known else known[0]
        candidate = Candidate(step=step, label=label, objective=value, best=best)
        self.history.append(candidate)
        total = self.spec.steps if self.spec.method == "gradient" else self.spec.trials
        self.on_step(Step("search", min(step, total), total, label, candidate))

    def guard(self, found: Scales) -> tuple[Scales, str]:
        """The short-context guard on development text."""
        native = self.loaded.geometry.original_context
        short = max(2, min(native, self.length // 4))
        kept, sentence = guarded(
            self.bench, found, self.windows("development", short, GUARD_WINDOWS), self.spec.guard_tau
        )
        return (kept if kept is not None else self.none), sentence

    def prove(self, found: Scales) -> tuple[Scales, str]:
        """Keep `found` only if held-out text says so."""
        if found.is_identity:
            return self.none, f"{NO_GAIN}, the search found nothing better or the guard rejected it"
        gain = proven(self.bench, found, self.windows("heldout", self.length, PROOF_WINDOWS))
        measured = f"{gain.mean:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}] on {PROOF_WINDOWS} held-out windows"
        if gain.low > 0:
            return found, f"significant gain: {measured}"
        return self.none, f"{NO_GAIN} ({measured})"

    def untouched(self, said: Verdict, bounds: Tensor) -> SearchOutcome:
        """Scales cannot act: nothing is searched, identity is kept."""
        report = SearchReport(
            verdict=said, method="none", objective="none", objective_identity=1.0, objective_found=1.0, history=[],
            bounds=[[(float(lo), float(hi)) for lo, hi in row] for row in bounds.tolist()], trials=0, seconds=0.0,
            forward_seconds=0.0, forward_equivalents=0.0, guard="not needed", text="none read", chosen="identity",
            reason=f"{NO_GAIN}, scales cannot act here",
        )  # fmt: skip
        return SearchOutcome(self.none, self.none, self.none, self.none, report)

    def windows(self, split: str, length: int, count: int) -> Tensor:
        """Token windows of one split."""
        return windows(self.loaded.tokenizer, self.texts[split], length, count, self.spec.seed).ids

    def scales(self, log2_g: Tensor) -> Scales:
        """log2 g as Scales."""
        return Scales(self.spec.mode, self.spec.granularity, self.bands, log2_g.double().cpu().exp2())
