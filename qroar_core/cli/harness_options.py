"""The options of `lm-eval`, and what they ask for as a spec."""

from __future__ import annotations

from typing import Any

from qroar_core.cli.check_options import about
from qroar_core.cli.options import option
from qroar_core.errors import BadSpec
from qroar_core.specs import HarnessSpec

FIELDS = {"num_fewshot": "fewshot", "limit": "limit", "batch_size": "batch", "length": "length", "seed": "seed"}
HARNESS = [
    option(
        "tasks", str | None, None, "tasks of lm-evaluation-harness, by name or as YAML files", metavar="T,FILE.yaml,..."
    ),
    option("include_path", str | None, None, "folder of YAML tasks beside the harness's own", metavar="DIR"),
    option("num_fewshot", int | None, None, "examples before each question; by default as the task says"),
    option("limit", int | None, None, "number of first documents of each task; by default all"),
    option("batch_size", int | None, None, "requests read at once; by default as many as have 2048 tokens together"),
    option("chat", bool, False, "ask through the tokenizer's chat template", "--chat"),
    option(
        "truncate",
        bool,
        False,
        "cut what stands before a question from the left where it does not fit, in place of refusing it",
        "--truncate",
    ),
]


def harness_spec(options: dict[str, Any]) -> HarnessSpec:
    """The options of `lm-eval` as a spec.

    Raises:
        BadSpec: names the option.
    """
    if not options.get("tasks"):
        raise BadSpec("which tasks?", where="--tasks", do="add --tasks hellaswag, or a YAML file")
    tasks = tuple(name.strip() for name in options["tasks"].split(","))
    with about("--tasks"):
        HarnessSpec(tasks)
    given = {field: options[name] for name, field in FIELDS.items() if options.get(name) is not None}
    for name, field in FIELDS.items():
        if field in given:
            with about(f"--{name.replace('_', '-')}"):
                HarnessSpec(tasks, **{field: given[field]})
    return HarnessSpec(
        tasks,
        include_path=options.get("include_path") or "",
        chat=options["chat"],
        truncate=options["truncate"],
        **given,
    )


def claimed_on(options: dict[str, Any]) -> HarnessSpec | None:
    """The tasks of a claim about accuracy; None where none is asked for.

    Raises:
        BadSpec: an option of tasks without any, or what `harness_spec` and the harness refuse.
    """
    from qroar_core.harness.tasks import require_installed

    if not options.get("tasks"):
        for one in HARNESS:
            if one.name != "tasks" and options[one.name] not in (None, False):
                flag = f"--{one.name.replace('_', '-')}"
                raise BadSpec("has nothing to act on", where=flag, do="add --tasks hellaswag, or a YAML file")
        return None
    require_installed()
    return harness_spec(options)
