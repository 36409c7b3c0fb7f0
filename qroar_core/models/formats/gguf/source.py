"""Which GGUF file a MODEL argument means, if it means one. Such a file is known by its first four bytes."""

from __future__ import annotations

from pathlib import Path

from qroar_core.errors import BadCheckpoint
from qroar_core.models.hub_files import SHARD
from qroar_core.models.model_argument import hub_model, typed_path
from qroar_core.models.snapshots import snapshot_of
from qroar_core.progress import OnStep, no_progress

MAGIC = b"GGUF"
LFS = b"version https://git-lfs"


def is_gguf(path: Path) -> bool:
    """Does the file begin as GGUF files do? Ollama keeps them without a suffix.

    Raises:
        BadCheckpoint: it is called .gguf and is none, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(LFS))
    except OSError as error:
        raise BadCheckpoint(f"cannot be read ({error.strerror})", where=str(path), do="check the path") from error
    if head.startswith(MAGIC):
        return True
    if path.suffix.lower() != ".gguf":
        return False
    if head == LFS:
        raise BadCheckpoint("a Git LFS pointer, not the file itself", where=str(path), do="run: git lfs pull")
    what = "it does not begin with GGUF" if head else "it is empty"
    raise BadCheckpoint(f"not a readable GGUF file ({what})", where=str(path), do="fetch it again")


def label_of(path: Path) -> str:
    """What a GGUF file is called: on the hub by its repository too, else by its file or, without a suffix, its header.

    Raises:
        BadCheckpoint: a file without a suffix whose header cannot be read.
    """
    if snapshot := snapshot_of(path):
        return snapshot.label
    if path.suffix.lower() == ".gguf":
        return SHARD.sub("", path.name)[: -len(".gguf")] or path.stem
    from qroar_core.models.formats.gguf.header import read_header

    name = read_header(path).get("general.name")
    return name.replace("/", "-")[:60] if isinstance(name, str) and name.strip() else path.name[:20]


def gguf_of(asked: str, on_step: OnStep = no_progress) -> Path | None:
    """The GGUF file behind what a person typed; None for the demo, folders and repositories of safetensors.

    One that a name on the hub means is fetched where it is not in the cache.

    Raises:
        BadCheckpoint: `smollm2` when it has not been fetched, a .gguf file that is not there, or a hub that refuses.
    """
    if asked in ("demo", "smollm2"):
        from qroar_core.models.smollm2 import gguf_path

        return gguf_path() if asked == "smollm2" else None
    path = typed_path(asked)
    if path.is_file():
        return path if is_gguf(path) else None
    if path.is_dir():
        return None
    model = hub_model(asked)
    if model is not None and (model.quant or model.file):
        from qroar_core.models import hub

        return hub.fetch(asked, model, on_step)
    if path.suffix.lower() == ".gguf":
        raise BadCheckpoint("no such file", where=asked, do="check the path")
    return None
