"""The text of a sweep's file from its lists, and what cannot be measured excluded by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from qroar_core.evaluation.run import rotated
from qroar_core.interpolations.rope_file import rope_text
from qroar_core.remedies.applicable import ROTATION
from qroar_core.remedies.methods import BY_NAME
from qroar_core.setup import quantization
from qroar_core.specs import RopeSpec
from qroar_core.sweeps.remedy_words import NONE, WORDS
from qroar_core.sweeps.sweep_file import ROPE_FIELDS, Sweep, sweep_of_text


def in_a_line(value: Any) -> str:
    """A plain value as YAML, without a line break."""
    return yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=1 << 20).strip()[1:-1]


def list_of(entries: Sequence[Any], typed: str = "") -> str:
    """Plain values as a list in one line, and behind them what a person typed as more of them, as it is."""
    return f"[{', '.join([*map(in_a_line, entries), *filter(None, [one_line(typed)])])}]"


def one_line(typed: str) -> str:
    """Lines of entries as entries of one list: whatever is in them, it makes no key of its own."""
    lines = (" ".join(line.split()).rstrip(", ") for line in typed.splitlines())
    return ", ".join(line for line in lines if line)


def written(asked: Mapping[str, str]) -> str:
    """The file: a key a line, its value as YAML has it in one line."""
    return "".join(f"{name}: {value}\n" for name, value in asked.items() if value)


def with_exclusions(lines: Mapping[str, str], typed: str, where: str) -> Sweep:
    """The sweep of these lines, and the text of its file: what cannot be measured is excluded, and what was typed.

    Raises:
        BadSpec: as `read_sweep` does of the file.
    """
    cells = sweep_of_text(written(lines), where).cells
    quantizers = {cell.quantizer_words: cell.quantizer for cell in cells}
    found = excluded(list(quantizers.values()), list(dict.fromkeys(cell.remedy for cell in cells)))
    exclude = {"exclude": list_of(found, typed)} if found or one_line(typed) else {}
    return sweep_of_text(written({**lines, **exclude}), where)


def rope_entry(rope: RopeSpec) -> dict[str, Any]:
    """The fields of an interpolation that are not its own, as a file takes them: without a tie."""
    said: dict[str, Any] = json.loads(rope_text(rope))
    return {name: value for name, value in said.items() if name in ROPE_FIELDS}


def excluded(quantizers: Sequence[Mapping[str, Any]], remedies: Sequence[str]) -> list[dict[str, Any]]:
    """Tables of `exclude` for remedies that cannot be measured under a quantizer.

    Raises:
        BadSpec: arguments that `qroar.quantization` cannot take.
    """
    return [
        {"quantizer": dict(quantizer), "remedy": left}
        for quantizer in quantizers
        if (left := [word for word in remedies if not _applies(quantizer, word)])
    ]


def _applies(quantizer: Mapping[str, Any], word: str) -> bool:
    """Whether a remedy can be measured under a quantizer."""
    quant = quantization(**quantizer)
    if word == NONE:
        return True
    if quant.is_none:
        return False
    if word == ROTATION:
        return rotated(quant) is not None
    return WORDS[word].condition != "" or BY_NAME[word].under(quant) is not None
