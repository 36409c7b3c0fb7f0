"""OpenVINO through optimum-intel, which traces transformers' own model."""

from qroar_core.exporters.reader import Limit, Reader

READER = Reader(
    50,
    "OpenVINO",
    "2026.4 (optimum-intel 2.2)",
    "run on a CPU, with transformers 4.57",
    ("hf",),
    (
        Limit(
            lambda export: export.rope_type == "dynamic",
            "freezes dynamic NTK at the length that it was converted with: export with --rope ntk.",
        ),
    ),
    worker="openvino_worker",
    module="optimum",
    packages=(
        *("openvino==2026.4.1", "openvino-telemetry==2025.2.0", "optimum==2.3.0", "optimum-intel==2.2.0"),
        *("transformers==4.57.3", "huggingface-hub==0.36.0", "tokenizers==0.22.1"),
    ),
    here=False,
)
