"""Scales by hand: q and k of calibration text, read once, and the cached error of any scales at once.

No forward pass is needed per try, so a person can drag a band's scale and see the error follow. The same
objective the search minimises, on fewer windows, and on fewer rows still where the model is large: what is
left out is counted in `rows` and `windows`, so that a page can say it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.attention_error import CapturedLayer
from qroar_core.models.applicability import why_exact
from qroar_core.models.capture import Capture
from qroar_core.progress import OnStep, Step, subprogress
from qroar_core.quantizers.exact_keys import first_rounded_row
from qroar_core.scale_search.cached import CachedObjective
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.starts import starts
from qroar_core.transforms.scales import Scales

PROBE_WINDOWS = 2
BUDGET = 0.12  # seconds one evaluation may take; a drag needs two, within the 300 ms of a page's answer
LEAST_ROWS = 16


@dataclass(slots=True, eq=False)
class Probe:
    """The cached error of scales on captured text, relative to no scales (which is 1).

    `smooth` and `mad` are the statistics-only scales of the same text. `seconds` is what one evaluation took.
    """

    objective: CachedObjective
    smooth: Scales
    mad: Scales
    length: int  # tokens per window
    windows: int
    rows: int  # query rows per window
    seconds: float
    polish: bool = False  # one is asked for: this error is taken under the tie without it
    known: dict[bytes, float] = field(default_factory=dict)

    @classmethod
    def read(cls, problem: SearchProblem, on_step: OnStep) -> Probe:
        """Capture, and leave out rows until one evaluation keeps to its budget."""
        if problem.all_exact:
            raise BadSpec(
                why_exact(problem.quant, problem.length),
                where="scales by hand",
                do=f"make the searched length longer than {first_rounded_row(problem.quant)}",
            )
        if problem.weights_only:
            raise BadSpec(
                "the cached error sees K, q and their quantizers only, and none of these is quantized",
                where="scales by hand",
                do="choose a K cache or q/k quantizer, or search on the full objective",
            )
        ids = problem.windows("calibration", problem.length, min(PROBE_WINDOWS, problem.spec.windows), fewer=True)
        taken = problem.captured(ids, subprogress(on_step, 0, len(ids), len(ids) + 1))
        begins = starts(problem, taken)
        objective, seconds = _timed(problem, taken, begins["smooth_attention"])
        for keep_rows in (True, False):  # first windows are left out, then rows
            if seconds > BUDGET:
                on_step(Step("search", len(ids), len(ids) + 1, "leave out rows"))
                taken = replace(taken, windows=taken.windows[:1]) if keep_rows else _thinned(taken, BUDGET / seconds)
                objective, seconds = _timed(problem, taken, begins["smooth_attention"])
        smooth, mad = (problem.scales(begins[name]) for name in ("smooth_attention", "mad"))
        rows = len(taken.windows[0][0].rows)
        return cls(objective, smooth, mad, problem.length, len(taken.windows), rows, seconds, problem.spec.polish)

    def scales(self, per_band: tuple[float, ...]) -> Scales:
        """One log2 g per band, the same in every layer and head, as Scales.

        Raises:
            BadSpec: not one finite number per band.
        """
        return by_hand(self.smooth, per_band)

    def value(self, scales: Scales) -> float:
        """E(scales) / E(identity), the mean over layers and KV heads."""
        point = scales.point_among(self.objective.setup.groups, self.objective.setup.offset).float()
        key = point.numpy().tobytes()
        if key not in self.known:
            self.known[key] = self.objective.value(point)
        return self.known[key]

    def alone(self, scales: Scales) -> list[float]:
        """The error with one band's scales and angles only, no maps or offset, other bands as they were; (bands,)."""
        out = []
        for band, (first, last) in enumerate(scales.bands):
            g, angles = torch.ones_like(scales.g), None
            g[..., band] = scales.g[..., band]
            if scales.angles is not None:
                angles = torch.zeros_like(scales.angles)
                angles[..., first : last + 1] = scales.angles[..., first : last + 1]
            out.append(self.value(replace(scales, g=g, angles=angles, groups=(), maps=(), k_offset=None)))
        return out


def by_hand(like: Scales, per_band: tuple[float, ...]) -> Scales:
    """One log2 g per band for the whole model `like` belongs to, in its mode and bands.

    Raises:
        BadSpec: not one finite number per band.
    """
    log2_g = torch.tensor(per_band, dtype=torch.float64)
    if log2_g.shape != (len(like.bands),) or not bool(torch.isfinite(log2_g).all()):
        raise BadSpec(f"need {len(like.bands)} finite numbers, one per band, got {per_band}", where="scales by hand")
    return Scales(like.mode, "model", like.bands, log2_g.exp2().expand_as(like.g).contiguous())


def _timed(problem: SearchProblem, taken: Capture, log2_g: Tensor) -> tuple[CachedObjective, float]:
    objective = problem.objective(taken)
    started = time.perf_counter()
    objective.value(log2_g + 0.01)  # anything but identity, which is known without a look
    return objective, time.perf_counter() - started


def _thinned(taken: Capture, share: float) -> Capture:
    """Every n-th row only, at least a few."""
    count = len(taken.windows[0][0].rows)
    pick = torch.linspace(0, count - 1, max(min(LEAST_ROWS, count), int(count * share))).round().long().unique()
    return replace(taken, windows=[[_rows(x, pick) for x in layers] for layers in taken.windows])


def _rows(layer: CapturedLayer, pick: Tensor) -> CapturedLayer:
    return replace(layer, q=layer.q[:, pick], rows=layer.rows[pick], out=layer.out[:, pick])
