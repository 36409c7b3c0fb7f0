"""Tasks by name or file, as the harness itself finds and loads them, and what keeps them from being run here."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from qroar_core.errors import BadSpec, BadText
from qroar_core.harness.metrics import aggregations_named, require_metrics
from qroar_core.specs import HarnessSpec

YAML = (".yaml", ".yml")
MISSING = "pip install lm-eval, or this package with its extra [lm-eval]"


def require_installed() -> None:
    """Refuse, before any model is read, what cannot be run here.

    Raises:
        BadSpec: lm-evaluation-harness, or what it needs, is not installed.
    """
    try:
        import_module("lm_eval")
        import_module("lm_eval.evaluator")  # brings all that it needs
    except ImportError as error:
        lacking = f" (no module {error.name})" if error.name and error.name.split(".")[0] != "lm_eval" else ""
        raise BadSpec(f"lm-evaluation-harness is not installed{lacking}", where="lm-eval", do=MISSING) from None


def load_tasks(spec: HarnessSpec) -> dict[str, Any]:
    """What the harness's evaluator takes: `tasks` by name, and their `groups`, with the examples that are asked for.

    Raises:
        BadSpec: a name or file that is no task, a task that needs more than text or runs code that a model wrote, or a
            metric that the harness does not compute.
        BadText: its documents cannot be read, as without a network those of a hub.
    """
    from lm_eval.tasks import TaskManager

    folder = Path(spec.include_path).expanduser() if spec.include_path else None
    if folder is not None and not folder.is_dir():
        raise BadSpec("no such folder", where=f"--include-path {spec.include_path}", do="give a folder of YAML tasks")
    with quiet():
        manager = TaskManager(include_path=folder, include_defaults=False)
        names = [_named(task) for task in spec.tasks]
        for name in names:
            if name.endswith(YAML) and not Path(name).is_file():
                raise BadSpec("no such file", where=f"--tasks {name}", do="check the path")
        if any(name not in manager.all_tasks and not name.endswith(YAML) for name in names):
            manager = TaskManager(include_path=folder) if folder else _own_tasks()
        for name in names:
            if name not in manager.all_tasks and not name.endswith(YAML):
                raise BadSpec(f"no task {name!r}", where="--tasks", do=_advice(name, manager.all_tasks))
        random.seed(spec.seed)
        loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
        for name in names:
            try:
                with aggregations_named(name):
                    found = manager.load([name])
            except BadSpec:
                raise
            except Exception as error:  # of the task's own code, of its YAML, or of its data
                said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                said = f"{name} cannot be loaded: {said[:300].rstrip('.')}"
                raise BadText(said, where="--tasks", do=_loading(error)) from error
            for part, members in loaded.items():
                members |= found.get(part) or {}
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) or task.get_config("unsafe_code"):
            do = "leave it out, or run an export of the model in the harness itself, where that can be allowed"
            raise BadSpec(f"{name} runs code that the model wrote", where="--tasks", do=do)
        if getattr(task, "MULTIMODAL", False):
            raise BadSpec(f"{name} asks about pictures or sound", where="--tasks", do="choose tasks of text")
    with quiet():
        require_metrics(loaded)
    return loaded


@cache
def _own_tasks() -> Any:
    """What the harness brings: thousands of files, the reading of which takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _named(task: str) -> str:
    return str(Path(task).expanduser()) if task.endswith(YAML) else task


def _advice(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), 3)
    return f"did you mean {' or '.join(near)}?" if near else "see `lm-eval ls tasks`, or give a YAML file"


def _loading(error: Exception) -> str:
    """What to do where the documents of a task cannot be had."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ConnectionError", "OfflineModeIsEnabled", "DatasetNotFoundError", "LocalEntryNotFoundError"}:
        return "it is on a hub that cannot be reached: fetch it first, or point dataset_path of a local YAML at files"
    return "check the task and its files"


def set_examples(tasks: dict[str, Any], spec: HarnessSpec) -> list[str]:
    """Examples before each question, the same under every condition; gives what has to be said about it."""
    notes = []
    for name, task in tasks.items():
        own = task.get_config("num_fewshot")
        if spec.fewshot is not None and own == 0 and spec.fewshot:
            notes.append(f"{name}: the task itself fixes 0 examples")
        elif spec.fewshot is not None or own is None:
            task.set_config(key="num_fewshot", value=spec.fewshot or 0)
        task.set_fewshot_seed(seed=spec.seed)
    return notes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and no log of the harness: what matters of it is said in the result."""
    import datasets
    import tqdm
    from lm_eval.api import task

    for name in ("lm_eval", "datasets", "huggingface_hub", "evaluate"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    kept = [(module, module.tqdm) for module in (tqdm, task)]
    for module, _ in kept:
        module.tqdm = _no_bar
    try:
        yield
    finally:
        for module, bar in kept:
            module.tqdm = bar


def _no_bar(items: Iterable[Any], *_: Any, **__: Any) -> Iterable[Any]:
    return items
