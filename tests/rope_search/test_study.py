"""Proposals on a toy objective with a known optimum, alike for one seed, from what was told alone."""

from __future__ import annotations

import math

from qroar_core.interpolations.base import Range
from qroar_core.rope_search.space import Candidate
from qroar_core.rope_search.study import Proposals

RANGES = {"linear": (Range("factor", 1.0, 16.0),), "yarn": (Range("beta", 0.1, 10.0), Range("a", 0.0, 1.0, log=False))}
STILL = {"linear": 0, "yarn": 4}


def toy(candidate):
    """Least, 0, at YaRN with beta 2, a 0.25 and one pair still."""
    if candidate.method == "linear":
        return 1 + math.log(candidate.numbers["factor"]) ** 2
    numbers = candidate.numbers
    return math.log(numbers["beta"] / 2) ** 2 + (numbers["a"] - 0.25) ** 2 + 0.1 * abs(candidate.still - 1)


def searched(seed, trials=80):
    proposals, out = Proposals(RANGES, STILL, seed), []
    proposals.add(start := Candidate("linear", {"factor": 4.0}), toy(start))
    for _ in range(trials):
        number, candidate = proposals.ask()
        out.append((toy(candidate), candidate))
        proposals.tell(number, out[-1][0])
    return out


def test_the_optimum_of_a_toy_objective_is_found():
    least, best = min(searched(0), key=lambda one: one[0])
    assert best.method == "yarn"
    assert least < 0.1
    assert best.still == 1
    assert abs(math.log(best.numbers["beta"] / 2)) < 0.3


def test_proposals_are_a_function_of_the_seed():
    one, same, other = (searched(seed, 20) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_every_proposal_lies_in_its_ranges():
    for _, candidate in searched(1, 30):
        for one in RANGES[candidate.method]:
            assert one.low <= candidate.numbers[one.name] <= one.high
        assert 0 <= candidate.still <= STILL[candidate.method]


def test_an_infinite_value_is_no_reason_to_stop():
    proposals = Proposals(RANGES, STILL, 0)
    proposals.add(Candidate("linear", {"factor": 2.0}), math.inf)
    for _ in range(15):
        number, _candidate = proposals.ask()
        proposals.tell(number, math.inf)
