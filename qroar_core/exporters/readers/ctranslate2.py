"""CTranslate2's converter of transformers models."""

from qroar_core.exporters.reader import Limit, Reader

READER = Reader(
    70,
    "CTranslate2",
    "4.8",
    "converters/transformers.py `_SUPPORTED_ROPE_SCALING`",
    ("hf",),
    (
        Limit(
            lambda export: export.rope_type not in ("default", "linear", "longrope", "llama3"),
            "refuses yarn and dynamic: export with --rope ntk or llama3.",
        ),
    ),
)
