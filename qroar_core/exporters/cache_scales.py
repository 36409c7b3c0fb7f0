"""Scales of an fp8 K/V cache measured for a checkpoint, and written into it as compressed-tensors says them.

A k_scale and a v_scale a layer: the largest magnitude on calibration text over 448, the step of the preset
fp8-calibrated, to its last bit. They belong to the weights and the interpolation that they are written with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadCheckpoint, BadSpec
from qroar_core.exporters.check import Check
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.recipe import FROM_CHECKPOINT
from qroar_core.models.cache_scales import LARGEST, names_of
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Documents, windows
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.specs import QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales

WINDOWS = 4  # of calibration text
QUESTION = "scales of the K/V cache"


@dataclass(frozen=True, slots=True)
class CacheScales:
    """What was measured.

    Args:
        k, v: a scale a layer with attention, what K and V are divided by.
        text: what it was measured on.
    """

    k: tuple[float, ...]
    v: tuple[float, ...]
    text: str


def require_scaled_cache(quant: QuantSpec, format: str, where: str = "--cache-scales", do: str = "") -> None:
    """Refuse a cache or a format that has no scales in a checkpoint.

    Raises:
        BadSpec: names which of the two.
    """
    if not FORMATS[format].holds_cache_scales:
        able = ", ".join(name for name, one in FORMATS.items() if one.holds_cache_scales)
        raise BadSpec(f"{format} holds no scales of a K/V cache", where=where, do=f"export as {able}")
    if not reads_scales(quant, format):
        do = do or f"add --kv {FROM_CHECKPOINT}"
        raise BadSpec("this K/V cache reads no scales from a checkpoint", where=where, do=do)


def reads_scales(quant: QuantSpec, format: str) -> bool:
    """Whether a setup's cache reads scales from a checkpoint, and this format holds them."""
    preset = KV_PRESETS[FROM_CHECKPOINT]
    return FORMATS[format].holds_cache_scales and (quant.k, quant.v) == (preset.k, preset.v)


def measured(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    documents: Documents,
    length: int,
    *,
    weights: WeightQuantSpec | None = None,
    seed: int = 0,
) -> CacheScales:
    """Scales of the model as it is written, on windows of calibration text.

    Args:
        scales: the transform that goes into the weights.
        length: tokens of a window.
        weights: what the linear layers are rounded to.
    Raises:
        BadText: too little text.
        UnsupportedModel: a cache of another kind than K and V of its heads.
    """
    names_of(loaded)
    preset = KV_PRESETS[FROM_CHECKPOINT]
    condition = Condition(rope, QuantSpec(weights=weights, k=preset.k, v=preset.v), scales)
    texts = windows(loaded.tokenizer, documents, length, WINDOWS, seed, fewer=True)
    found = calibrated(loaded, condition, texts.ids).static
    tables = [getattr(found, name).double().tolist() for name in ("k", "v")]
    k, v = (tuple(map(_step, table)) for table in tables)
    return CacheScales(k, v, f"{texts.counted} of {length} tokens, digest {texts.digest}, seed {seed}")


def _step(absmax: float) -> float:
    """A float32; 1 where a layer has nothing but zeros, as no reader takes 0."""
    step = float(torch.tensor(absmax / LARGEST, dtype=torch.float32))
    return step or 1.0


def tensors_of(loaded: LoadedModel, scales: CacheScales) -> dict[str, Tensor]:
    """Name -> float32 of shape (1,), as llm-compressor writes them and vLLM and SGLang read them."""
    both = zip(names_of(loaded), zip(scales.k, scales.v, strict=True), strict=True)
    return {
        name: torch.tensor([value], dtype=torch.float32)
        for names, values in both
        for name, value in zip(names, values, strict=True)
    }


def with_scheme(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """`quantization_config` that asks for the cache, spelled by the library.

    Args:
        config: that of weights which are packed; None: they are whole.
    """
    from compressed_tensors import __version__
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationStatus

    args = QuantizationArgs(num_bits=8, type="float", strategy="tensor", symmetric=True, dynamic=False)
    alone = QuantizationConfig(
        config_groups={}, kv_cache_scheme=args, format="dense", quantization_status=QuantizationStatus.COMPRESSED
    )
    said = alone.model_dump(mode="json") | {"version": __version__}
    return said if config is None else {**config, "kv_cache_scheme": said["kv_cache_scheme"]}


def noted(scales: CacheScales | None) -> dict[str, Any]:
    """What qroar.json says of them; nothing where there are none."""
    return {} if scales is None else {"cache_scales": {**asdict(scales), "k": list(scales.k), "v": list(scales.v)}}


def checks(again: LoadedModel, note: Mapping[str, Any]) -> list[Check]:
    """The scales that a folder was loaded with, against those that were measured when it was written.

    Raises:
        BadCheckpoint: a note that does not say them as numbers.
    """
    said, found = note.get("cache_scales"), again.cache_scales
    if said is None:
        return [] if found is None else [Check(QUESTION, "there are some, and none were written", False)]
    if found is None or found.k is None or found.v is None:
        return [Check(QUESTION, "there are none in the files, or config.json does not ask for them", False)]
    try:
        wanted = [[float(x) for x in said[name]] for name in ("k", "v")]
    except (KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint("its scales of the K/V cache are no numbers", where="qroar.json") from error
    there = [[_step(x) for x in table.tolist()] for table in (found.k, found.v)]
    layers = len(there[0])
    off = sum(a != b for one, other in zip(wanted, there, strict=True) for a, b in zip(one, other, strict=False))
    same = off == 0 and all(len(one) == layers for one in wanted)
    answer = f"two of each of {layers} layers, " + (
        "all as measured" if same else f"{off or 'a number'} other than measured"
    )
    return [Check(QUESTION, answer, same)]
