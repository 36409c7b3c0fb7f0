"""The command `tradeoff`: loss against memory from what a sweep measured, and the cheapest format that loses little."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.options import OUT
from qroar_core.cli.root import app
from qroar_core.cli.takes import takes
from qroar_core.cli.tradeoff_options import TRADEOFF
from qroar_core.errors import BadSpec, QRoarError

if TYPE_CHECKING:  # `--help` starts without torch
    from qroar_core.tradeoffs.result import Tradeoff
    from qroar_core.tradeoffs.serving import Serving
    from qroar_core.tradeoffs.setup_tradeoff import SetupTradeoff

HEADER = ["format", "remedy", "bytes a token", "GB", "loss", "95 % interval", ""]


@app.command()
@takes(TRADEOFF, OUT)
def tradeoff(options: dict) -> None:
    """Show loss against K/V memory from what a sweep measured, and the cheapest format that loses less than asked."""
    _check(options)
    from qroar_core.library.tradeoff_call import measured
    from qroar_core.tradeoffs.point import require_loss
    from qroar_core.tradeoffs.report import ROPE, require_tradeoff_folder
    from qroar_core.tradeoffs.result import Tradeoff
    from qroar_core.transforms.file import write_atomically

    out = require_tradeoff_folder(options["out"]) if options.get("out") else None
    cells = Path(options["cells"]).expanduser() if options.get("cells") else None
    points = measured(options["file"], require_loss(options["loss"]), cells)
    found = Tradeoff.of(points, options["max_loss"], options["length"], options["batch"])
    serving = [_serving(one) for one in found.setups]
    if out is not None:
        found.save(out)
        for how in serving:
            if not isinstance(how, str) and how.rope_file:
                write_atomically(out / ROPE, how.rope_file)
    if options["json"]:
        tables._print(_plain(found, serving))
        return
    for one, served in zip(found.setups, serving, strict=True):
        _show(one, served)
    for note in found.notes:
        tables.line(f"{note}.")
    if out is not None:
        tables.line(f"written to {out}")


def _check(options: dict) -> None:
    """Raises BadSpec, naming the option, for a number that cannot be."""
    for name, least in (("max_loss", 0), ("length", 1), ("batch", 1)):
        value = options[name]
        if value is not None and not least <= value < float("inf"):
            do = f"give {least} or more"
            raise BadSpec(
                f"must be at least {least} and finite, got {value:g}", where=f"--{name.replace('_', '-')}", do=do
            )


def _serving(one: SetupTradeoff) -> Serving | str:
    """How the chosen point is served, or why that is not known."""
    from qroar_core.tradeoffs.serving import serving_of

    if one.choice.point is None:
        return ""
    try:
        return serving_of(one.choice.point, one.length)
    except QRoarError as problem:
        return f"How it is served is not known here: {problem}"


def _show(one: SetupTradeoff, serving: Serving | str) -> None:
    """The table, the sentences, and how the chosen point is served."""
    rows = [
        [
            row.quantizer,
            "" if row.remedy == "none" else row.remedy,
            f"{row.bytes_per_token:,.0f}",
            f"{row.GB:.3g}",
            f"{row.loss:+.4f}",
            "" if row.loss_low != row.loss_low else f"[{row.loss_low:+.4f}, {row.loss_high:+.4f}]",
            row.role,
        ]
        for row in one.table().itertuples(index=False)
    ]
    tables._table(f"{one.key.words}; GB at {one.length:,} tokens x {one.batch}", HEADER, rows)
    for sentence in one.sentences:
        tables.line(f"{sentence}.")
    if isinstance(serving, str):
        if serving:
            tables.line(f"{serving}.")
        return
    assert one.choice.point is not None
    tables.line(f"\nTo serve {one.choice.point.name}:\n")
    if serving.export:
        tables.line(f"    {serving.export}")
    for note in serving.notes:
        tables.line(f"  {note}.")
    tables.recipes(serving.recipes)


def _plain(found: Tradeoff, serving: list[Serving | str]) -> dict[str, Any]:
    """Everything as plain values."""
    setups = []
    for one, served in zip(found.setups, serving, strict=True):
        chosen, known = one.choice.point, not isinstance(served, str)
        setups.append(
            {
                "setup": asdict(one.key),
                "chosen": None if chosen is None else {"quantizer": chosen.quantizer, "remedy": chosen.remedy},
                "sentences": one.sentences,
                "points": one.table().astype(object).where(lambda frame: frame.notna(), None).to_dict("records"),
                "serving": asdict(served) if known else None,  # type: ignore[arg-type]
                "why_not_served": served if not known else "",
            }
        )
    return {"loss": found.loss, "max_loss": found.max_loss, "setups": setups, "notes": list(found.notes)}
