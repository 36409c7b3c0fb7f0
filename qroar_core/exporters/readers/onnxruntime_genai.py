"""onnxruntime-genai's model builder."""

from qroar_core.exporters.reader import Exported, Limit, Reader


def _ignored(export: Exported) -> bool:
    return export.family == "llama" and export.rope_type not in ("default", "llama3")


READER = Reader(
    60,
    "onnxruntime-genai",
    "0.18",
    "models/builders/llama.py `make_rope_init`, which overrides that of base.py",
    ("hf",),
    (
        Limit(
            _ignored,
            "ignores every interpolation of Llama but llama3, without a word: export with --rope ntk or llama3.",
        ),
    ),
)
