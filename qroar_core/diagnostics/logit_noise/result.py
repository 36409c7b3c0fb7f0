"""Logit noise, as the file keeps it."""

from __future__ import annotations

from qroar_core.result import LayerBand, Number, PerBand, Result


class LogitNoise(Result):
    """RMS of (quantized - reference) attention logits, nats, mean over layers unless said."""

    position: list[int]
    rms: list[Number]
    attention_kl: list[Number]  # nats per row
    distance: list[int]
    rms_by_distance: list[Number]
    by_layer: list[list[Number]]  # [layer][row]
    kl_by_layer: list[list[Number]]  # attention KL, [layer][row]
    by_band: LayerBand  # [layer][band], RMS over rows
    by_band_position: list[PerBand]  # [band][row], mean over layers
    by_band_distance: list[PerBand]  # [band][distance], mean over layers
    kind: str  # which error: local to the layer's own q and k, or propagated through the model


class NoiseCurves(Result):
    """What LogitNoise pools over layers, over the layers of one group; same positions and distances."""

    rms: list[Number]
    attention_kl: list[Number]
    rms_by_distance: list[Number]
    by_band_position: list[PerBand]  # [band][row]; empty where the layers are not rotated, as the next
    by_band_distance: list[PerBand]
