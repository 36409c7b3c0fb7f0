"""A model of the Hugging Face hub on this disk: fetched with progress in bytes, and given up within seconds.

The work is done by a process of its own (`models.hub_download`), which is ended when `on_step` raises.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from qroar_core.errors import BadCheckpoint
from qroar_core.models.model_argument import HubModel
from qroar_core.progress import CANCEL_POLL_SECONDS, OnStep, Step

ROOT = Path(__file__).parents[2]  # where the package is found
LAST = 3.0  # seconds a process that was told to stop may take to clear up


def fetch(asked: str, model: HubModel, on_step: OnStep) -> Path:
    """The model's folder, or its GGUF file (the first where it is split), in the hub's cache.

    Raises:
        BadCheckpoint: no such repository, revision or file; no access, connection or room. One line each.
    """
    said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    with tempfile.TemporaryFile() as complaints, _started(asked, model, complaints) as process:
        threading.Thread(target=_listen, args=(process.stdout, said), name="qroar-hub", daemon=True).start()
        found = None
        try:
            found = _followed(asked, said, on_step)
        finally:
            _end(process, LAST if found else 0)
        if found is None:
            complaints.seek(0)
            last = (complaints.read().decode(errors="replace").strip().splitlines() or ["no word"])[-1][:160]
            raise RuntimeError(f"the download of {asked} ended with code {process.returncode}: {last}")
    if "error" in found:
        what, where, do = found["error"]
        raise BadCheckpoint(what, where=where, do=do)
    return Path(found["path"])


def _started(asked: str, model: HubModel, complaints: IO[bytes]) -> subprocess.Popen[str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "qroar_core.models.hub_download", json.dumps({"asked": asked, **asdict(model)})],
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        start_new_session=True,  # a Ctrl-C comes here alone
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )


def _listen(stream: IO[str] | None, said: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in stream or ():
        said.put(json.loads(line))
    said.put(None)


def _followed(asked: str, said: queue.SimpleQueue[dict[str, Any] | None], on_step: OnStep) -> dict[str, Any] | None:
    """Progress until the last word; None where the process ended without one."""
    step = Step("download", 0, 1, f"look for {asked} on the hub")
    while True:
        on_step(step)
        try:
            word = said.get(timeout=CANCEL_POLL_SECONDS)
        except queue.Empty:
            continue
        if word is None or "error" in word or "path" in word:
            return word
        done, total = word["done"], word["total"]
        step = Step("download", done, total, f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB downloaded")


def _end(process: subprocess.Popen[str], patience: float) -> None:
    """Wait for a process that has said its last word; one that has not is asked to stop, and then stopped."""
    for ask in (lambda: None, process.terminate, process.kill):
        ask()
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            patience = LAST
