"""`predict`: diagnose, round each band alone, say whether the one tells the other."""

from __future__ import annotations

from qroar_core.cli import show, show_bands
from qroar_core.cli.root import load_model, new_csv, new_folder, say_bands, write_bands, written
from qroar_core.cli.settings import setting_of
from qroar_core.cli.texts import documents


def predict(options: dict) -> None:
    """Does the diagnosis tell which bands cost most? Each band rounded alone, on held-out text."""
    from qroar_core import diagnose
    from qroar_core import predict as stage
    from qroar_core.specs import PredictionSpec

    folder, csv, texts = new_folder(options), new_csv(options), documents(options)
    loaded = load_model(options)
    setting = setting_of(options, loaded)
    stage.require_bands(setting.quant)  # before the diagnosis, which takes a while
    asked = setting.diagnosis
    spec = PredictionSpec(length=asked.length, windows=setting.evaluation.windows, seed=asked.seed,
                          fewer=setting.evaluation.fewer)  # fmt: skip
    with show.progress() as on_step:
        diagnosis = diagnose.run(loaded, setting.rope, setting.quant, asked, texts["calibration"], on_step).as_written()
        result = stage.run(loaded, setting.rope, setting.quant, spec, texts["heldout"], diagnosis, on_step)
    written(folder, "diagnosis.json", diagnosis)
    result = written(folder, "prediction.json", result)
    rows = diagnosis.band_table(result)
    write_bands(csv, rows)
    say_bands(options, loaded)
    show.prediction(result, options["json"])
    if not options["json"]:
        show_bands.bands(rows)
