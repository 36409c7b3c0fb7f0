"""A spec as the plain values that files, keys and names of files are made of."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

YOUNGER: dict[str, Any] = {
    "tie": (),
    "attention_factor": None,
    "maps": False,
    "value_maps": False,
    "k_offset": False,
    "polish": False,
    "calibration_tokens": None,
    "keep_layers": (),
    "cache_bytes": None,
}  # fields that older files lack, and what they mean where they are left out


FORMERLY = {  # fields of the search in files and links of before 2026-11-30
    "judge": "error_metric",
    "kappa0": "max_log2_scale",
    "eta": "pressure_weight",
    "tau_tail": "tail_weight",
    "shrink": "l2_penalty",
}


def written(spec: Any) -> dict[str, Any]:
    """`dataclasses.asdict`, without a younger field that says nothing.

    So a setting without ties has the keys, the digests and the manifest that it had before there were any.
    """
    return asdict(spec, dict_factory=_without_younger)


def _without_younger(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if name not in YOUNGER or value != YOUNGER[name]}


def under_todays_names(noted: Any) -> Any:
    """What an older file or link holds of specs, with every field under the name that it has now."""
    if not isinstance(noted, dict):
        return noted
    return {FORMERLY.get(name, name): under_todays_names(value) for name, value in noted.items()}
