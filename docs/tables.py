"""Tables of the documents that are made from registries or kept results: `python -m docs.tables` writes them.

A test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import dropwhile, groupby, takewhile
from pathlib import Path

from qroar_core.diagnostics.figures import figures_of
from qroar_core.diagnostics.registry import diagnostics
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Exported, Served
from qroar_core.exporters.readers import readers, runnable
from qroar_core.interpolations.base import Range
from qroar_core.interpolations.registry import stretching
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.models.families import FAMILIES
from qroar_core.quantizers.large_bias import damage
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS
from qroar_core.remedies.methods import BY_NAME
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.scale_search.search_objectives import objectives
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.registry import flag, kinds

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"


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


def readers_table() -> str:
    """Every runtime that reads exports: by which name it is run, what it reads, and what it does otherwise."""
    rows = []
    for name, one in readers().items():
        runs = f"`{name}`" if one.module else ""
        formats = ", ".join(f"`{format}`" for format in one.formats)
        limits = " ".join(limit.says[0].upper() + limit.says[1:] for limit in one.limits)
        rows.append(f"| {one.name} | {formats} | {runs} | {limits} | {one.source} |")
    head = "| runtime | reads | `verify --runtime` | what it does otherwise | stated from |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def serving_table() -> str:
    """Every runtime that serves exports: its commands for one setup, of a folder and of a file."""
    rows = []
    for one in readers().values():
        for format in ("hf", "gguf-q8_0"):
            if one.recipe is not None and (found := one.recipe(_example(format))) is not None:
                lines = "<br>".join(f"`{line.strip()}`" for line in found.code.splitlines() if line.strip())
                rows.append(f"| {one.name} | `{format}` | {_cell(lines)} |")
    head = "| runtime | `--format` | how it is started with YaRN x4 at 8,192 tokens |"
    return "\n".join([head, "|---|---|---|", *rows])


def _example(format: str) -> Served:
    block = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    path = Path("FOLDER", "model.gguf") if FORMATS[format].whole_file else Path("FOLDER")
    export = Exported(format, "llama", block, "bfloat16", 8192)
    return Served(path, export, RopeSpec("yarn", 4.0), 2048, 128, "half", 8192, QuantSpec())


def measured_table() -> str:
    """What every runtime made of the exports of the demo: rows that `python -m benchmarks --keep runtimes` kept."""
    return kept_table(f"runtimes.{name}" for name in runnable())


def hub_table() -> str:
    """How many exports of well-known configs each runtime reads alike."""
    return kept_table(f"runtimes.hub.{name}" for name in runnable())


def harness_table() -> str:
    """What lm-evaluation-harness made of the exports of the demo."""
    return kept_table(["runtimes.lm_eval"])


def kept_table(parts: Iterable[str]) -> str:
    """The first tables of kept results, one below the other under one head; parts that were not kept are left out."""
    found: list[str] = []
    for part in parts:
        path = RESULTS / f"{part}.md"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            table = list(takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: line[:1] != "|", lines)))
            found += table[2:] if found else table
    return "\n".join(found)


def remedies_table() -> str:
    """Every remedy that a comparison measures: what it acts on, what it costs at run time, what the runtime needs."""
    rows = [
        f"| `{name}` | {one.name} | {one.group} | {one.run_time} | {one.runtime_change} | {one.source} |"
        for name, one in BY_NAME.items()
        if name != "plain"
    ]
    head = "| name | remedy | acts on | cost at run time | change in the runtime | source |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def interpolations_table() -> str:
    """Every interpolation that stretches RoPE: its frequencies, their slope in the factor, its attention factor."""
    rows = []
    for name, one in stretching().items():
        of = one.formula
        cells = (of.frequency, of.slope, of.attention_factor) if of else ("see its file",) * 3
        rows.append(f"| `{name}` | {one.label} | {' | '.join(map(_cell, cells))} |")
    head = "| `--rope` | interpolation | omega_i(s) | d omega_i / d ln s | attention factor |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def searched_interpolations_table() -> str:
    """Which numbers of every interpolation `tune-rope` searches, and between which bounds."""
    rows = []
    for name, one in stretching().items():
        ranges = one.searched(4.0, 4.0)
        numbers = ", ".join(f"`{number.name}`" for number in ranges)
        bounds = [(words, len(list(same))) for words, same in groupby(map(_bounds, ranges))]
        bounds_words = "; ".join(words + " each" * (count > 1) for words, count in bounds)
        rows.append(f"| `{name}` | {numbers or 'none: it is tried as it is'} | {bounds_words} |")
    return "\n".join(["| `--rope` | searched | bounds |", "|---|---|---|", *rows])


def _bounds(one: Range) -> str:
    ends = one.formula or f"{_number(one.low)} to {_number(one.high)}"
    return " ".join(filter(None, (ends, one.unit, "" if one.log else "(evenly)")))


def _number(value: float) -> str:
    """`3.2`; `1/16` where the number is the inverse of a whole one."""
    return f"1/{1 / value:.0f}" if 0 < value < 1 and (1 / value).is_integer() else f"{value:g}"


def diagnostics_table() -> str:
    """Every diagnostic with the page that shows it and the names of its figures."""
    rows = [
        f"| {one.label} | {one.page} | {', '.join(f'`{figure}`' for figure in figures_of(name))} |"
        for name, one in diagnostics().items()
    ]
    return "\n".join(["| diagnostic | page | figures for `plot` |", "|---|---|---|", *rows])


def families_table() -> str:
    """Every RoPE family: the architectures it is known by, and the file of transformers that it was read from."""
    rows = [
        f"| {one.name} | {', '.join(f'`{name}`' for name in one.architectures)} | `{one.source}` |" for one in FAMILIES
    ]
    return "\n".join(["| family | `architectures` of `config.json` | read from |", "|---|---|---|", *rows])


def error_metrics_table() -> str:
    """Every attention error metric of the search."""
    rows = [
        f"| {_named(name, SearchSpec().error_metric)} | {one.label} | {_cell(one.formula)} |"
        for name, one in error_metrics().items()
    ]
    return "\n".join(["| `--error-metric` | attention error metric | formula |", "|---|---|---|", *rows])


def search_methods_table() -> str:
    """Every search method, with the fields of `SearchSpec` that are its own."""
    rows = [
        f"| {_named(name, SearchSpec().method)} | {one.what} | {_fields(one.reads)} |"
        for name, one in search_methods().items()
    ]
    return "\n".join(["| `--method` | search method | its fields of `SearchSpec` |", "|---|---|---|", *rows])


def objectives_table() -> str:
    """Every objective of the search, with the fields of `SearchSpec` that are its own."""
    rows = [
        f"| {_named(name, SearchSpec().objective)} | {one.what} | {_fields(one.reads)} |"
        for name, one in objectives().items()
    ]
    return "\n".join(["| `--objective` | search objective | its fields of `SearchSpec` |", "|---|---|---|", *rows])


def _named(name: str, default: str) -> str:
    return f"`{name}`" + " (the default)" * (name == default)


def _fields(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(words: str) -> str:
    """A bar in a formula is no border of a cell."""
    return words.replace("|", "\\|")


def presets_table() -> str:
    """Every preset: how its runtime is asked for it, what it is, its memory, and what a K bias does to a cache."""
    rows = []
    for name, one in KV_PRESETS.items():
        size, found = one.bytes_per_token(HEAD_DIM), damage(one.k)
        errors = f"{found.plain:.1%} | {found.varying:.0%} | {found.whole:.1%}"
        rows.append(f"| `{name}` | {one.asked} | {one.what} | {size:.4g} ({size / (4 * HEAD_DIM):.0%}) | {errors} |")
    rows += [f"| `{name}` | {one.asked} | {one.what} | | | | |" for name, one in WEIGHT_PRESETS.items()]
    head = (
        "| preset | asked for by | what it is | bytes a token (of 16 bits) | error of K | error with a K bias "
        "| the same, of all of K |"
    )
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


HEAD_DIM = 128  # of the memory in the table of presets
TABLES = (  # document, table
    ("api.md", diagnostics_table),
    ("families.md", families_table),
    ("method.md", interpolations_table),
    ("method.md", searched_interpolations_table),
    ("method.md", search_methods_table),
    ("method.md", objectives_table),
    ("method.md", error_metrics_table),
    ("runtimes.md", presets_table),
    ("method.md", transforms_table),
    ("runtimes.md", formats_table),
    ("runtimes.md", readers_table),
    ("runtimes.md", serving_table),
    ("runtimes.md", measured_table),
    ("runtimes.md", hub_table),
    ("runtimes.md", harness_table),
    ("runtimes.md", remedies_table),
)


def with_table(text: str, table: str) -> str:
    """A document with this table in place of the one that has the same first line."""
    head = re.escape(table.split("\n", 1)[0])
    found, count = re.subn(rf"^{head}\n(\|.*\n)+", lambda _: f"{table}\n", text, flags=re.M)
    if count != 1:
        raise ValueError(f"{count} tables begin with {table.split(chr(10), 1)[0]!r}")
    return found


def write() -> None:
    """Write every table anew where it stands; one of results that were not kept stays as it is."""
    for name, table in TABLES:
        path = HERE / name
        if made := table():
            path.write_text(with_table(path.read_text(), made))


if __name__ == "__main__":
    write()
