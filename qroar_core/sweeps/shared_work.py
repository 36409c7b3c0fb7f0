"""What the cells of a sweep share: models, texts, losses on the same windows, captures and diagnoses, each made once.

One process has one of these. A diagnosis is also kept on disk beside the cells, for other processes and sweeps.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadOutput, QRoarError
from qroar_core.models import load
from qroar_core.models.capture import Capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.shared_losses import SharedLosses
from qroar_core.models.text import Document, Texts
from qroar_core.models.text_choice import text_label, texts_of
from qroar_core.plain_file import is_there
from qroar_core.progress import OnStep
from qroar_core.setting import Setting
from qroar_core.shared import Shared
from qroar_core.sweeps.claims import Claims
from qroar_core.transforms.file import write_atomically

DIAGNOSES = "diagnoses"  # folder beside the cells


class SharedWork:
    """Caches of one process; cells in the order of `cell.in_groups` find in them what they share.

    Args:
        device, dtype: of every model.
        work: what Ray gave to this process, see `Claims`.
    """

    def __init__(self, device: str = "auto", dtype: str = "auto", work: str = "") -> None:
        self.device, self.dtype, self.work = device, dtype, work
        self.models: Shared[LoadedModel] = Shared()
        self.texts: Shared[tuple[Texts, str]] = Shared(most=8)
        self.losses = SharedLosses()
        self.captures: Shared[Capture] = Shared()
        self.diagnoses: Shared[Diagnosis] = Shared(most=4)
        self._refused: dict[str, QRoarError] = {}

    def model(self, name: str, on_step: OnStep) -> LoadedModel:
        """The loaded model.

        Raises:
            QRoarError: it cannot be loaded; a second cell of it is told so without another try.
        """
        if name in self._refused:
            raise self._refused[name]
        return self.models.of(name, lambda: self._load(name, on_step))

    def _load(self, name: str, on_step: OnStep) -> LoadedModel:
        self.losses.windows.clear()  # of the model before
        self.captures.clear()
        try:
            return load.run(name, device=self.device, dtype=self.dtype, on_step=on_step)
        except QRoarError as problem:
            self._refused[name] = problem
            raise

    def text(self, name: str) -> tuple[Texts, str]:
        """Documents of a text, and a digest of all of them.

        Raises:
            BadText: it cannot be read.
        """
        return self.texts.of((name, text_label(name)), lambda: _read(name))

    def diagnosis(
        self, loaded: LoadedModel, setting: Setting, texts: Texts, digest: str, root: Path, on_step: OnStep
    ) -> Diagnosis:
        """The diagnosis of a setting, as its file gives it back; `digest` names all that decides its numbers."""

        def made() -> Diagnosis:
            file = root / DIAGNOSES / f"{digest}.json"
            claims = Claims(root, self.work)
            with claims.awaited(f"diagnosis-{digest}", "diagnosis", lambda: is_there(file), on_step) as said:
                if said is None:
                    return Diagnosis.from_file(file, BadOutput)
                found = diagnose.run(loaded, setting, texts["calibration"], said).as_written()
                write_atomically(file, found.to_json())
                return found

        return self.diagnoses.of(digest, made)

    def counts(self) -> dict[str, dict[str, int]]:
        """By what is shared: how often it was made, and how often taken again."""
        kinds: dict[str, Shared] = {
            "models": self.models,
            "texts": self.texts,
            "references": self.losses.windows,
            "conditions": self.losses.conditions,
            "captures": self.captures,
            "diagnoses": self.diagnoses,
        }
        return {name: {"made": kind.made, "taken": kind.taken} for name, kind in kinds.items()}

    def __enter__(self) -> SharedWork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.losses.__exit__(None, None, None)
        self.captures.clear()
        self.models.clear()


def _read(name: str) -> tuple[Texts, str]:
    texts = texts_of(name)
    said = hashlib.sha256(text_label(name).encode())
    for split, documents in sorted(texts.items()):
        for one in documents:
            content = one.text if isinstance(one, Document) else f"{one.first} {one.last}"
            said.update(f"\n{split}\n{one.name}\n{content}".encode())
    return texts, said.hexdigest()
