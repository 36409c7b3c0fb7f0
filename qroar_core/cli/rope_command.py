"""`tune-rope`: the interpolation chosen on the quantized model, in a file that every command takes as `--rope`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.early import about
from qroar_core.cli.graceful_sigint import graceful_sigint
from qroar_core.cli.options import MODEL, OUT, SETTING, TUNE_ROPE, takes
from qroar_core.cli.root import app, load_model, new_folder, written
from qroar_core.cli.settings import setting_of
from qroar_core.cli.texts import documents
from qroar_core.errors import Cancelled
from qroar_core.specs import RopeSearchSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.rope_search.result import RopeSearch

ROPE = "rope.json"


@app.command("tune-rope")
@takes(MODEL, SETTING, TUNE_ROPE, OUT, intervals=True)
def tune_rope(options: dict) -> None:
    """Choose the interpolation in full precision and under the quantizer, and judge both choices both ways."""
    from qroar_core.interpolations.rope_file import rope_text
    from qroar_core.rope_search import run as stage
    from qroar_core.rope_search.result import RopeTrials
    from qroar_core.transforms.file import write_atomically

    folder, texts, spec = new_folder(options), documents(options), rope_search_spec(options)
    loaded = load_model(options)
    setting = setting_of({name: x for name, x in options.items() if name != "trials"}, loaded)  # trials of its own
    spec = replace(spec, heldout_windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)
    try:
        with tables.progress() as shown, graceful_sigint(shown) as on_step:
            result = stage.run(loaded, setting, spec, texts, on_step)
    except Cancelled as stop:
        if folder and isinstance(stop.partial, RopeTrials) and stop.partial.studies:
            write_atomically(folder / "rope_trials.json", stop.partial.to_json())
        raise
    result = written(folder, "tune_rope.json", result)
    if folder:
        kept = setting.rope if result.kept == "setting" else result.rope
        write_atomically(folder / ROPE, rope_text(kept))
    show(result, options["json"])
    if folder and not options["json"]:
        tables.line(f"{folder / ROPE} holds {_kept_words(result)}: --rope {folder / ROPE}")


def rope_search_spec(options: dict[str, Any]) -> RopeSearchSpec:
    """The options of `tune-rope`, without the held-out windows: those depend on the length.

    Raises:
        BadSpec: names the option.
    """
    given = {"trials": options["trials"], "seed": options["seed"], "short_length": options["short_length"]}
    if options["windows"] is not None:
        given["windows"] = options["windows"]
    for name, value in given.items():
        with about(f"--{name.replace('_', '-')}"):
            RopeSearchSpec(**{name: value})
    return RopeSearchSpec(**given)


def _kept_words(result: RopeSearch) -> str:
    return "the choice made under the quantizer" if result.kept == "quantizer" else "the setting's own interpolation"


def show(result: RopeSearch, as_json: bool) -> None:
    """The choices in both conditions, and what they say; with `as_json` all of it but the single trials."""
    from qroar_core.rope_search.figure import CONDITIONS, NAMES
    from qroar_core.rope_search.findings import measured
    from qroar_core.specs.labels import rope_words

    if as_json:
        tables._print(result.model_dump(mode="json", exclude={"studies", "native_inv_freq"}))
        return
    rows = [
        [
            NAMES[one.choice],
            CONDITIONS[one.quantized],
            f"{one.nll:.4f}",
            measured(one.gain) if one.gain else "",
            f"{one.short_nll:.4f}",
            measured(one.short_cost) if one.short_cost else "",
        ]
        for one in result.judged
    ]
    header = ["interpolation", "measured", "NLL", "gain over the setting's own"]
    header += [f"NLL at {result.short_length} tokens", "change there"]
    for chosen in result.chosen:
        tables.line(f"{NAMES[chosen.choice]}: {rope_words(chosen.spec)}")
    tables._table(result.measured_on, header, rows)
    for method, why in result.absent.items():
        tables.line(f"{method} was not tried: {why}")
    for sentence in result.sentences:
        tables.line(sentence)
