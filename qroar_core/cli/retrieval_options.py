"""The options of `retrieve` as a spec."""

from __future__ import annotations

from typing import Any

from qroar_core.cli.check_options import about
from qroar_core.errors import BadSpec
from qroar_core.specs import RetrievalSpec


def retrieval_spec(options: dict[str, Any]) -> RetrievalSpec:
    """The spec, without lengths: those depend on the model.

    Raises:
        BadSpec: names the option.
    """
    given: dict[str, Any] = {"chat": not options.get("no_chat"), "seed": options.get("seed", 0)}
    if options.get("tasks"):
        given["tasks"] = tuple(options["tasks"].split(","))
    if options.get("depths"):
        try:
            given["depths"] = tuple(sorted({float(part) / 100 for part in options["depths"].split(",")}))
        except ValueError as error:
            raise BadSpec(
                f"not a list of percents: {options['depths']!r}", where="--depths", do="write for example 0,50,100"
            ) from error
        for depth in given["depths"]:
            if not 0 <= depth <= 1:
                raise BadSpec(f"a depth is 0 to 100 percent of the text, got {100 * depth:g}", where="--depths")
    given |= {name: options[name] for name in ("trials", "slack") if options.get(name) is not None}
    for name, value in given.items():
        with about(f"--{name}"):
            RetrievalSpec(**{name: value})
    return RetrievalSpec(**given)
