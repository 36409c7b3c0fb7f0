"""`lm-eval`: tasks of lm-evaluation-harness on the model as it is served, in a table and a file beside its manifest."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from qroar_core.cli import tables
from qroar_core.cli.harness_options import HARNESS, harness_spec
from qroar_core.cli.options import EVALUATE, MODEL, OUT, SETTING
from qroar_core.cli.root import app, load_model, new_folder, written
from qroar_core.cli.settings import setting_of
from qroar_core.cli.takes import takes
from qroar_core.cli.texts import documents

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.harness.result import TaskScores

MANIFEST = "manifest.json"


@app.command("lm-eval")
@takes(MODEL, SETTING, EVALUATE[:1], HARNESS, OUT)
def lm_eval(options: dict) -> None:
    """Run tasks of lm-evaluation-harness on reference, quantized and tuned model, paired by document."""
    from qroar_core.harness import run as stage
    from qroar_core.harness.tasks import load_tasks, require_installed

    folder, texts, spec = new_folder(options), documents(options), harness_spec(options)
    require_installed()
    tasks = load_tasks(spec)  # a name that is no task must not cost the reading of a model
    from qroar_core.runs.folder import TASK_SCORES, manifest_of
    from qroar_core.transforms.file import from_file

    loaded = load_model(options)
    setting = setting_of(options, loaded)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    begun = time.perf_counter()
    with tables.progress() as on_step:
        result = stage.run(loaded, setting, scales, spec, texts["calibration"], on_step, tasks)
    seconds = round(time.perf_counter() - begun, 3)
    result = written(folder, TASK_SCORES, result)
    if folder:
        made = manifest_of(loaded, setting, "python -m qroar_core " + shlex.join(options["arguments"]))
        written(folder, MANIFEST, made.model_copy(update={"stages": {"lm-eval": seconds}}))
    show(result, options["json"])


def show(result: TaskScores, as_json: bool) -> None:
    """One row a task, metric and condition, and what changes between conditions."""
    if as_json:
        tables._print(result.model_dump(mode="json"))
        return
    rows = [
        [
            one.task,
            one.metric + (f" ({one.filter})" if one.filter != "none" else ""),
            one.model,
            one.scales,
            f"{one.value:.4f}",
            "" if one.stderr is None else f"±{one.stderr:.4f}",
            f"{one.documents}",
        ]
        for one in sorted(result.scores, key=result.order)
    ]
    header = ["task", "metric", "model", "scales", "score", "± se", "documents"]
    tables._table(f"{result.setup}, {result.text}", header, rows)
    for sentence in result.sentences:
        tables.line(sentence)
