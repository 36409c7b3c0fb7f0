"""The searches of the headline's remedies, a file each: what is there is not searched again.

A remedy that is tied needs its pairs chosen first. The choice is a file of its own, since at 16,384 tokens it takes
longer than the search that follows. It is made once, on one text, and taken for all: a model is served with one tie.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.headline_units import Block, Remedy, commit, key_of, readable, setting_of, told
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Document, split, windows
from qroar_core.scale_search import choose_ties
from qroar_core.scale_search.result_ties import TieChoice
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec, SearchSpec
from qroar_core.transforms.file import from_file, rope_from, to_file, write_atomically
from qroar_core.transforms.scales import Scales

CHOSEN_ON = "technical"  # the text on which pairs are chosen


@dataclass(frozen=True, slots=True)
class Kept:
    """What a search found, the interpolation it belongs to with its tied pairs, and what its file says about it."""

    scales: Scales
    rope: RopeSpec
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Searches:
    """The kept searches of one model under one interpolation."""

    loaded: LoadedModel
    rope: RopeSpec
    folder: Path

    def kept(self, block: Block, remedy: Remedy) -> Kept | None:
        """The scales of a remedy that needs some; None where they are still to be searched."""
        path = self._path(block, remedy)
        if not path.is_file():
            return None
        scales, content = from_file(path, self.loaded)
        return Kept(scales, rope_from(content.rope), content.search)

    def run(self, block: Block, remedy: Remedy) -> None:
        """Search the scales of a remedy on calibration text, under the pairs chosen first, and keep them."""
        spec, rope, about = _search_of(remedy), self.rope, {}
        texts = self._texts(block, spec)
        if remedy.tied:
            choice = self.choice(block, remedy) or self.choose(block, remedy)
            rope = replace(rope, tie=choice.tie)
            about = {"tie": choice.sentence, "seconds of the choice": round(choice.seconds, 1)}
        began = time.perf_counter()
        found = find_scales(self.loaded, Setting(rope, block.quant, search=spec), texts)
        about |= {
            "what": self._what(block, spec),
            "seconds": round(time.perf_counter() - began, 1),
            "identity": found.is_identity,
            "commit": commit(),
            "date": str(date.today()),
        }
        kept = to_file(self.loaded, rope, block.quant, found, about)
        write_atomically(self._path(block, remedy), kept.to_json())

    def choice(self, block: Block, remedy: Remedy) -> TieChoice | None:
        """The pairs chosen for a tied remedy, on `CHOSEN_ON`; None where they are still to be chosen."""
        path = self._choice_path(replace(block, collection=CHOSEN_ON), remedy)
        return TieChoice.from_file(path) if path.is_file() else None

    def choose(self, block: Block, remedy: Remedy) -> TieChoice:
        """Choose the pairs of a tied remedy, and keep the choice."""
        spec, block = _choosing(remedy), replace(block, collection=CHOSEN_ON)
        found = choose_ties.run(self.loaded, Setting(self.rope, block.quant, search=spec), self._texts(block, spec))
        write_atomically(self._choice_path(block, remedy), found.to_json())
        return found

    def _texts(self, block: Block, spec: SearchSpec) -> dict[str, list[Document]]:
        assert spec.length is not None
        texts = {name: split(name, block.collection) for name in ("calibration", "development")}
        texts["calibration"] = readable(self.loaded, block.collection, "calibration", spec.length, spec.windows)
        return texts

    def _path(self, block: Block, remedy: Remedy) -> Path:
        spec = _search_of(remedy)
        searched = "tied-maps" if remedy.tied else "scales-and-angles" if spec.angles else "scales"
        return self._named(block, searched, spec)

    def _choice_path(self, block: Block, remedy: Remedy) -> Path:
        return self._named(block, "ties", _choosing(remedy))

    def _named(self, block: Block, kind: str, spec: SearchSpec) -> Path:
        name = f"{block.collection}-{block.words}-{kind}-{spec.length}".lower().replace(" ", "-")
        return self.folder / f"{name}-{key_of(self._what(block, spec))[:8]}.json"

    def _what(self, block: Block, spec: SearchSpec) -> dict[str, Any]:
        texts = self._texts(block, spec)
        read = windows(self.loaded.tokenizer, texts["calibration"], spec.length or 0, spec.windows, spec.seed)
        guard = hashlib.sha256("\n".join(document.text for document in texts["development"]).encode())
        return setting_of(self.loaded, self.rope, block.quant) | {
            "search": told(spec),
            "calibration tokens": read.digest,
            "development text": guard.hexdigest()[:8],
        }


def _search_of(remedy: Remedy) -> SearchSpec:
    assert remedy.search is not None, f"{remedy.name} has no search"
    return remedy.search


def _choosing(remedy: Remedy) -> SearchSpec:
    """What a choice of pairs depends on: the length and how much text is read, not what is searched afterwards."""
    spec = _search_of(remedy)
    return SearchSpec(length=spec.length, windows=spec.windows, seed=spec.seed)
