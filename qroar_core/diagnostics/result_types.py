"""The type of the result of a diagnostic that has no field of its own in `Diagnosis`: its folder's `result.RESULT`."""

from __future__ import annotations

from importlib import import_module

from qroar_core.diagnostics.result_base import DiagnosticResult


def result_type(name: str) -> type[DiagnosticResult]:
    """Of the diagnostic of this name, which is that of its folder."""
    found: type[DiagnosticResult] = import_module(f"qroar_core.diagnostics.{name}.result").RESULT
    return found
