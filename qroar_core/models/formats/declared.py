"""What a folder says about its own quantization, in the files and under the names that tools have used.

`quantization_config` in config.json is today's place. compressed-tensors once wrote `compression_config`; AutoGPTQ,
AutoAWQ and ModelOpt write a file of their own, beside or instead of it. Where two places speak, they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qroar_core.errors import BadCheckpoint
from qroar_core.models.checkpoint_files import has, table_in
from qroar_core.models.formats.awq import OLD_NAMES

KEYS = ("quantization_config", "compression_config")  # of config.json
GPTQ_FILE, AWQ_FILE, MODELOPT_FILE = "quantize_config.json", "quant_config.json", "hf_quant_config.json"
NEEDED = ("bits", "group_size", "sym", "desc_act")  # what AutoGPTQ's file has to say


def quantization_of(folder: Path, config: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The settings that a folder declares, with a `quant_method`; None where it declares none.

    Args:
        config: config.json, where it has been read before.
    Raises:
        BadCheckpoint: settings that are no table, or two that contradict each other.
    """
    found = [(f"config.json {key}", block) for key, block in _in_config(folder, config)]
    for name, read in ((GPTQ_FILE, _gptq), (AWQ_FILE, _awq), (MODELOPT_FILE, _modelopt)):
        if has(folder, name):
            found.append((name, read(table_in(folder / name))))
    if not found:
        return None
    (first, block), *others = found
    for name, other in others:
        _require_agreement(folder, (first, block), (name, other))
    if first == GPTQ_FILE and (missing := [key for key in NEEDED if block.get(key) is None]):
        raise BadCheckpoint(f"it does not say {', '.join(missing)}", where=str(folder / first), do="fetch it again")
    return block


def fp8_cache(block: Mapping[str, Any] | None) -> bool:
    """Whether settings ask for a K/V cache of 8-bit floats with one fixed scale a layer, by compressed-tensors."""
    scheme = (block or {}).get("kv_cache_scheme")
    if block is None or block.get("quant_method") != "compressed-tensors" or not isinstance(scheme, dict):
        return False
    wanted = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
    return all(scheme.get(key) == value for key, value in wanted.items()) and not scheme.get("dynamic")


def _in_config(folder: Path, raw: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    if raw is None and not has(folder, "config.json"):
        return []  # whoever needs one says so
    raw = table_in(folder / "config.json") if raw is None else raw
    tables = [table for table in (raw, raw.get("text_config")) if isinstance(table, dict)]
    places = [(key, table.get(key)) for table in tables for key in KEYS]
    for key, block in places:
        if block and not isinstance(block, dict):
            raise BadCheckpoint(
                f"its weights are quantized already: {key} is {str(block)[:40]}, no table of settings",
                where=str(folder),
                do="fetch it again",
            )
    return [(key, _named(key, block)) for key, block in places if block]


def _named(key: str, block: dict[str, Any]) -> dict[str, Any]:
    if key == "compression_config" and block.get("quant_method") in (None, "sparseml"):
        return block | {"quant_method": "compressed-tensors"}
    return block


def _gptq(raw: dict[str, Any]) -> dict[str, Any]:
    return {"quant_method": "gptq"} | raw


def _awq(raw: dict[str, Any]) -> dict[str, Any]:
    return {"quant_method": "awq"} | {OLD_NAMES.get(key, key): value for key, value in raw.items()}


def _modelopt(raw: dict[str, Any]) -> dict[str, Any]:
    return {"quant_method": "modelopt"} | raw


def _require_agreement(folder: Path, one: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]) -> None:
    """Two declarations say the same of every key that changes the numbers, where both have it."""
    keys = (
        "quant_method",
        "bits",
        "group_size",
        "sym",
        "desc_act",
        "checkpoint_format",
        "version",
        "zero_point",
        "quant_algo",
        "config_groups",
    )
    flat = [
        block | block["quantization"] if isinstance(block.get("quantization"), dict) else block
        for _, block in (one, other)
    ]
    for key in keys:
        said = [block.get(key) for block in flat]
        if None not in said and str(said[0]).lower() != str(said[1]).lower():
            raise BadCheckpoint(
                f"{one[0]} says {key} = {str(said[0])[:40]}, {other[0]} says {str(said[1])[:40]}",
                where=str(folder),
                do="remove the wrong one",
            )
