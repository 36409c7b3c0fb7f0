"""The planted diagnosis, its logit noise with nulls and with channels that do not turn."""

from __future__ import annotations

from qroar_core.diagnostics.logit_noise.result import NoiseNull
from qroar_core.diagnostics.sample import Sample
from tests.helpers import planted

OLD = planted.diagnosis()
BLIND = NoiseNull(
    rms=[0.15, 0.16],
    rms_by_distance=[0.2, 0.2],
    noise_std=[0.1, 0.12],
    by_band_position=[[0.1, 0.1], [0.11, 0.12]],
    by_band_distance=[[0.1, 0.1], [0.12, 0.13]],
    unrotated_position=[0.01, 0.02],
    unrotated_distance=[0.03, 0.04],
)
FIELDS = {
    "null": BLIND,
    "sample": Sample(tokens=64, rows=2),
    "unrotated": [0.2, 0.7],
    "unrotated_position": [0.3, 0.6],
    "unrotated_distance": [0.5, 0.5],
    "logit_std": [2.0, 4.0],
    "noise_std": [0.1, 0.3],
    "logit_std_by_layer": [[1.0, 2.0], [2.0, 4.0]],
    "noise_std_by_layer": [[0.1, 0.1], [0.5, 1.0]],
    "null_by_layer": [[0.14, 0.15], [0.16, 0.17]],
    "null_by_band": [[0.1, 0.1], [0.1, None]],
    "null_unrotated": [0.05, 0.06],
}


def mended(**changes):
    return OLD.model_copy(update={"logit_noise": OLD.logit_noise.model_copy(update=FIELDS | changes)})


D = mended()
