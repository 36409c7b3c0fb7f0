"""One pass over one window is one unit of work: measured, written to disk at once, and never measured twice.

Every unit is kept under a key of all that its number depends on: the weights, the tokens, the interpolation, the
quantizers, the scales, and the version of the measurement. A unit whose key is not on disk is measured; so a killed
command goes on where it stopped, and what changed is measured anew. Searched scales are units too, a file each.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.checkpoint import digest_of
from qroar_core.evaluation.run import must_rotate
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.measure import measure
from qroar_core.models.stream import Condition
from qroar_core.models.text import Document, Windows, split, windows, windows_held
from qroar_core.scale_search.find_scales import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.specs.written import FORMERLY, YOUNGER, written
from qroar_core.transforms.file import from_file, to_file, write_atomically
from qroar_core.transforms.scales import Scales

MEASUREMENT = 1  # raise it when the same key would give another number
SEED = 0
STRETCHES = 8  # of a window, whose means are kept one by one
FEWEST_WINDOWS = 2  # one alone has no interval
ROOT = Path(__file__).parents[1]
KEPT_AS = {now: before for before, now in FORMERLY.items()}


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a row of the table runs under, beside the setting's interpolation and quantizer."""

    name: str
    quantized: bool = True
    search: SearchSpec | None = None  # of the scales it runs with
    rotated: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One part of the table: remedies side by side on the same windows of one text."""

    words: str  # the quantizer
    quant: QuantSpec
    collection: str
    length: int  # tokens per window
    most: int  # windows, where the text holds as many
    remedies: tuple[Remedy, ...]


@dataclass(slots=True)
class Passes:
    """The units of one model under one interpolation, and the folder that keeps them."""

    loaded: LoadedModel
    rope: RopeSpec
    folder: Path
    kept: dict[str, dict[str, Any]] = field(init=False)  # key -> record
    texts: dict[tuple[str, int, int], Windows] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.kept = {record["key"]: record for record in read_records(self.path)}

    @property
    def path(self) -> Path:
        """One JSON object a line, a pass each."""
        return self.folder / "passes.jsonl"

    @property
    def trained(self) -> int:
        """Tokens of the window that the model was trained on."""
        return self.loaded.geometry.original_context

    def heldout(self, block: Block) -> Windows:
        """The windows of a block: as many as the text holds, at most `block.most`."""
        asked = block.collection, block.length, block.most
        if asked not in self.texts:
            documents = readable(self.loaded, block.collection, "heldout", block.length, FEWEST_WINDOWS)
            count = max(1, min(block.most, windows_held(self.loaded.tokenizer, documents, block.length)))
            self.texts[asked] = windows(self.loaded.tokenizer, documents, block.length, count, SEED)
        return self.texts[asked]

    def record(self, block: Block, remedy: Remedy, window: int) -> dict[str, Any] | None:
        """What is kept of one unit; None where it, or the search of its scales, is still to do."""
        scales = self.scales(block, remedy)
        if remedy.search is not None and scales is None:
            return None
        return self.kept.get(key_of(self._what(block, remedy, scales, self.heldout(block).ids[window])))

    def run(self, block: Block, remedy: Remedy, window: int) -> None:
        """Measure one unit, whose scales are there, and keep it."""
        texts, scales = self.heldout(block), self.scales(block, remedy)
        ids = texts.ids[window]
        what = self._what(block, remedy, scales, ids)
        document, offset = texts.origin[window]
        record = {
            "key": key_of(what),
            "text": block.collection,
            "quantizer": block.words if remedy.quantized else "none",
            "remedy": remedy.name,
            "length": block.length,
            "window": window,
            "document": document,
            "offset": offset,
            "seed": SEED,
            **score(self.loaded, self._condition(block, remedy, scales), ids, self.trained),
            "commit": commit(),
            "date": str(date.today()),
            "what": what,
        }
        append(self.path, record)
        self.kept[record["key"]] = record

    def scales(self, block: Block, remedy: Remedy) -> Scales | None:
        """The kept scales of a remedy; None where it has none, or they are still to be searched."""
        if remedy.search is None:
            return None
        path = self._scales_path(block, remedy.search)
        return from_file(path, self.loaded)[0] if path.is_file() else None

    def search(self, block: Block, remedy: Remedy) -> None:
        """Search the scales of a remedy on calibration text, and keep them."""
        assert remedy.search is not None
        texts, began = self._search_texts(block, remedy.search), time.perf_counter()
        found = find_scales(self.loaded, Setting(self.rope, block.quant, search=remedy.search), texts)
        about = {
            "what": self._search_what(block, remedy.search),
            "seconds": round(time.perf_counter() - began, 1),
            "identity": found.is_identity,
            "commit": commit(),
            "date": str(date.today()),
        }
        kept = to_file(self.loaded, self.rope, block.quant, found, about)
        write_atomically(self._scales_path(block, remedy.search), kept.to_json())

    def about_search(self, block: Block, remedy: Remedy) -> dict[str, Any]:
        """What the file of a remedy's scales says about their search."""
        assert remedy.search is not None
        return from_file(self._scales_path(block, remedy.search), self.loaded)[1].search

    def _search_texts(self, block: Block, spec: SearchSpec) -> dict[str, list[Document]]:
        assert spec.length is not None
        texts = {name: split(name, block.collection) for name in ("calibration", "development")}
        texts["calibration"] = readable(self.loaded, block.collection, "calibration", spec.length, spec.windows)
        return texts

    def _scales_path(self, block: Block, spec: SearchSpec) -> Path:
        searched = "scales-and-angles" if spec.angles else "scales"
        name = f"{block.collection}-{block.words}-{searched}-{spec.length}".lower().replace(" ", "-")
        return self.folder / f"{name}-{key_of(self._search_what(block, spec))[:8]}.json"

    def _search_what(self, block: Block, spec: SearchSpec) -> dict[str, Any]:
        texts = self._search_texts(block, spec)
        read = windows(self.loaded.tokenizer, texts["calibration"], spec.length or 0, spec.windows, spec.seed)
        guard = hashlib.sha256("\n".join(document.text for document in texts["development"]).encode())
        return self._setting(block.quant) | {
            "search": told(spec),
            "calibration tokens": read.digest,
            "development text": guard.hexdigest()[:8],
        }

    def _condition(self, block: Block, remedy: Remedy, scales: Scales | None) -> Condition:
        quant = must_rotate(block.quant) if remedy.rotated else block.quant if remedy.quantized else QuantSpec()
        return Condition(self.rope, quant, scales)

    def _what(self, block: Block, remedy: Remedy, scales: Scales | None, ids: Tensor) -> dict[str, Any]:
        told = None if scales is None else [scales.mode, scales.bands, scales.nested(), scales.nested_angles()]
        return self._setting(self._condition(block, remedy, scales).quant) | {
            "scales": None if told is None else key_of(told),
            "tokens": digest_of(ids),
            "trained": self.trained,
        }

    def _setting(self, quant: QuantSpec) -> dict[str, Any]:
        return {
            "measurement": MEASUREMENT,
            "model": self.loaded.fingerprint,
            "dtype": str(self.loaded.dtype),
            "device": self.loaded.device.type,
            "torch": version("torch"),
            "transformers": version("transformers"),
            "rope": written(self.rope),
            "quantization": asdict(quant),
        }


def score(loaded: LoadedModel, condition: Condition, ids: Tensor, trained: int) -> dict[str, Any]:
    """One pass over a window (length,): mean NLL of all its tokens but the first, nats, and of those past `trained`.

    A token counts as past the trained window when the one it is predicted from stands at a position the model never
    had in training: position `trained` or later, counted from 0.
    """
    began = time.perf_counter()
    nll = measure(loaded, calibrated(loaded, condition, ids[None]), ids[None], len(ids) - 1).nll[0].double()
    past = nll[trained:]
    return {
        "nll": float(nll.mean()),
        "targets": len(nll),
        "nll_past": float(past.mean()) if len(past) else None,
        "targets_past": len(past),
        "nll_by_stretch": [float(piece.mean()) for piece in nll.split(-(-len(ids) // STRETCHES))],
        "seconds": round(time.perf_counter() - began, 1),
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


def read_records(path: Path) -> list[dict[str, Any]]:
    """The kept records. A line that a kill left half written is none, and its unit is measured again."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [], 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            print(f"{path.name}, line {number}: half written, measured again", file=sys.stderr)
    return records


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one line and see it onto the disk; a half written one before it is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, allow_nan=False) + "\n"
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


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
