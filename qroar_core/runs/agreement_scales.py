"""What of a run's scales, texts and names cannot be: each is computed from what the run itself says beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from qroar_core.models.text import COLLECTIONS, split
from qroar_core.quantizers.presets import preset_names, preset_quant
from qroar_core.scale_search.result import SearchReport
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, SearchSpec
from qroar_core.transforms.result import ScalesFile

LEFT_OPEN = 1e-3  # octaves that a file's six digits and the search's 32-bit numbers leave open, and more
SMOOTH, MAD = "scales_smooth_attention.json", "scales_mad.json"
UNQUANTIZED = re.compile(r"(?:fp|bf|float|bfloat)(?:16|32)", re.IGNORECASE)
BITS = re.compile(r"\bint(\d+)\b", re.IGNORECASE)


def bounds_against(report: SearchReport, spec: SearchSpec) -> Iterator[str]:
    """Bounds are those set by hand; else the side that no tail widens ends at the largest |log2 g| or before."""
    ends = [end for bands in report.bounds for end in bands]
    if spec.bounds is not None:
        for bands in report.bounds:
            if len(bands) == len(spec.bounds) and not _close(bands, spec.bounds):
                yield "bounds: others than those set by hand in its manifest"
                return
        return
    furthest = max((-low for low, _ in ends) if spec.mode == "symmetric" else (high for _, high in ends), default=0.0)
    if furthest > spec.max_log2_scale + LEFT_OPEN:
        yield f"bounds: {furthest:.3g} octaves, its manifest allows {spec.max_log2_scale:g}"


def found_against(found: ScalesFile, report: SearchReport) -> Iterator[str]:
    """No scale that was found lies beyond the bounds of its search; what the guard shrinks moves towards 1."""
    for layer, (low, high) in _octaves(found):
        for band, (least, most) in enumerate(zip(low, high, strict=True)):
            bounds = report.bounds if layer is None else [report.bounds[layer % len(report.bounds)]]
            ends = [one[band] for one in bounds if band < len(one)]
            if not ends:
                return
            below, above = min(end[0] for end in ends), max(end[1] for end in ends)
            if least < below - LEFT_OPEN or most > above + LEFT_OPEN:
                octaves = least if least < below - LEFT_OPEN else most
                yield f"g: log2 {octaves:.3g} in band {band}, search.json bounds it by {below:.3g} and {above:.3g}"
                return


def baseline_against(name: str, content: ScalesFile, mode: str) -> Iterator[str]:
    """Scales from statistics turn nothing, MAD clipping only divides K, and where scales are shared there are none."""
    if any(angle for angle in _numbers(content.angles or [])):
        yield "angles: some, and scales from statistics alone turn no pair"
    least = min(_numbers(content.g), default=1.0)
    if name == MAD and least < 1 - LEFT_OPEN:
        yield f"g: {least:.3g}, and MAD clipping leaves every scale at 1 or above it"
    if mode == "shared" and not content.is_identity:
        yield "g: not 1, and shared scales have no baseline from statistics"


def documents_against(documents: Sequence[str], text: str) -> Iterator[str]:
    """Held-out documents of one embedded collection are not those of another."""
    if text not in COLLECTIONS:
        return
    own = _held_out(text)
    for other in COLLECTIONS:
        theirs = [name for name in documents if name in _held_out(other) and name not in own]
        if theirs:
            yield f"documents: {theirs[0][:60]} is of the text {other}, but the manifest has {text}"
            return


def name_against(quant: QuantSpec) -> Iterator[str]:
    """The name that every page shows does not say another number format than the quantizer has."""
    bits, said = _bits_of(quant), {int(number) for number in BITS.findall(quant.name)}
    of_preset = _bits_of(preset_quant(quant.name)) if quant.name in preset_names() else bits
    unquantized = UNQUANTIZED.fullmatch(quant.name) and bits - {16}  # a cache of 16-bit floats is what it says
    if unquantized or (bits and not bits & of_preset) or (said and not said & bits):
        yield f"quant.name: {quant.name[:60]!r}, its quantizer has {_listed(bits)}"


def in_the_setting(setting: Setting) -> Iterator[str]:
    """What of the manifest's setting contradicts itself."""
    yield from name_against(setting.quant)


def _octaves(found: ScalesFile) -> Iterator[tuple[int | None, tuple[list[float], list[float]]]]:
    """Least and largest log2 g of every band, layer by layer; of None where one scale is for all layers."""
    if found.granularity == "model":
        rows: list[tuple[int | None, Any]] = [(None, [found.g])]
    else:
        rows = [(at, [g] if found.granularity == "layer" else g) for at, g in enumerate(found.g)]
    for layer, heads in rows:
        columns = [[math.log2(g) for g in column] for column in zip(*heads, strict=True)]
        yield layer, ([min(column) for column in columns], [max(column) for column in columns])


@cache
def _held_out(collection: str) -> frozenset[str]:
    return frozenset(document.name for document in split("heldout", collection))


def _numbers(nested: Any) -> Iterator[float]:
    if isinstance(nested, list):
        for inner in nested:
            yield from _numbers(inner)
    else:
        yield float(nested)


def _bits_of(quant: QuantSpec) -> set[int]:
    parts = [quant.weights, quant.k, quant.v, quant.qk, quant.activations]
    return {part.bits for part in parts if part is not None}


def _close(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> bool:
    return all(abs(a - b) <= LEFT_OPEN for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def _listed(bits: set[int]) -> str:
    return " and ".join(f"{number} bits" for number in sorted(bits)) or "nothing quantized"
