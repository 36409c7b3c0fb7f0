"""What every command stands on: where it is registered, its model, and the folder it writes."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import typer

from qroar_core.cli import show
from qroar_core.cli.settings import check
from qroar_core.errors import BadOutput
from qroar_core.results.base import Result

Written = TypeVar("Written", bound=Result)
app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="See and repair what RoPE interpolation plus quantization does to a language model.",
)


def load_model(options: dict):
    """MODEL of the command, once its options make sense."""
    from qroar_core import load

    check(options)  # a typing slip must not cost the reading of gigabytes
    with show.progress() as on_step:
        return load.run(options["model"], device=options["device"], dtype=options["dtype"], on_step=on_step)


def written(folder: Path | None, name: str, result: Written) -> Written:
    """Write a result into --out, where one was asked, and return it as its file gives it back: what is then shown."""
    from qroar_core.models.scales_file import write_atomically

    if folder:
        write_atomically(folder / name, result.to_json())
    return result.as_written()


def new_folder(options: dict) -> Path | None:
    """--out of a command that writes one stage: must not exist yet."""
    if not options.get("out"):
        return None
    folder = Path(options["out"]).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadOutput("already exists", where=str(folder), do="choose a new folder")
    return folder
