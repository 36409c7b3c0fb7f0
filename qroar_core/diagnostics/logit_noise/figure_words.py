"""What titles and captions of the logit noise say of its numbers."""

from __future__ import annotations

from qroar_core.diagnostics.logit_noise.result import LogitNoise, NoiseNull, growth, growth_error
from qroar_core.statistics.digits import within

NO_NOISE = "There is none"


def of_kl(null: NoiseNull) -> str:
    """What the null of the KL is."""
    if not null.attention_kl:
        return " The KL of this file, from an older version, has no null."
    return (
        " For the KL the null is an approximation, good for small errors. Where a row reads every key exactly and "
        "queries have no errors, both are 0." + null.older
    )


def won(seen: dict[str, LogitNoise]) -> str:
    """How the tuned RMS compares, over the sampled rows."""
    if "tuned" not in seen:
        return ""
    before, after = (sum(v or 0.0 for v in seen[name].rms) for name in ("quantized", "tuned"))
    return f" Tuned scales change its RMS by {after / before - 1:+.0%}" if before else ""


def grown(noise: LogitNoise) -> str:
    """How the later half of the rows compares with the earlier one, and how it does under the null."""
    if noise.null is None:
        return ""
    measured, blind, error = growth(noise.rms), growth(noise.null.rms), growth_error(noise.rms)
    if measured is None:
        return " None at the earlier rows" if any(noise.rms) else f" {NO_NOISE}"
    times = f"{measured:.2f}" if error is None else within(measured, error)
    beside = "" if blind is None else f", {blind:.2f} × for random errors"
    return f" {times} × from the earlier rows to the later{beside}"


def further(noise: LogitNoise) -> str:
    """The same of the farther half of the distances and the nearer one."""
    measured = growth(noise.rms_by_distance)
    blind = growth(noise.null.rms_by_distance) if noise.null else None
    if measured is None or blind is None:
        return ""
    return f" {measured:.2f} × from the nearer octaves to the farther, {blind:.2f} × for random errors"
