"""What every command stands on: where it is registered, its model, and the folder it writes."""

from __future__ import annotations

from pathlib import Path

import typer

from qroar_core.cli import show
from qroar_core.cli.settings import check
from qroar_core.errors import BadOutput

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


def new_folder(options: dict) -> Path | None:
    """--out of a command that writes one stage: must not exist yet."""
    if not options.get("out"):
        return None
    folder = Path(options["out"]).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadOutput("already exists", where=str(folder), do="choose a new folder")
    return folder
