"""What the held-out windows say of the choices: rows with intervals, and the sentences. Numbers in, words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qroar_core.evidence.controls.result import Estimate
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.rope_search.result import CHOICES, Choice, JudgedRope
from qroar_core.specs.labels import rope_words
from qroar_core.statistics.intervals import Interval, clustered_interval, mean_interval, paired_interval

Means = Mapping[tuple[Choice, bool], Sequence[float]]  # choice and condition -> mean NLL of each window, nats
NONE = "no significant difference"
DECIDED = (
    "Held-out text decided whether the interpolation found takes the place of the setup's own, so its gain is not "
    "verified on text that had no part in that decision."
)


def judged(long: Means, short: Means, confidence: float) -> list[JudgedRope]:
    """Every choice in each condition, against the setting's own interpolation in the same one."""
    rows = []
    for quantized in (False, True):
        before, short_before = long["setting", quantized], short["setting", quantized]
        for choice in CHOICES:
            mine, short_mine = long[choice, quantized], short[choice, quantized]
            own = choice == "setting"
            rows.append(
                JudgedRope(
                    choice=choice,
                    quantized=quantized,
                    nll=mean_interval(mine).mean,
                    short_nll=mean_interval(short_mine).mean,
                    gain=None if own else estimate(paired_interval(before, mine, confidence)),
                    short_cost=None if own else estimate(paired_interval(short_mine, short_before, confidence)),
                    window_nll=list(mine),
                    short_window_nll=list(short_mine),
                )
            )
    return rows


def worth(long: Means, quantized: bool, confidence: float) -> Estimate:
    """What the choice made in a condition gains there over the choice made in the other, nats per token."""
    here, there = _here_and_there(quantized)
    return estimate(paired_interval(long[there, quantized], long[here, quantized], confidence))


def worth_by_document(long: Means, documents: Sequence[str], confidence: float) -> Estimate | None:
    """The same under the quantizer with documents as the unit; None with fewer than three of them."""
    here, there = _here_and_there(True)
    won = [a - b for a, b in zip(long[there, True], long[here, True], strict=True)]
    found = clustered_interval(won, documents, confidence)
    return None if found is None else estimate(found)


def _here_and_there(quantized: bool) -> tuple[Choice, Choice]:
    return ("quantizer", "full precision") if quantized else ("full precision", "quantizer")


def keeps(rows: Sequence[JudgedRope]) -> bool:
    """Is the quantizer's choice better than the setting's own interpolation under the quantizer?"""
    found = next(one for one in rows if one.choice == "quantizer" and one.quantized)
    return found.gain is not None and found.gain.above_zero


def sentences(
    chosen: Mapping[Choice, RopeSpec],
    rows: Sequence[JudgedRope],
    won: Estimate,
    by_document: Estimate | None,
    lengths: tuple[int, int, int],
    documents: int,
) -> list[str]:
    """The findings, the verdict first.

    Args:
        won: what choosing under the quantizer is worth there.
        lengths: tokens of a window, of a short one and of the native window.
        documents: of held-out text.
    """
    length, short, native = lengths
    by = {(one.choice, one.quantized): one for one in rows}
    out = [_verdict(chosen, won)]
    if by_document is not None and chosen["quantizer"] != chosen["full precision"]:
        out.append(f"Counted by documents ({documents} of them) it is {measured(by_document)}.")
    made_in: dict[Choice, str] = {"quantizer": "under the quantizer", "full precision": "in full precision"}
    if chosen["quantizer"] == chosen["full precision"]:
        made_in = {"quantizer": "in both conditions"}
    for choice, made in made_in.items():
        if chosen[choice] == chosen["setting"]:
            out.append(f"The choice made {made} is the setup's own interpolation.")
            continue
        under, full = by[choice, True], by[choice, False]
        out.append(
            f"Over the setup's own interpolation the choice made {made} gains {_words(under.gain)} under the "
            f"quantizer and {_words(full.gain)} in full precision at {length:,} tokens; at {short:,} tokens NLL "
            f"changes by {_words(under.short_cost)} and {_words(full.short_cost)}."
        )
    if not keeps(rows) and chosen["quantizer"] != chosen["setting"]:
        out.append(
            "Held-out text shows no significant gain of the choice under the quantizer: the setup's own is kept."
        )
    if chosen["quantizer"] != chosen["setting"]:
        out.append(DECIDED)
    if length <= native:
        out.append(
            f"{length:,} tokens lie within the native window of {native:,}: nothing has to be stretched at this length."
        )
    return out


def _verdict(chosen: Mapping[Choice, RopeSpec], won: Estimate) -> str:
    full, under = chosen["full precision"], chosen["quantizer"]
    if full == under:
        return f"Quantization does not change the choice: {rope_words(under)} is chosen in both conditions."
    what = "another method" if full.method != under.method else "other numbers of the same method"
    head = (
        f"Under the quantizer the search chooses {what}: {rope_words(under)} instead of {rope_words(full)}. "
        "On held-out text, choosing there is worth"
    )
    return f"{head} {measured(won)}{'' if won.excludes_zero else f': {NONE}'}."


def _words(found: Estimate | None) -> str:
    assert found is not None  # only the setting's own row has none
    return f"{measured(found)}{'' if found.excludes_zero else f' ({NONE})'}"


def measured(found: Estimate) -> str:
    """`+0.0123 nats [+0.0100, +0.0150]`."""
    return f"{found.mean:+.4f} nats [{found.low:+.4f}, {found.high:+.4f}]"


def estimate(found: Interval) -> Estimate:
    """An interval as files have it."""
    return Estimate(mean=found.mean, low=found.low, high=found.high)
