"""What every command stands on: where it is registered, its model, and the folder it writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from qroar_core.cli import tables
from qroar_core.errors import BadOutput
from qroar_core.models.writable import require_writable_folder
from qroar_core.result import Result
from qroar_core.specs import BANDS
from qroar_core.version import VERSION

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.diagnostics.band_table import BandRow
    from qroar_core.models.loaded import LoadedModel

Written = TypeVar("Written", bound=Result)
app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="See and repair what RoPE interpolation plus quantization does to a language model.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"qroar {VERSION}")
        raise typer.Exit


@app.callback()
def qroar(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """What stands before any command."""


def load_model(options: dict) -> LoadedModel:
    """MODEL of the command."""
    from qroar_core.models import load

    with tables.progress() as on_step:
        return load.run(options["model"], device=options["device"], dtype=options["dtype"], on_step=on_step)


def say_bands(options: dict, loaded: LoadedModel) -> None:
    """Once a stage is done: say where it had fewer bands than usual because the model has fewer pairs."""
    pairs = loaded.geometry.n_pairs
    if options.get("bands", 0) is None and pairs < BANDS:
        tables.note(f"{pairs} frequency bands, not {BANDS}: the model has {pairs} RoPE pairs a head")


def written(folder: Path | None, name: str, result: Written) -> Written:
    """Write a result into --out, where one was asked, and return it as its file gives it back: what is then shown."""
    from qroar_core.transforms.file import write_atomically

    if folder:
        write_atomically(folder / name, result.to_json())
    return result.as_written()


def new_folder(options: dict) -> Path | None:
    """--out of a command that writes one stage: must not exist yet, and it must be possible to write it.

    Asked before any model is read: an hour of work is not to end at a folder that cannot be made.
    """
    if not options.get("out"):
        return None
    folder = Path(options["out"]).expanduser()
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise BadOutput("already exists", where=str(folder), do="choose a new folder")
    require_writable_folder(folder)
    return folder


def new_csv(options: dict) -> Path | None:
    """--csv of a command: must not exist yet, and its folder must be one that can be written to."""
    if not options.get("csv"):
        return None
    path = Path(options["csv"]).expanduser()
    if os.path.lexists(path):
        raise BadOutput("already exists", where=str(path), do="choose a new file")
    require_writable_folder(path.parent)
    return path


def write_bands(path: Path | None, rows: Sequence[BandRow]) -> None:
    """The table of bands as CSV, where one was asked for."""
    if path is None:
        return
    from qroar_core.diagnostics.band_table import to_csv
    from qroar_core.transforms.file import write_atomically

    write_atomically(path, to_csv(rows))


def run_folder(options: dict) -> None:
    """--out of `run`, which may exist and is then resumed; without one `runs` in the folder it is started in."""
    folder = Path(options.get("out") or "runs").expanduser()
    run = folder.is_dir() and ((folder / "manifest.json").is_file() or not any(folder.iterdir()))
    if options.get("out") and os.path.lexists(folder) and not run:
        raise BadOutput("exists and is not a run", where=str(folder), do="choose a new folder")
    require_writable_folder(folder)
