"""What a kept number of the headline is about, and the key that names it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Document, split, windows_held
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.specs.written import FORMERLY, YOUNGER, written

MEASUREMENT = 1  # raise it when the same key would give another number
SEED = 0
ROOT = Path(__file__).parents[1]
KEPT_AS = {now: before for before, now in FORMERLY.items()}


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a row of the table runs under, beside the setting's interpolation and quantizer."""

    name: str
    quantized: bool = True
    search: SearchSpec | None = None  # of the scales it runs with
    rotated: bool = False
    tied: bool = False  # under the pairs that `--tie auto` chooses at the search's length; needs a search


@dataclass(frozen=True, slots=True)
class Block:
    """One part of the table: remedies side by side on the same windows of one text."""

    words: str  # the quantizer
    quant: QuantSpec
    collection: str
    length: int  # tokens per window
    most: int  # windows, where the text holds as many
    remedies: tuple[Remedy, ...]
    split: str = "heldout"


def setting_of(loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec) -> dict[str, Any]:
    """What every number of this model, interpolation and quantizer depends on."""
    return {
        "measurement": MEASUREMENT,
        "model": loaded.fingerprint,
        "dtype": str(loaded.dtype),
        "device": loaded.device.type,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "rope": written(rope),
        "quantization": written(quant),
    }


def readable(loaded: LoadedModel, collection: str, part: str, length: int, least: int) -> list[Document]:
    """The documents of one split; where none or too few of them hold a window of `length`, all of them as one text."""
    documents = split(part, collection)
    if windows_held(loaded.tokenizer, documents, length) >= least:
        return documents
    return [Document(" + ".join(d.name for d in documents), "\n".join(d.text for d in documents))]


def told(spec: Any) -> Any:
    """A spec as plain values, without the fields that do not tell it from another; named as in the kept files."""
    if not is_dataclass(spec):
        return spec
    values = {one.name: getattr(spec, one.name) for one in fields(spec) if one.compare}
    younger = [name for name, usual in YOUNGER.items() if values.get(name) == usual]
    return {KEPT_AS.get(name, name): told(value) for name, value in values.items() if name not in younger}


def key_of(what: object) -> str:
    """16 hex digits naming plain values."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@cache
def commit() -> str:
    """The commit the code is at, with a plus where it was changed since; kept results do not count as changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
        return git("rev-parse", "--short=9", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
