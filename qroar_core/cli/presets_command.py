"""`presets`: every cache and weight format of a runtime that a quantizer option takes by name."""

from __future__ import annotations

import typer

from qroar_core.cli import tables
from qroar_core.cli.root import app
from qroar_core.quantizers.preset import KVPreset, WeightPreset
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS

HEAD_DIM = 128  # of the memory that is shown, as in docs/runtimes.md


@app.command()
def presets(as_json: bool = typer.Option(False, "--json", help="print the table as JSON")) -> None:
    """List the K/V caches and weight formats of runtimes that --k, --v, --kv and --weights take by name."""
    found: list[tuple[str, str, KVPreset | WeightPreset, str]] = [
        *((name, "--kv", one, f"{one.bytes_per_token(HEAD_DIM):.4g}") for name, one in KV_PRESETS.items()),
        *((name, "--weights", one, "") for name, one in WEIGHT_PRESETS.items()),
    ]
    if as_json:
        keys = ("name", "option", "what", "bytes_per_token", "asked_for_by", "source")
        rows = [(name, how, _plain(one.what), size, _plain(one.asked), one.source) for name, how, one, size in found]
        tables._print([dict(zip(keys, row, strict=True)) for row in rows])
        return
    about = f"bytes of K and V for a token and KV head of {HEAD_DIM} channels, of which 16 bits take {4 * HEAD_DIM}"
    tables.line(f"Beside none and int2 to int8. Name, option, {about}, what it is:")
    wide = max(len(name) for name, *_ in found)
    for name, option, one, size in found:
        tables.line(f"{name:<{wide}}  {option:<9}  {size:>5}  {_plain(one.what)}")


def _plain(words: str) -> str:
    return words.replace("`", "")
