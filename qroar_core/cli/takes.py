"""How a command function gets its options: none of them empty, and checked before its imports begin."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from qroar_core.cli.settings import check
from qroar_core.errors import BadSpec
from qroar_core.large_imports import large_imports

ARGUMENTS = ("model", "what", "file")  # named by their place


def refuse_empty(options: dict[str, Any]) -> None:
    """An empty value is a shell's variable that is not set, `--text "$FILE"`: never the default instead.

    Raises:
        BadSpec: names the option.
    """
    for name, value in options.items():
        if isinstance(value, str) and not value.strip():
            if name in ARGUMENTS:
                raise BadSpec("is empty", where=name.upper(), do="give a value")
            raise BadSpec("is empty", where=f"--{name.replace('_', '-')}", do="give a value, or leave the option out")


def takes(
    *groups: list[inspect.Parameter], intervals: bool = False
) -> Callable[[Callable[[dict], None]], Callable[..., None]]:
    """Give a command function `f(options)` the typer signature of these groups; "arguments" is the line itself.

    The options of a command that reads a model are checked before it begins.

    Args:
        intervals: what the command measures comes with an interval over windows, so that one window is refused.
    """
    parameters = [p for group in groups for p in group]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def decorate(command: Callable[[dict], None]) -> Callable[..., None]:
        @wraps(command)
        def wrapper(context: typer.Context, **options: Any) -> None:
            refuse_empty(options)
            options |= {"arguments": context.obj, "intervals": intervals}
            if "model" in options:
                check(options)  # a typing slip must not cost the reading of gigabytes, nor the imports
            with large_imports(freeze=False):  # until `load_model` has its model
                command(options)

        wrapper.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in (context, *parameters)}
        return wrapper

    return decorate
