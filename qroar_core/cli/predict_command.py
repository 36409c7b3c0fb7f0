"""`predict`: diagnose, round each band alone, say whether the one tells the other."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.cli import tables, tables_of_bands
from qroar_core.cli.root import load_model, new_csv, new_folder, say_bands, write_bands, written
from qroar_core.cli.settings import setting_of
from qroar_core.cli.texts import documents


def predict(options: dict) -> None:
    """Measure what rounding each band alone costs on held-out text, and how well the diagnosis predicts it."""
    from qroar_core.diagnostics import run as diagnose
    from qroar_core.diagnostics.band_table import band_table
    from qroar_core.evidence.prediction import run as stage
    from qroar_core.specs import PredictionSpec

    folder, csv, texts = new_folder(options), new_csv(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    stage.require_bands(setting.quant)  # before the diagnosis, which takes a while
    asked = setting.diagnosis
    spec = PredictionSpec(
        length=asked.length, windows=setting.evaluation.windows, seed=asked.seed, fewer=setting.evaluation.fewer
    )
    with tables.progress() as on_step:
        diagnosis = diagnose.run(loaded, replace(setting, diagnosis=asked), texts["calibration"], on_step).as_written()
        result = stage.run(loaded, setting, spec, texts["heldout"], diagnosis, on_step)
    written(folder, "diagnosis.json", diagnosis)
    result = written(folder, "prediction.json", result)
    rows = band_table(diagnosis, result)
    write_bands(csv, rows)
    say_bands(options, loaded)
    tables.prediction(result, options["json"])
    if not options["json"]:
        tables_of_bands.bands(rows)
