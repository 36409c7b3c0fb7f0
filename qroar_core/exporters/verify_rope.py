"""The interpolation of a reloaded export against that of the setup, at a length within the native window and past it.

The text that `verify` scores is short: dynamic NTK's and LongRoPE's frequencies past the window are seen here alone.
"""

from __future__ import annotations

from qroar_core.exporters.check import Check
from qroar_core.interpolations.frequencies import Rope, ropes_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.specs import RopeSpec

BOUND = 1e-6  # relative: frequencies and attention factors are stored as float32
QUESTION = "interpolation against the setup's"


def interpolation(source: LoadedModel, rope: RopeSpec, again: LoadedModel, factor: float) -> Check:
    """One check: the largest relative distance of a frequency and of an attention factor.

    Args:
        rope: the setup's, on the source; the export has its own.
        factor: what q and k were multiplied by in place of an attention factor.
    """
    apart = scale = 0.0
    kind = source.geometry.interpolated_kind
    for length in (source.geometry.original_context // 2, 2 * source.geometry.original_context):
        wanted, found = ropes_of(source, rope, length), ropes_of(again, RopeSpec(), length)
        if wanted.keys() != found.keys():
            return Check(QUESTION, f"for layers of {', '.join(found)}, not {', '.join(wanted)}", False)
        for name, mine in wanted.items():
            its = found[name]
            if mine.inv_freq.shape != its.inv_freq.shape:
                return Check(QUESTION, f"{its.inv_freq.numel()} pairs for {mine.inv_freq.numel()}", False)
            apart = max(apart, _apart(mine, its))
            folded = factor if name == kind else 1.0
            scale = max(scale, abs(its.attention_factor * folded / mine.attention_factor - 1))
    answer = f"frequencies within {apart:.1e}, attention factor within {scale:.1e}"
    return Check(QUESTION, answer, apart <= BOUND and scale <= BOUND)


def _apart(mine: Rope, its: Rope) -> float:
    """Relative to the frequency, where it is no standing pair's."""
    size = mine.inv_freq.abs().clamp_min(BOUND * float(mine.inv_freq.abs().max()))
    return float(((mine.inv_freq - its.inv_freq).abs() / size).max())
