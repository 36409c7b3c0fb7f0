"""The command `sweep`: many setups from one file, each a run folder, in one table."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from qroar_core.cli import tables
from qroar_core.cli.options import OUT, SWEEP
from qroar_core.cli.root import app
from qroar_core.cli.takes import takes
from qroar_core.errors import BadSpec
from qroar_core.large_imports import large_imports
from qroar_core.models.writable import require_writable_folder


@app.command()
@takes(SWEEP, OUT)
def sweep(options: dict) -> None:
    """Measure many setups from one YAML file, sharing what they have in common. A killed sweep goes on."""
    if not options.get("out"):
        raise BadSpec("where to?", where="sweep", do="add --out DIR")
    out = Path(options["out"]).expanduser()
    cells = Path(options["cells"]).expanduser() if options.get("cells") else None
    require_writable_folder(out)
    with large_imports(freeze=True):
        import_module("qroar_core.models.load")
    from qroar_core.sweeps import run as sweeps
    from qroar_core.sweeps.sweep_file import read_sweep

    asked = read_sweep(options["file"])
    with tables.progress() as on_step:
        frame = sweeps.run(asked, out, device=options["device"], dtype=options["dtype"], cells=cells, on_step=on_step)
    for status, count in frame["status"].value_counts().items():
        tables.line(f"{count} {status}")
    for why in frame.loc[frame["why"] != "", "why"].unique():
        tables.line(f"failed: {why}")
    tables.line(f"written to {out}")
