"""Tables of the documents that are made from registries: `python -m docs.tables` writes them, a test compares them."""

from __future__ import annotations

import re
from pathlib import Path

from qroar_core.exporters.formats import FORMATS
from qroar_core.transforms.registry import flag, kinds

HERE = Path(__file__).parent


def transforms_table() -> str:
    """Every kind of transform: what it does, why it changes nothing, where it goes, who takes it."""
    rows = [
        f"| {one.label} | {'always' if one.switch is None else f'`{flag(name)}`'} | {one.formula} | {one.exact} "
        f"| {one.folded} | {one.taken_by} | {one.version} |"
        for name, one in kinds().items()
    ]
    head = "| kind | searched with | what it does | exact in full precision | goes into | taken by | `scales.json` |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def formats_table() -> str:
    """Every export format: what it is, who reads it, which kinds of transform it holds."""
    rows = [f"| `{name}` | {one.what} | {one.readers} | {one.transforms} |" for name, one in FORMATS.items()]
    return "\n".join(["| `--format` | what it is | read by | transforms |", "|---|---|---|---|", *rows])


TABLES = {"method.md": transforms_table, "runtimes.md": formats_table}  # document -> its table


def with_table(text: str, table: str) -> str:
    """A document with this table in place of the one that has the same first line."""
    head = re.escape(table.split("\n", 1)[0])
    found, count = re.subn(rf"^{head}\n(\|.*\n)+", lambda _: f"{table}\n", text, flags=re.M)
    if count != 1:
        raise ValueError(f"{count} tables begin with {table.split(chr(10), 1)[0]!r}")
    return found


if __name__ == "__main__":
    for name, table in TABLES.items():
        path = HERE / name
        path.write_text(with_table(path.read_text(), table()))
