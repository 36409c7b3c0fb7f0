"""The second part of a search, judged by the whole model: it starts from the cached result."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.held_exact import still_exact
from qroar_core.models.condition import Condition
from qroar_core.results.search import Candidate
from qroar_core.searching.cached import Report
from qroar_core.searching.descent import AdamState
from qroar_core.searching.frame import Frame
from qroar_core.searching.full import FullObjective, full_search
from qroar_core.searching.polish import KLObjective, Polish
from qroar_core.specs import Objective

Whole = FullObjective | Polish
WORDS = {"cached": "", "full": "on full text", "kl": "by gradients of the KL through the whole model"}


def require_seen(objective: Objective, frame: Frame) -> None:
    """Raises BadSpec where the objective cannot see what the quantizer does to scaled weights."""
    weights = frame.quant.weights
    if objective == "cached" and frame.weights_only:
        raise BadSpec("the cached objective sees q, k and v, not quantized weights", where="search",
                      do="add --objective full")  # fmt: skip
    if objective == "kl" and weights is not None and frame.spec.angles:
        raise BadSpec("the kl objective rounds weights once, and turned rows round apart", where="search",
                      do="drop --angles, or add --objective cached")  # fmt: skip
    if objective == "kl" and (frame.weights_only or (weights is not None and weights.scale == "tensor")):
        raise BadSpec("the kl objective has no gradient through the rounding of weights", where="search",
                      do="add --objective full")  # fmt: skip


def whole(frame: Frame, bounds: Tensor, note: Report, state: AdamState | None) -> Whole:
    """What `frame.spec.objective` asks for beyond the cached objective. `state`: of a polish to be continued."""
    spec = frame.spec
    if spec.objective == "full":
        short = max(2, frame.length // 4)
        read = frame.development()
        return FullObjective(frame.loaded, frame.rope, frame.quant, spec, frame.bands, read.ids, (short, frame.length),
                             read.opening)  # fmt: skip
    length, quant = min(frame.length, spec.polish_length), frame.quant
    if quant.k is not None and still_exact(quant, length) == length:
        raise BadSpec(f"in {length} tokens every query reads all keys exactly: the kl objective sees no scales",
                      where="search",
                      do=f"make length and polish_length longer than {quant.k.block_tokens}")  # fmt: skip
    text = frame.windows("calibration", length, spec.polish_windows, fewer=True)
    objective = KLObjective(frame.loaded, Condition(frame.rope, frame.quant), spec, frame.bands, text)
    return Polish(objective, bounds, note, state)


def descend(part: Whole, base: Tensor, bounds: Tensor, frame: Frame, note: Report,
            past: Sequence[Candidate]) -> Tensor:  # fmt: skip
    """From `base`, or from identity where that is better; returns log2 g. `past`: of the search this one continues."""
    if isinstance(part, Polish):
        return part.run(base, past)
    return full_search(part, base, bounds, frame.spec, note, past)


def settled(part: Whole) -> AdamState | None:
    """On cancel: what it can still say about its last candidate, and where a polish stands."""
    if not isinstance(part, Polish):
        return None
    part.settle()
    return part.state
