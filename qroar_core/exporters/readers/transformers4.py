"""transformers before 5, which reads `rope_theta` and `rope_scaling`."""

from dataclasses import replace

from qroar_core.exporters.reader import Limit, Reader, Recipe, Served
from qroar_core.exporters.readers.transformers5 import ROUNDS_BY_SCALES
from qroar_core.exporters.readers.transformers5 import recipe as as_in_5

PINNED = "4.57.3"
CAPPED = "gemma2"  # attention logits are capped, which its default attention does not do
EAGER = 'attn_implementation="eager"'
UNKNOWN = ("lfm2_moe", "qwen3_5_text", "qwen3_5_moe_text")


def recipe(served: Served) -> Recipe | None:
    """The same lines as of transformers 5, with eager attention where its default leaves something out."""
    found = as_in_5(served)
    if found is None:
        return None
    code = found.code
    if served.export.family == CAPPED:
        code = code.replace('dtype="auto")', f'dtype="auto", {EAGER})', 1)
    said = f"pip install transformers=={PINNED}: config.json says the interpolation in its words, too."
    return replace(found, code=code, notes=(said, *found.notes))


READER = Reader(
    20,
    "transformers",
    "4.57",
    "run on small models of every family; configuration_olmo2.py, modeling_deepseek_v2.py, "
    "modeling_gemma2.py `_supports_sdpa`",
    ("hf", "w4a16", "quantized"),
    (
        Limit(
            lambda export: export.family == "olmo2" and export.rope_type not in ("default", "linear", "dynamic"),
            "refuses every interpolation of OLMo 2 but linear and dynamic: export with --rope ntk.",
        ),
        Limit(
            lambda export: export.family == "deepseek_v2" and bool((export.rope or {}).get("mscale_all_dim")),
            "leaves mscale_all_dim out of DeepSeek V2's softmax scale, of its own checkpoints too: use transformers 5.",
        ),
        Limit(
            lambda export: export.family == CAPPED,
            f"leaves the cap of Gemma 2's attention logits out under sdpa, its default: load it with {EAGER}.",
        ),
        Limit(
            lambda export: export.family in UNKNOWN,
            "does not know this kind of model: use transformers 5.",
        ),
        ROUNDS_BY_SCALES,
    ),
    recipe=recipe,
    worker="transformers_worker",
    module="transformers",
    packages=(f"transformers=={PINNED}", "huggingface-hub==0.36.0", "tokenizers==0.22.1"),
    here=False,
)
