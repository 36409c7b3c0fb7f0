"""LongRoPE: a factor per pair, found by search for one checkpoint and shipped with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec
from qroar_core.interpolations.base import (
    ATTENTION,
    ROUNDING,
    Formula,
    Interpolation,
    Method,
    Range,
    RopeParameterInputs,
    has_fixed_attention_factor,
)
from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor

KNOTS = 5  # of a searched list, evenly over the pairs; between them ln lambda_i is linear in i
DIGITS = 6  # significant ones of a searched factor, as many as files hold


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    """Raises BadSpec where no list is to be had, or one of a wrong length."""
    spec, pairs = asked.spec, asked.pairs
    long = spec.long_factor or asked.native.get("long_factor")
    short = spec.short_factor or asked.native.get("short_factor") or [1.0] * pairs
    if long is None:
        raise BadSpec(
            "LongRoPE needs a factor per pair and this checkpoint ships none",
            where="--rope longrope",
            do=f"pass --longrope-factors FILE, a JSON with long_factor and short_factor ({pairs} each)",
        )
    for name, numbers in (("long_factor", long), ("short_factor", short)):
        if len(numbers) != pairs:
            raise BadSpec(
                f"{name} has {len(numbers)} numbers, this model has {pairs} pairs",
                where="longrope",
                do=f"give {pairs} numbers, one a RoPE pair",
            )
        if not all(n > 0 for n in numbers):
            raise BadSpec(f"{name} must be positive", where="longrope", do="give numbers above 0")
    lists = {"long_factor": [float(n) for n in long], "short_factor": [float(n) for n in short]}
    return asked.block("longrope", original_max_position_embeddings=int(asked.context), **lists)


def list_factor(at: Interpolation) -> float:
    """The factor s at which the list holds: as asked, or L/L0 when none was asked for."""
    return at.spec.factor if at.spec.factor > 1 else max(at.length / at.context, 1.0)


def _slope(at: Interpolation) -> Tensor:
    """omega / lambda_i with lambda_i searched at one s only  ->  -(ln lambda_i / ln s) omega(s).

    Between 1 and s the path is taken as geometric, lambda_i(s') = lambda_i^(ln s' / ln s): the one that
    starts at no interpolation, meets the list, and is linear interpolation when all lambda_i = s. Up to
    L0 the short list holds whatever s is: slope 0. A lambda_i that float32 cannot tell from 1 is 1.
    """
    if at.length <= at.context:
        return at.native.double() * 0
    ln_lambda = (at.native.double() / at.scaled.double()).log()
    ln_lambda = ln_lambda.where(ln_lambda.abs() > ROUNDING, 0.0)
    return -ln_lambda / math.log(list_factor(at)) * at.scaled.double()


def _attention_factor_slope(at: Interpolation) -> float:
    """Of a(s) = sqrt(1 + ln s / ln L0); a setting or a checkpoint may fix it."""
    if has_fixed_attention_factor(at):
        return 0.0
    s = at.spec.factor
    return 1 / (2 * math.log(at.context * s)) if s > 1 else 0.0


def _own_options(block: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: tuple(float(n) for n in block[name]) for name in ("long_factor", "short_factor")}
    fixed = block.get("attention_factor")
    return lists if fixed is None else lists | {"attention_factor": float(fixed)}


def _llama_cpp(spec: RopeSpec, native: int) -> tuple[None, str]:
    return None, "llama.cpp knows LongRoPE for Phi-3 alone: elsewhere this interpolation cannot be served there."


def _searched(s: float, reach: float) -> tuple[Range, ...]:
    """The slowest pair's lambda, and of every other knot ln lambda as a share of that of the next slower one.

    So lambda never falls from a pair to a slower one.
    """
    shares = (Range(_share(knot), 0.0, 1.0, log=False) for knot in range(KNOTS - 1))
    slowest = Range("slowest", max(1.0, s / 2), 3 * s, formula="max(1, s/2) to 3 s")
    return (slowest, *shares, ATTENTION)


def _with_numbers(spec: RopeSpec, numbers: Mapping[str, float], pairs: int) -> RopeSpec:
    """Both lists alike, so that no frequency changes while a text grows past the native window."""
    logs = [math.log(numbers["slowest"])]
    for knot in reversed(range(KNOTS - 1)):
        logs.insert(0, logs[0] * numbers[_share(knot)])
    lists = tuple(float(f"{math.exp(_between(logs, _place(i, pairs))):.{DIGITS}g}") for i in range(pairs))
    return replace(spec, long_factor=lists, short_factor=lists, attention_factor=numbers["attention_factor"])


def _near(divisors: Sequence[float]) -> dict[str, float]:
    """The slowest pair's own lambda, and at every other knot that of the pairs beside it, as far as none falls."""
    listed = [max(0.0, math.log(x)) for x in divisors]
    at = [_between(listed, knot / (KNOTS - 1) * (len(listed) - 1)) for knot in range(KNOTS)]
    found = {"slowest": math.exp(at[-1])}
    for knot in reversed(range(KNOTS - 1)):
        at[knot] = min(at[knot], at[knot + 1])
        found[_share(knot)] = at[knot] / at[knot + 1] if at[knot + 1] else 0.0
    return found


def _share(knot: int) -> str:
    return f"share_{knot}"


def _place(pair: int, pairs: int) -> float:
    """Where a pair stands between the knots, from 0 to KNOTS - 1."""
    return pair / max(1, pairs - 1) * (KNOTS - 1)


def _between(values: Sequence[float], at: float) -> float:
    """Linear between neighbours of a list, `at` counted in its steps."""
    first = min(int(at), len(values) - 1)
    last = min(first + 1, len(values) - 1)
    return values[first] + (at - first) * (values[last] - values[first])


METHOD = Method(
    "LongRoPE",
    50,
    "arXiv 2402.13753",
    _parameters,
    _slope,
    attention_factor_slope=_attention_factor_slope,
    has_attention_factor=True,
    reads_window=True,
    takes_lists=True,
    factor_shown=list_factor,
    required_keys=("short_factor", "long_factor"),
    own_options=_own_options,
    llama_cpp=_llama_cpp,
    searched=_searched,
    with_numbers=_with_numbers,
    near=_near,
    formula=Formula(
        "omega_i / factor_i, lists that come with a checkpoint",
        "-(ln factor_i / ln s) omega_i(s)",
        "with the checkpoint",
    ),
)
