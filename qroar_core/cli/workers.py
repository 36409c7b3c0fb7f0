"""`--storage` and `--workers`: processes that share a search's candidates. Each loads the model for itself.

They end with the search, with this process, or when it is killed.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qroar_core.cli.check_options import storage_of
from qroar_core.errors import Cancelled, QRoarError
from qroar_core.progress import Step

LAST = 10.0  # seconds a worker may take to end after the search it worked on
DIAGNOSIS_POLL_SECONDS = 0.2  # seconds between looks for the diagnosis that bounds the search


@contextmanager
def workers(options: dict[str, Any], diagnosis: Path | None = None) -> Iterator[None]:
    """All workers of this command but the first, which is this process. They divide its threads.

    Args:
        diagnosis: the file that bounds the search, once it is there; None: the search has none.
    """
    count = options.get("workers", 1)
    if count == 1:
        yield
        return
    import torch

    before = torch.get_num_threads()
    threads = max(1, before // count)
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=work, args=(options, threads, diagnosis), daemon=True) for _ in range(count - 1)]
    for process in started:
        process.start()
    torch.set_num_threads(threads)
    try:
        yield
        for process in started:
            process.join(LAST)
    finally:
        torch.set_num_threads(before)
        for process in started:
            if process.is_alive():
                process.terminate()
                process.join()


def work(options: dict[str, Any], threads: int, diagnosis: Path | None) -> None:
    """What a worker does: the shared part of the search, and nothing else."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # by an exception: locks are given back
    import torch

    torch.set_num_threads(threads)
    try:
        _share(options, diagnosis)
    except Cancelled:
        pass  # the process that started this one is gone
    except QRoarError as error:
        sys.stderr.write(f"qroar: a worker ended: {error}\n")
        sys.exit(2)


def _share(options: dict[str, Any], diagnosis: Path | None) -> None:
    from qroar_core.cli.settings import setting_of
    from qroar_core.cli.texts import documents
    from qroar_core.diagnostics.result import Diagnosis
    from qroar_core.evaluation import run as evaluate
    from qroar_core.models import load
    from qroar_core.runs.pipeline import rotated_storage
    from qroar_core.scale_search import run as search

    loaded = load.run(options["model"], device=options["device"], dtype=options["dtype"], on_step=_while_wanted)
    setting, texts, storage = setting_of(options, loaded), documents(options), storage_of(options)
    assert storage is not None  # checked before anything was started
    bounding = None
    if diagnosis is not None:
        while not diagnosis.is_file():
            _while_wanted(Step("search", 0, 1))
            time.sleep(DIAGNOSIS_POLL_SECONDS)
        bounding = Diagnosis.from_file(diagnosis)
    search.join(loaded, setting, texts, storage, bounding, _while_wanted)
    if setting.evaluation.rotation_scales:
        beside = rotated_storage(storage)
        assert beside is not None
        quant = evaluate.must_rotate(setting.quant)
        search.join(loaded, replace(setting, quant=quant), texts, beside, None, _while_wanted)


def _while_wanted(step: Step) -> None:
    """Raises Cancelled once the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise Cancelled(step.stage)
