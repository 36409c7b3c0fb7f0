"""transformers before 5, which reads `rope_theta` and `rope_scaling`."""

from qroar_core.exporters.reader import Limit, Reader

READER = Reader(
    20,
    "transformers",
    "4.57",
    "run; models/phi3/configuration_phi3.py `_rope_scaling_validation`",
    ("hf", "w4a16", "quantized"),
    (
        Limit(
            lambda export: export.family == "phi3" and export.rope_type not in ("default", "longrope"),
            "refuses every interpolation of Phi-3 but LongRoPE: use transformers 5.",
        ),
    ),
    worker="transformers_worker",
    module="transformers",
    packages=("transformers==4.57.3", "huggingface-hub==0.36.0", "tokenizers==0.22.1"),
    here=False,
)
