"""The options of `compare` as a spec."""

from __future__ import annotations

from typing import Any

from qroar_core.errors import BadSpec
from qroar_core.specs import ComparisonSpec


def comparison_spec(options: dict[str, Any]) -> ComparisonSpec:
    """The spec, without its search and windows: those depend on the model.

    Raises:
        BadSpec: names the option.
    """
    asked = options.get("methods")
    try:
        return ComparisonSpec(
            methods=tuple(asked.split(",")) if asked else (),
            band_scales=not options.get("no_band_scales"),
            calibration_tokens=options.get("calibration_tokens"),
            cache_bytes=options.get("cache_bytes"),
            seed=options.get("seed", 0),
        )
    except BadSpec as problem:
        named = {"calibration tokens": "--calibration-tokens", "cache_bytes": "--cache-bytes"}
        where = next((flag for words, flag in named.items() if problem.what.startswith(words)), "--methods")
        raise BadSpec(problem.what, where=where, do=problem.do) from None
