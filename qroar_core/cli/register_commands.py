"""All commands: importing a module of commands registers them."""

from __future__ import annotations

from qroar_core.cli import app as _stages
from qroar_core.cli import dashboard as _dashboard
from qroar_core.cli import evidence as _evidence
from qroar_core.cli import harness_command as _harness_command
from qroar_core.cli import layers_command as _layers_command
from qroar_core.cli import presets_command as _presets_command
from qroar_core.cli import rope_command as _rope_command
from qroar_core.cli import sweep_command as _sweep_command
from qroar_core.cli.root import app

__all__ = [
    "_dashboard",
    "_evidence",
    "_harness_command",
    "_layers_command",
    "_presets_command",
    "_rope_command",
    "_stages",
    "_sweep_command",
    "app",
]
