"""Options of what keeps some layers' cache from quantization, and their spec."""

from __future__ import annotations

from typing import Any

from qroar_core.cli.check_options import about
from qroar_core.cli.options import option
from qroar_core.specs.layers import LayerChoiceSpec

CACHE_BYTES = [
    option(
        "cache_bytes",
        float | None,
        None,
        "budget for protected layers: the most that the whole K/V cache may take once some are kept, bytes a token; by "
        "default room for an eighth of the layers, two at least",
        metavar="B",
    ),
]
LAYERS = [
    *CACHE_BYTES,
    option(
        "sensitivity",
        str,
        "kept",
        "what a layer is worth: kept, the KL won where only it is kept; quantized, lost where only it is quantized",
    ),
]


def layer_choice_spec(options: dict[str, Any]) -> LayerChoiceSpec:
    """The options of `protect-layers`, without the held-out windows: those depend on the length.

    Raises:
        BadSpec: names the option.
    """
    given = {name: options[name] for name in ("cache_bytes", "sensitivity", "seed")}
    for name, value in given.items():
        with about(f"--{name.replace('_', '-')}"):
            LayerChoiceSpec(**{name: value})
    return LayerChoiceSpec(**given)
