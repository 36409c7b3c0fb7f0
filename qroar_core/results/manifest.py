"""manifest.json: what made a run, so that it can be repeated and resumed."""

from __future__ import annotations

from typing import Any

from qroar_core.result import Result


class Manifest(Result):
    """Versions, specs, seed, model fingerprint, device and wall seconds per stage."""

    versions: dict[str, str]
    command: str
    model: dict[str, Any]
    specs: dict[str, Any]
    seed: int
    device: str
    dtype: str
    text: str
    stages: dict[str, float] = {}  # finished stage -> wall seconds
    source: str = ""  # what to load: the model as it was asked for
    replaces: str = ""  # the checkpoint's own interpolation, where the run's takes its place
    checksum: str = ""  # of weights, config and tokenizer; "" from before 2026-11-28: a sample of the weights was known
    date: str = ""  # when the run was begun, ISO 8601, UTC
