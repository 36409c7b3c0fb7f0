"""`tune-rope`: the interpolation chosen on the quantized model, in a file that every command takes as `--rope`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.check_options import about
from qroar_core.cli.graceful_sigint import graceful_sigint
from qroar_core.cli.options import MODEL, OUT, SETTING, TUNE_ROPE
from qroar_core.cli.root import app, load_model, new_folder, written
from qroar_core.cli.settings import setting_of
from qroar_core.cli.takes import takes
from qroar_core.cli.texts import documents
from qroar_core.errors import BadOutput, Cancelled
from qroar_core.models.writable import require_writable_folder
from qroar_core.specs import RopeSearchSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.rope_search.result import RopeSearch, RopeTrials

ROPE, TRIALS, RESULT = "rope.json", "rope_trials.json", "tune_rope.json"
FILES = {ROPE, TRIALS, RESULT}


@app.command("tune-rope")
@takes(MODEL, SETTING, TUNE_ROPE, OUT, intervals=True)
def tune_rope(options: dict) -> None:
    """Choose the interpolation in full precision and under the quantizer, and compare the choices on held-out text."""
    from qroar_core.interpolations.rope_file import rope_text
    from qroar_core.rope_search import run as stage
    from qroar_core.transforms.file import write_atomically

    folder, texts, spec = _folder(options), documents(options), rope_search_spec(options)
    trials = _stopped(folder) if folder else None
    loaded = load_model(options)
    setting = setting_of({name: x for name, x in options.items() if name != "trials"}, loaded)  # trials of its own
    spec = replace(spec, heldout_windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)
    with (
        _kept_trials(folder) as keep,
        tables.progress() as shown,
        graceful_sigint(shown) as on_step,
        _about_trials(folder),
    ):
        result = stage.run(loaded, setting, spec, texts, on_step, resume=trials, on_trials=keep)
    result = written(folder, RESULT, result)
    if folder:
        kept = setting.rope if result.kept == "setting" else result.rope
        write_atomically(folder / ROPE, rope_text(kept))
        for left in _half_written(folder):
            left.unlink(missing_ok=True)
        (folder / TRIALS).unlink(missing_ok=True)  # last: a search that is killed before goes on with it
    show(result, options["json"])
    if folder and not options["json"]:
        tables.line(f"{folder / ROPE} holds {_kept_words(result)}: --rope {folder / ROPE}")


def _folder(options: dict[str, Any]) -> Path | None:
    """--out: a new folder, or one with nothing but what a search that was stopped left there."""
    folder = Path(options["out"]).expanduser() if options.get("out") else None
    if folder is None or not folder.is_dir():
        return new_folder(options)
    whole = {path.name for path in folder.iterdir()} - {path.name for path in _half_written(folder)}
    if whole and (not (folder / TRIALS).is_file() or whole - FILES):
        return new_folder(options)
    require_writable_folder(folder)
    return folder


def _half_written(folder: Path) -> list[Path]:
    """What a search that was killed while it wrote a file left behind."""
    from qroar_core.transforms.file import temporary_prefix

    return [path for name in sorted(FILES) for path in folder.glob(f"{temporary_prefix(name)}*")]


@contextmanager
def _kept_trials(folder: Path | None) -> Iterator[Callable[[RopeTrials], None]]:
    """What writes the trials into --out as they are measured; where the search ends early, say that they are kept."""
    from qroar_core.rope_search.result import RopeTrials
    from qroar_core.transforms.file import write_atomically

    kept = False

    def keep(trials: RopeTrials) -> None:
        nonlocal kept
        if folder and trials.studies:
            write_atomically(folder / TRIALS, trials.to_json())
            kept = True

    try:
        yield keep
    except BaseException as stop:  # whatever ends it: a second Ctrl-C, a full disk, logits that are not finite
        if isinstance(stop, Cancelled) and isinstance(stop.partial, RopeTrials):
            keep(stop.partial)
        if folder and kept:
            tables.note(f"{folder / TRIALS} keeps what was measured; repeat the command to go on")
        raise


def _stopped(folder: Path) -> RopeTrials | None:
    """What a stopped search left in the folder, None where it is new.

    Raises:
        BadOutput: the file cannot be read, or does not say what it was measured under.
    """
    from qroar_core.rope_search.result import RopeTrials
    from qroar_core.rope_search.resume import require_known
    from qroar_core.runs.file_kinds import STOPPED_ROPE_SEARCH, other_kind_named

    if not (folder / TRIALS).is_file():
        return None
    with other_kind_named(folder / TRIALS, STOPPED_ROPE_SEARCH, BadOutput):
        trials = RopeTrials.from_file(folder / TRIALS, BadOutput)
    with _about_trials(folder):
        require_known(trials)
    return trials


@contextmanager
def _about_trials(folder: Path | None) -> Iterator[None]:
    """What is wrong with the trials that a search was to go on with, said of their file."""
    try:
        yield
    except BadOutput as problem:
        if folder is None or problem.where != "resume":
            raise
        do = "choose a new folder or the same options"
        raise BadOutput(problem.what, where=str(folder / TRIALS), do=do) from problem


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
    return "the choice made under the quantizer" if result.kept == "quantizer" else "the setup's own interpolation"


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
    header = ["interpolation", "measured", "NLL", "gain over the setup's own"]
    header += [f"NLL at {result.short_length} tokens", "change there"]
    for chosen in result.chosen:
        tables.line(f"{NAMES[chosen.choice]}: {rope_words(chosen.spec)}")
    tables._table(result.measured_on, header, rows)
    for method, why in result.absent.items():
        tables.line(f"{method} was not tried: {why}")
    for sentence in result.sentences:
        tables.line(sentence)
