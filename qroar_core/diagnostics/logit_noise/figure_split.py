"""The logit noise taken apart: bands by position and by distance, or layers by position."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from qroar_core.diagnostics.logit_noise.figure import PARTS, REST, STILL
from qroar_core.diagnostics.logit_noise.figure_words import JUDGED, SHARE, SPREAD, band_spreads, layer_spreads, loudest
from qroar_core.diagnostics.logit_noise.result import LogitNoise, NoiseNull, rms
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import Draw, each_group
from qroar_core.figures.heatmaps import Panel, side_by_side
from qroar_core.figures.picture import Picture, counted_on
from qroar_core.result import Number

ALIKE = "random errors of its size"


def split(diagnosis: Diagnosis, rows: str = "band", name: str = "quantized") -> Picture | None:
    """The noise taken apart: bands by position and by distance, or layers by position with their attention KL.

    Args:
        diagnosis: of the model called `name`.
        rows: "band" or "layer".
    """
    noise = diagnosis.logit_noise
    if noise is None:
        return None
    positions, distances = [str(p) for p in noise.position], [str(d) for d in noise.distance]
    at = "query position, tokens"
    if rows == "band":
        both: list[tuple[str, LogitNoise | NoiseNull]] = [("RMS", noise)]
        both += [("null", noise.null)] if noise.null else []
        panels = [
            Panel(
                f"{title} by position", _rows(one.by_band_position, one.unrotated_position), positions, at, "position"
            )
            for title, one in both
        ]
        panels += [
            Panel(
                f"{title} by distance",
                _rows(one.by_band_distance, one.unrotated_distance),
                distances,
                "distance, tokens",
                "from distance",
            )
            for title, one in both
        ]
        numbers = [str(b.index) for b in diagnosis.bands] + [REST] * bool(noise.unrotated_position)
    else:
        panels = [
            Panel("RMS logit error", noise.by_layer, positions, at, "position"),
            *([Panel("null of RMS", noise.null_by_layer, positions, at, "position")] if noise.null_by_layer else []),
            Panel("attention KL", noise.kl_by_layer, positions, at, "position"),
            *(
                [Panel("null of KL", noise.null_kl_by_layer, positions, at, "position")]
                if noise.null_kl_by_layer
                else []
            ),
        ]
        numbers = [str(diagnosis.layer_number(i)) for i in range(len(noise.by_layer))]
    names = [number if number == REST else f"{rows} {number}" for number in numbers]
    table = pd.DataFrame(
        [
            {
                rows: number if rows == "band" else int(number),
                panel.word.removeprefix("from "): panel.columns[j],
                "measure": panel.title,
                "nats": value,
            }
            for panel in panels
            for number, row in zip(numbers, panel.z)
            for j, value in enumerate(row)
        ]
    )
    nulls = panels[1].z if panels[1].title.startswith("null") else None
    spreads = band_spreads(noise, 2) if rows == "band" else layer_spreads(noise, 2)
    late = [
        (
            STILL if name == REST else name,
            _late(panels[0].z[i]),
            _late(nulls[i]) if nulls else None,
            spreads[i] if i < len(spreads) else None,
        )
        for i, name in enumerate(names)
    ]
    found = "none at the farthest"
    if any(cell[1] for cell in late):
        found = loudest(late, "most from", SHARE if rows == "band" else ALIKE)
        found = f"at the farthest, {found[:1].lower()}{found[1:]}"
    return Picture(
        f"Where in the context does each {rows} make its noise? {name.capitalize()}: {found}",
        side_by_side(panels, names, "nats"),
        table,
        f"One row a {rows}, all maps on one scale. A row that brightens to the right gets noisier further out."
        + (_of_bands(noise) if rows == "band" else "")
        + (
            " Maps called null show random errors of the same average size, alike at every position and in every "
            "band." + _kl(noise, rows) + JUDGED + SPREAD * bool(spreads)
            if noise.null
            else ""
        ),
        counted_on(noise.sample),
    )


def _late(row: Sequence[Number]) -> Number:
    """RMS of the later half of a row."""
    return rms(row[len(row) // 2 :])


def _kl(noise: LogitNoise, rows: str) -> str:
    if rows != "layer" or noise.null is None:
        return ""
    return noise.null.older if noise.null_kl_by_layer else " The KL has none in this older file."


def _rows(bands: list, rest: list) -> list[list]:
    """Rows of a map by band, with the channels without rotation last where there are any."""
    return [*bands, rest] if rest else bands


def _of_bands(noise: LogitNoise) -> str:
    """What the rows are and that they do not add up."""
    still = any(None in row for row in noise.by_band)
    return (
        " Layers without RoPE are left out." * still
        + (f" The row {REST} holds the channels that RoPE leaves alone." if noise.unrotated_position else "")
        + PARTS
    )


FIGURES: dict[str, Draw] = {
    "logit_noise_split": each_group(split),
    "logit_noise_split_by_layer": lambda diagnosis: [split(diagnosis, "layer")],
}
