"""Do the sentences of an evaluation's file say what its numbers say?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qroar_core.evaluation.result import Evaluation
from qroar_core.scale_search.gain import nats
from qroar_core.statistics.intervals import NO_GAIN

DIGIT = 5.1e-6  # what a number of six significant digits leaves open, as a share of it
BEST = "significant gain: "  # how the sentence of a gain begins
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?%?|[+-]?inf%?")


def sentences_against(found: Evaluation, again: dict, left: tuple[float, float]) -> Iterator[str]:
    """A sentence in today's words has today's numbers; one in older words at least the verdict and its numbers."""
    heads: dict[str, tuple[str | tuple[str, str], str]] = {}
    if found.gain is not None:
        gain = found.gain
        heads["sentence"] = (BEST if gain.significant else NO_GAIN, nats(gain.delta_nll, gain.ci_low, gain.ci_high))
    else:
        heads["sentence"] = (again["sentence"].partition(" +")[0].partition(" -")[0], "")
    wanted = {"sentence": again["sentence"]}
    for name in ("gain_by_document", "rotation"):
        one, other = getattr(found, name), again.get(name)
        if one is not None and other is not None:
            head: str | tuple[str, str] = "a Hadamard rotation "
            if name == "gain_by_document":
                count = f"{one.documents} documents instead of {len(found.documents)} windows"
                verbs = ("remains significant", "stands") if one.significant else ("is not significant",) * 2
                head = (f"counted over {count}, the gain {verbs[0]}: ", f"counted over {count}, the gain {verbs[1]}: ")
            ends = (one.delta_nll, one.ci_low, one.ci_high)
            turned = name == "rotation" and one.ci_high < 0
            numbers = nats(-ends[0], -ends[2], -ends[1]) if turned else nats(*ends)
            heads[f"{name}.sentence"], wanted[f"{name}.sentence"] = (head, numbers), other.sentence
    if found.tie is not None and again.get("tie") is not None:
        heads["tie.sentence"], wanted["tie.sentence"] = (again["tie"].sentence, ""), again["tie"].sentence
    for name, follows in wanted.items():
        said = found.sentence if name == "sentence" else getattr(found, name.partition(".")[0]).sentence
        head, numbers = heads[name]
        same = NUMBER.sub("#", said) == NUMBER.sub("#", follows)
        if (same and not _same_numbers(said, follows, left)) or (
            not same and not (said.startswith(head) and _holds(said, numbers))
        ):
            yield f"{name}: does not say what its numbers say ({follows})"


def _same_numbers(said: str, follows: str, left: tuple[float, float] = (0.0, 0.0)) -> bool:
    """Numbers one by one, each to a unit of its last digit and to what is left open of nats, and of shares."""
    for one, other in zip(NUMBER.findall(said), NUMBER.findall(follows), strict=True):
        if one == other:
            continue
        a, b = float(one.rstrip("%")), float(other.rstrip("%"))
        unit = 10.0 ** -len(other.partition(".")[2].rstrip("%"))
        if "." in other:
            unit += left[0]
        elif other.endswith("%"):
            unit += 1000 * left[1] * (1 + abs(b) / 100)
        if not abs(a - b) <= unit * 1.01 + DIGIT * abs(b):
            return False
    return True


def _holds(said: str, numbers: str) -> bool:
    """Does the sentence hold these numbers, one after the other?"""
    wanted = NUMBER.findall(numbers)
    found = NUMBER.findall(said)
    runs = (found[i : i + len(wanted)] for i in range(len(found) - len(wanted) + 1))
    return not wanted or any(_same_numbers(" ".join(run), " ".join(wanted)) for run in runs)
