"""What the option parser refuses, in the words of every other refusal: what, where and what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from typer._click.exceptions import ClickException

KINDS = {"integer": "whole number", "number": "number", "float": "number"}  # by the parser's word for it
EXAMPLES = {  # of options whose default is none, where 8 would make no sense
    "length": "2048",
    "short_length": "512",
    "targets": "256",
    "stride": "256",
    "calibration_tokens": "65536",
    "group_size": "32",
    "weight_group": "128",
    "factor": "2",
    "outlier_parameter": "1.5",
    "port": "8501",
}
NO_NUMBER = re.compile(r"\bvalid (integer|number|float)\b")


def refusal(error: ClickException, commands: Collection[str]) -> str:
    """One line, without the program's name."""
    message = " ".join(error.format_message().split()).rstrip(".")
    parameter, found = getattr(error, "param", None), NO_NUMBER.search(message)
    given = _given(error)
    if parameter is not None and found is not None and given is not None:
        flag = max(parameter.opts, key=len)
        usual = EXAMPLES.get(parameter.name) or (8 if parameter.default is None else parameter.default)
        return f"{flag}: not a {KINDS[found[1]]}: {given!r}; write for example {flag} {usual}"
    if option := getattr(error, "option_name", "") if "requires an argument" in message else "":
        return f"{option}: requires an argument; give a value, or leave the option out"
    if message.startswith("No such command"):
        return f"{message}; choose one of {', '.join(commands)}"
    context = getattr(error, "ctx", None)
    asked = context.command_path if context else ""
    return f"{message}; see {f'{asked} ' if asked else ''}--help"


def _given(error: ClickException) -> str | None:
    """The value that was refused, which the parser's own error has from pydantic; None where it has none."""
    read = getattr(error.__cause__, "errors", None)
    return str(read()[0].get("input")) if callable(read) else None
