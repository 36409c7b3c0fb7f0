"""What a person may type for MODEL: a built-in name, a path on this disk, or a name on the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qroar_core.errors import BadCheckpoint

REVISION = r"refs/pr/\d+|\w[\w.+/-]*?"
NAME = r"\w[\w.-]{0,95}"  # as long as the hub allows
FORM = re.compile(
    rf"(?P<repo>{NAME}/{NAME})(?:@(?P<revision>{REVISION}))?"
    rf"(?::(?P<quant>\w[\w.-]*)|/(?P<file>[^\0\r\n\\]+\.gguf))?(?:@(?P<last>{REVISION}))?",
    re.IGNORECASE,
)
FORMS = "org/name, org/name:Q4_K_M, org/name/file.gguf, each also with @revision at its end"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository, a revision of it ("" for the default branch), and for GGUF the quantization or the file."""

    repo: str
    revision: str = ""
    quant: str = ""
    file: str = ""

    @property
    def named(self) -> str:
        """`org/name`, or `org/name@revision`: what a quantization or a file is written behind."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse(asked: str) -> HubModel | None:
    """What a person typed as a name on the hub, or None where it cannot be one.

    `org/name`, `org/name:Q4_K_M`, `org/name/folder/file.gguf`; each with `@revision` at its end, or behind `org/name`.
    """
    found = FORM.fullmatch(asked)
    if found is None:
        return None
    said = {key: value or "" for key, value in found.groupdict().items()}
    last = said.pop("last")
    if last and said["revision"]:
        return None
    said["revision"] = last or said["revision"]
    if any(part in ("", ".", "..") for key in ("revision", "file") if said[key] for part in said[key].split("/")):
        return None
    return HubModel(**said)


def typed_path(asked: str) -> Path:
    """What a person typed as a path, the home folder filled in.

    Raises:
        BadCheckpoint: it cannot be one.
    """
    if not asked.strip():
        raise BadCheckpoint("no name and no path", where="model", do="name one")  # Path("") is the folder one is in
    try:
        path = Path(asked).expanduser()
        path.exists()  # a name too long for the file system raises here
    except (OSError, RuntimeError) as error:  # RuntimeError: ~nobody
        raise BadCheckpoint(f"not a usable path ({error})"[:200], where=asked[:80], do="check the path") from error
    return path


def hub_model(asked: str) -> HubModel | None:
    """What a person typed as a name on the hub; None where it is none, or where its first part is a folder here."""
    model = parse(asked)
    return None if model is None or Path(model.repo).is_dir() else model
