"""Finding a checkpoint: the embedded demo, the fetched SmolLM2, a folder, a GGUF file, a name on the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qroar_core.bundled import ASSETS
from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.cache_folder import cache_dir as cache_dir  # many ask for it here
from qroar_core.models.cache_folder import cache_errors
from qroar_core.models.checkpoint_files import has, table_in
from qroar_core.models.formats.gguf.source import is_gguf, label_of
from qroar_core.models.formats.stored import StoredTensor
from qroar_core.models.hub_files import ADAPTER
from qroar_core.models.model_argument import FORMS, hub_model, typed_path
from qroar_core.models.snapshots import snapshot_of, snapshots_in
from qroar_core.progress import OnStep, Step, no_progress, run_cancellable

DEMO = ASSETS / "demo"


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint on disk and where it came from."""

    asked: str  # what the person typed
    label: str  # short name to show
    folder: Path  # holds config.json and the tokenizer's own files
    note: str = ""  # what the reader must know about it
    stored: Callable[[], dict[str, StoredTensor]] | None = None  # its tensors, where the folder's own are not they
    file: Path | None = None  # the GGUF file, where it is one
    config: dict[str, Any] | None = None  # config.json as it lies in the folder, once it has been read

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor as it lies in the file, packed or not; reads headers alone.

        Raises:
            BadCheckpoint: weights that are missing, pickled or cannot be read.
        """
        from qroar_core.models.formats.folder_tensors import headers

        placed: dict[str, Any] = dict(headers(self.folder)) if self.stored is None else self.stored()
        return {name: one.shape for name, one in placed.items()}

    def formats(self) -> frozenset[str]:
        """The number formats of the tensors in the folder, as safetensors spells them; none of a GGUF file."""
        from qroar_core.models.formats.folder_tensors import headers

        if self.stored is not None or self.folder is None or not any(self.folder.glob("*.safetensors")):
            return frozenset()
        return frozenset(one.dtype for one in headers(self.folder).values())

    def tensors(self) -> tuple[dict[str, StoredTensor], str]:
        """Every tensor by its Hugging Face name, read when asked, and what must be known about them.

        Raises:
            BadCheckpoint: weights that are missing, pickled or cannot be read.
            UnsupportedModel: weights quantized in a way that is not known here.
        """
        from qroar_core.models.formats.folder_tensors import refuse_second_copy
        from qroar_core.models.formats.quantized_folder import stored_tensors, unapplied

        if self.stored is not None:
            return self.stored(), self.note
        refuse_second_copy(self.folder)
        tensors, label = stored_tensors(self.folder, self.config)
        said = f"dequantized from {label}" if label else unapplied(self.folder, self.config)
        return tensors, "; ".join(filter(None, (said, self.note)))


def locate(asked: str, on_step: OnStep = no_progress) -> Source:
    """Turn MODEL into a folder on disk.

    Raises:
        BadCheckpoint: nothing there, not fetched yet, or a hub that cannot be reached.
        UnsupportedModel: a folder that is no model of its own.
        BadOutput: a cache folder that cannot be written.
    """
    if asked == "demo":
        return Source(asked, "demo", DEMO)
    if asked == "smollm2":
        from qroar_core.models.smollm2 import gguf_path

        return _from_gguf(gguf_path(), asked, "SmolLM2-135M-Instruct", on_step)
    path = typed_path(asked)
    if path.exists():
        return _from_path(path, asked, on_step)
    model = hub_model(asked)
    if model is not None:
        from qroar_core.models import hub

        return _from_path(hub.fetch(asked, model, on_step), asked, on_step)
    if path.suffix.lower() == ".gguf":
        raise BadCheckpoint("no such file", where=asked, do="check the path")
    raise BadCheckpoint(
        "no such model",
        where=asked,
        do=f"give demo, smollm2, a folder, a GGUF file or a hub id ({FORMS})",
    )


def _from_path(path: Path, asked: str, on_step: OnStep) -> Source:
    """A folder or a file on this disk; one in the hub's cache is called by its repository, not by its commit."""
    snapshot = snapshot_of(path)
    note = snapshot.words if snapshot else ""
    if path.is_dir():
        return _from_folder(path, asked, snapshot.label if snapshot else path.resolve().name, note)
    if path.is_file() and is_gguf(path):  # a pipe would wait for a writer
        return _from_gguf(path, asked, label_of(path), on_step, note)
    raise BadCheckpoint("not a checkpoint", where=asked, do="give a Hugging Face folder or a GGUF file")


def _from_folder(path: Path, asked: str, label: str, note: str = "") -> Source:
    refuse_adapter(path)
    if not has(path, "config.json") and (files := sorted(path.glob("*.gguf"))):
        raise BadCheckpoint(
            f"it holds GGUF files and no config.json: {', '.join(p.name for p in files[:12])}",
            where=str(path),
            do=f"name one, as in {path / files[0].name}",
        )
    if not (path / "config.json").is_file() and (commits := snapshots_in(path.resolve())):
        raise BadCheckpoint(
            "it is the hub's store of a repository, not a checkpoint",
            where=str(path),
            do=f"give one of its snapshots, as in {commits[-1]}",
        )
    return Source(asked, label, path, note=note)


def refuse_adapter(folder: Path) -> None:
    """A LoRA changes its base model's weights: read without them, or left out, it would be another model.

    Raises:
        UnsupportedModel: the folder holds an adapter that is not merged.
    """
    if not has(folder, ADAPTER):
        return
    said = table_in(folder / ADAPTER)
    base, kind = str(said.get("base_model_name_or_path") or ""), str(said.get("peft_type") or "LORA")
    kind = "a LoRA adapter" if kind == "LORA" else f"an adapter ({kind})"
    raise UnsupportedModel(
        f"it is {kind} for {base or 'a base model that it does not name'}",
        where=str(folder),
        do="merge it into the base model first (peft: merge_and_unload, save_pretrained) and give that folder",
    )


def _from_gguf(path: Path, asked: str, label: str, on_step: OnStep, note: str = "") -> Source:
    from qroar_core.models.formats.gguf.config_folder import template_folder
    from qroar_core.models.formats.gguf.opened import open_gguf

    step = Step("load", 0, 4, f"read {label}")
    opened = run_cancellable(lambda: open_gguf(path), on_step, step)
    with cache_errors():
        folder = run_cancellable(lambda: template_folder(opened, cache_dir()), on_step, step)
    note = "; ".join(filter(None, (f"dequantized from GGUF ({opened.label})", note)))
    return Source(asked, label, folder, note=note, stored=lambda: dict(opened.tensors), file=path)
