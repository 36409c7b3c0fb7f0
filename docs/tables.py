"""Tables of the documents that are made from registries: `python -m docs.tables` writes them, a test compares them."""

from __future__ import annotations

import re
from pathlib import Path

from qroar_core.exporters.formats import FORMATS
from qroar_core.quantizers.large_bias import damage
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS
from qroar_core.remedies.methods import BY_NAME
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


def remedies_table() -> str:
    """Every remedy that a comparison measures: what it acts on, what it costs at run time, what the runtime needs."""
    rows = [
        f"| `{name}` | {one.name} | {one.group} | {one.run_time} | {one.runtime_change} | {one.source} |"
        for name, one in BY_NAME.items()
        if name != "plain"
    ]
    head = "| name | remedy | acts on | cost at run time | change in the runtime | source |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def presets_table() -> str:
    """Every cache preset: how its runtime is asked for it, what it is, its memory, and what a K bias does to it."""
    rows = []
    for name, one in KV_PRESETS.items():
        size, found = one.bytes_per_token(HEAD_DIM), damage(one.k)
        errors = f"{found.plain:.1%} | {found.varying:.0%} | {found.whole:.1%}"
        rows.append(f"| `{name}` | {one.asked} | {one.what} | {size:.4g} ({size / (4 * HEAD_DIM):.0%}) | {errors} |")
    head = (
        "| preset | asked for by | what it is | bytes a token (of 16 bits) | error of K | error with a K bias "
        "| the same, of all of K |"
    )
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def weight_presets_table() -> str:
    """Every weight preset."""
    rows = [f"| `{name}` | {one.asked} | {one.what} |" for name, one in WEIGHT_PRESETS.items()]
    return "\n".join(["| weight preset | asked for by | what it is |", "|---|---|---|", *rows])


HEAD_DIM = 128  # of the memory in the table
TABLES = (  # document, table
    ("runtimes.md", presets_table),
    ("runtimes.md", weight_presets_table),
    ("method.md", transforms_table),
    ("runtimes.md", formats_table),
    ("runtimes.md", remedies_table),
)


def with_table(text: str, table: str) -> str:
    """A document with this table in place of the one that has the same first line."""
    head = re.escape(table.split("\n", 1)[0])
    found, count = re.subn(rf"^{head}\n(\|.*\n)+", lambda _: f"{table}\n", text, flags=re.M)
    if count != 1:
        raise ValueError(f"{count} tables begin with {table.split(chr(10), 1)[0]!r}")
    return found


if __name__ == "__main__":
    for name, table in TABLES:
        path = HERE / name
        path.write_text(with_table(path.read_text(), table()))
