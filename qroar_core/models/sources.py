"""Finding a checkpoint: the embedded demo, the fetched SmolLM2, a folder, a .gguf file, a hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qroar_core.errors import BadCheckpoint
from qroar_core.models.formats.stored import StoredTensor
from qroar_core.progress import OnStep, Step, ignore, patiently

DEMO = Path(__file__).parents[2] / "assets" / "demo"
HUB_FILES = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.txt"]


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint on disk and where it came from."""

    asked: str  # what the person typed
    label: str  # short name to show
    folder: Path  # holds config.json and the tokenizer's own files
    note: str = ""  # what the reader must know about it
    stored: Callable[[], dict[str, StoredTensor]] | None = None  # its tensors, where the folder's own are not they

    def tensors(self) -> dict[str, StoredTensor]:
        """Every tensor by its Hugging Face name, read when asked.

        Raises:
            BadCheckpoint: weights that are missing, pickled or cannot be read.
        """
        from qroar_core.models.formats.folder_tensors import folder_tensors

        return folder_tensors(self.folder) if self.stored is None else self.stored()


def cache_dir() -> Path:
    """The user's cache folder for fetched and converted models; QROAR_CACHE overrides it."""
    base = os.environ.get("QROAR_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qroar"


def locate(asked: str, on_step: OnStep = ignore) -> Source:
    """Turn MODEL into a folder on disk.

    Raises:
        BadCheckpoint: nothing there, not fetched yet, or a hub that cannot be reached.
    """
    if asked == "demo":
        return Source(asked, "demo", DEMO)
    if asked == "smollm2":
        from qroar_core.models.smollm2 import gguf_path

        return _from_gguf(gguf_path(), asked, "SmolLM2-135M-Instruct", on_step)
    path = _as_path(asked)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BadCheckpoint("no such file", where=asked, do="check the path")
        return _from_gguf(path, asked, path.stem, on_step)
    if path.is_dir():
        return _from_folder(path, asked, on_step)
    if path.is_file():
        raise BadCheckpoint("not a checkpoint", where=asked, do="give a Hugging Face folder or a .gguf file")
    if asked.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", asked):
        raise BadCheckpoint(
            "no such model", where=asked, do="give demo, smollm2, a folder, a .gguf file or a hub id like org/name"
        )
    return _from_hub(asked, on_step)


def _as_path(asked: str) -> Path:
    try:
        path = Path(asked).expanduser()
        path.exists()  # a name too long for the file system raises here
    except (OSError, RuntimeError) as error:  # RuntimeError: ~nobody
        raise BadCheckpoint(f"not a usable path ({error})"[:200], where=asked[:80], do="check the path") from error
    return path


def _from_folder(path: Path, asked: str, on_step: OnStep) -> Source:
    from qroar_core.models.formats.quantized_folder import converted, quantization_of

    if not quantization_of(path):
        return Source(asked, path.resolve().name, path)
    folder, label = converted(path, on_step)
    return Source(asked, path.resolve().name, folder, note=f"dequantized from {label}")


def _from_gguf(path: Path, asked: str, label: str, on_step: OnStep) -> Source:
    from qroar_core.models.formats.gguf import open_gguf, template_folder

    step = Step("load", 0, 4, f"read {path.name}")
    opened = patiently(lambda: open_gguf(path), on_step, step)
    folder = patiently(lambda: template_folder(opened, cache_dir()), on_step, step)
    note = f"dequantized from GGUF ({opened.label})"
    return Source(asked, label, folder, note=note, stored=lambda: dict(opened.tensors))


def _from_hub(asked: str, on_step: OnStep) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    step = Step("load", 0, 4, f"download {asked}")
    try:
        folder = patiently(lambda: snapshot_download(asked, allow_patterns=HUB_FILES), on_step, step)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise BadCheckpoint(
            f"the hub cannot give it ({type(error).__name__})",
            where=asked,
            do="check the id and the connection, or give a local folder",
        ) from error
    return Source(asked, asked, Path(folder))
