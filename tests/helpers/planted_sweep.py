"""A sweep's folder and its cells with numbers that are known, no model read."""

import json
from statistics import fmean

from qroar_core.statistics.intervals import paired_interval
from qroar_core.sweeps.result import SweepRow
from qroar_core.sweeps.table import frame_of, write_table

REFERENCE = (2.0, 2.5, 3.0, 2.2)
COMMON = {"model": "demo", "rope": "yarn", "factor": 4.0, "rope_options": "", "length": 256, "text": "technical"}
# format, remedy -> bytes a token, what each window loses
LOSSES = {
    ("k=none", "none"): (2048.0, (0.0, 0.0, 0.0, 0.0)),
    ("kv=q8_0", "none"): (1088.0, (0.010, 0.012, 0.011, 0.009)),
    ("kv=q4_0", "none"): (576.0, (0.060, 0.061, 0.059, 0.062)),
    ("kv=q4_0", "rotation"): (576.0, (0.040, 0.041, 0.039, 0.042)),
    ("kv=int4", "none"): (640.0, (0.060, 0.000, 0.080, 0.019)),  # a little less on average, from window to window not
    ("kv=int2", "none"): (320.0, (0.9, 1.1, 1.0, 1.2)),
}


def row(quantizer, remedy, size, lost, reference=None, **other):
    """One cell of the table."""
    reference = REFERENCE[: len(lost)] if reference is None else reference
    mine = [a + b for a, b in zip(reference, lost, strict=True)]
    one = paired_interval(mine, reference)
    said = {
        "nll": round(fmean(mine), 6),
        "nll_reference": round(fmean(reference), 6),
        "loss": one.mean,
        "loss_low": one.low,
        "loss_high": one.high,
        "bytes_per_token": size,
        "windows": len(lost),
        "seed": 0,
        "status": "done",
        "run": f"cell-{quantizer}-{remedy}".replace("=", "-").replace(" ", "-"),
    }
    return SweepRow(quantizer=quantizer, remedy=remedy, **(COMMON | said | other))


def write_cell(folder, remedy, lost, reference=REFERENCE, kl=None, kl_se=None, length=256, window_kl=None):
    """What of a cell's evaluation is read."""
    condition = {"none": "quantized/identity", "rotation": "quantized/rotation"}.get(remedy, "quantized/tuned")
    mine = [a + b for a, b in zip(reference, lost, strict=True)]
    model, scales = condition.split("/")
    said = {
        "window_nll": {f"{length}/reference/identity": list(reference), f"{length}/{condition}": mine},
        "rows": [{"length": length, "model": model, "scales": scales, "kl_mean": kl, "close": {"kl_mean_se": kl_se}}],
    }
    if window_kl is not None:
        said["window_kl"] = {f"{length}/reference/identity": [0.0] * len(reference), f"{length}/{condition}": window_kl}
    folder.mkdir(parents=True, exist_ok=True)
    name = "evaluation.json" if remedy.startswith("scales") else "evaluation_untuned.json"
    (folder / name).write_text(json.dumps(said))


def write_sweep(folder, cells=None, losses=LOSSES, **other):
    """The table of these cells, and their folders below `cells`; returns the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row(*name, size, lost, **other) for name, (size, lost) in losses.items()]
    write_table(folder, frame_of(rows))
    if cells is not None:
        for one, (_, lost) in zip(rows, losses.values(), strict=True):
            write_cell(cells / one.run, one.remedy, lost)
    return rows
