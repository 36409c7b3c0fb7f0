"""OpenVINO through optimum-intel, which traces transformers' own model."""

from qroar_core.exporters.reader import Limit, Reader

READER = Reader(
    50,
    "OpenVINO",
    "2026.4 (optimum-intel 2.2)",
    "run on a CPU",
    ("hf",),
    (
        Limit(
            lambda export: export.rope_type == "dynamic",
            "freezes dynamic NTK at the length that it was converted with: export with --rope ntk.",
        ),
    ),
)
