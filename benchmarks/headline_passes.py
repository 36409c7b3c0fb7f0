"""One pass over one window is one unit of work: measured, written to disk at once, and never measured twice.

Every unit is kept under a key of all that its number depends on: the weights, the tokens, the interpolation, the
quantizers, the scales, and the version of the measurement. A unit whose key is not on disk is measured; so a killed
command goes on where it stopped, and what changed is measured anew. Searched scales are units too, a file each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.checkpoint import digest_of
from benchmarks.headline_searches import Searches
from benchmarks.headline_units import SEED, Block, Remedy, commit, key_of, readable, setting_of
from qroar_core.evaluation.run import must_rotate
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import Condition
from qroar_core.models.text import Windows, windows, windows_held
from qroar_core.models.window_losses import measure
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales

STRETCHES = 8  # of a window, whose means are kept one by one
FEWEST_WINDOWS = 2  # one alone has no interval


@dataclass(slots=True)
class Passes:
    """The units of one model under one interpolation, and the folder that keeps them."""

    loaded: LoadedModel
    rope: RopeSpec
    folder: Path
    file: str = "passes.jsonl"  # what is measured is added here; every passes*.jsonl of the folder is read
    kept: dict[str, dict[str, Any]] = field(init=False)  # key -> record
    texts: dict[tuple[str, str, int, int], Windows] = field(init=False, default_factory=dict)
    searches: Searches = field(init=False)

    def __post_init__(self) -> None:
        paths = sorted({self.path, *self.folder.glob("passes*.jsonl")})
        self.kept = {record["key"]: record for path in paths for record in read_records(path)}
        self.searches = Searches(self.loaded, self.rope, self.folder)

    @property
    def path(self) -> Path:
        """One JSON object a line, a pass each."""
        return self.folder / self.file

    @property
    def trained(self) -> int:
        """Tokens of the window that the model was trained on."""
        return self.loaded.geometry.original_context

    def windows_of(self, block: Block) -> Windows:
        """The windows of a block: as many as the text holds, at most `block.most`."""
        asked = block.collection, block.split, block.length, block.most
        if asked not in self.texts:
            documents = readable(self.loaded, block.collection, block.split, block.length, FEWEST_WINDOWS)
            count = max(1, min(block.most, windows_held(self.loaded.tokenizer, documents, block.length)))
            self.texts[asked] = windows(self.loaded.tokenizer, documents, block.length, count, SEED)
        return self.texts[asked]

    def record(self, block: Block, remedy: Remedy, window: int) -> dict[str, Any] | None:
        """What is kept of one unit; None where it, or the search of its scales, is still to do."""
        condition = self._condition(block, remedy)
        if condition is None:
            return None
        return self.kept.get(key_of(self._what(block, condition, self.windows_of(block).ids[window])))

    def lacks_search(self, block: Block, remedy: Remedy) -> bool:
        """Whether the scales of a remedy are still to be searched."""
        return remedy.search is not None and self.searches.kept(block, remedy) is None

    def run(self, block: Block, remedy: Remedy, window: int) -> None:
        """Measure one unit, whose scales are there, and keep it."""
        texts, condition = self.windows_of(block), self._condition(block, remedy)
        assert condition is not None
        ids = texts.ids[window]
        what = self._what(block, condition, ids)
        document, offset = texts.origin[window]
        record = {
            "key": key_of(what),
            "text": block.collection,
            "split": block.split,
            "quantizer": block.words if remedy.quantized else "none",
            "remedy": remedy.name,
            "length": block.length,
            "window": window,
            "document": document,
            "offset": offset,
            "seed": SEED,
            **score(self.loaded, condition, ids, self.trained),
            "commit": commit(),
            "date": str(date.today()),
            "what": what,
        }
        append(self.path, record)
        self.kept[record["key"]] = record

    def _condition(self, block: Block, remedy: Remedy) -> Condition | None:
        """What a remedy runs under; None where its search is still to do."""
        quant = must_rotate(block.quant) if remedy.rotated else block.quant if remedy.quantized else QuantSpec()
        if remedy.search is None:
            return Condition(self.rope, quant)
        found = self.searches.kept(block, remedy)
        if found is None:
            return None
        return Condition(found.rope, quant, found.scales if remedy.quantized else None)

    def _what(self, block: Block, condition: Condition, ids: Tensor) -> dict[str, Any]:
        return setting_of(self.loaded, condition.rope, condition.quant) | {
            "scales": None if condition.scales is None else self._key_of_scales(block, condition.scales),
            "tokens": digest_of(ids),
            "trained": self.trained,
        }

    def _key_of_scales(self, block: Block, scales: Scales) -> str:
        """A key of all that the scales hold."""
        if not scales.groups and scales.value_maps is None and scales.k_offset is None:
            return key_of([scales.mode, scales.bands, scales.nested(), scales.nested_angles()])
        whole = to_file(self.loaded, self.rope, block.quant, scales).model_dump(mode="json", exclude={"rope", "search"})
        return key_of(whole)


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
