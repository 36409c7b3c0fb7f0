"""transformers 5, which exports are written for and which `verify` compares them in."""

from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Limit, Reader, Recipe, Served
from qroar_core.exporters.recipe import cache_of

CACHES = {"quanto": ("quanto", {}), "hqq": ("hqq", {"axis_key": 1, "axis_value": 1})}  # presets -> backend, options


def recipe(served: Served) -> Recipe | None:
    """Python that loads a folder, and asks generate for this setup's cache where transformers has it."""
    if FORMATS[served.export.format].whole_file:
        return None
    path = str(served.path)
    lines = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained({path!r}, dtype="auto")',
        f"tokenizer = AutoTokenizer.from_pretrained({path!r})",
    ]
    notes = ["Scales are in the weights, the interpolation is in config.json: nothing of this software is needed."]
    if not FORMATS[served.export.format].own_weights:
        notes.append("transformers reads packed weights with the library compressed-tensors.")
    if served.export.cache_scales:
        notes.append("It needs the library compressed-tensors for the cache scales, and rounds K and V by them itself.")
    if served.export.rope_type == "dynamic":
        notes.append(
            f"generate takes max_position_embeddings, here the native window of {served.export.window:,} tokens, for "
            "the longest text unless it is given max_new_tokens: give it."
        )
    found = next((name for name in CACHES if cache_of(name, served.quant) is not None), None)
    if found is not None and served.quant.k is not None:
        backend, more = CACHES[found]
        config = {"backend": backend, "nbits": served.quant.k.bits, **more}
        words = ", ".join(f'"{key}": {_word(value)}' for key, value in config.items())
        lines += [
            'ids = tokenizer("Fellow citizens,", return_tensors="pt")',
            f'out = model.generate(**ids, cache_implementation="quantized", cache_config={{{words}}})',
        ]
        notes.append(f"That cache needs the library {'optimum-quanto' if backend == 'quanto' else 'hqq'}.")
    elif served.rounds_cache and not served.export.cache_scales:
        notes.append(
            "K and V are stored in full precision unless you ask generate for a quantized cache, and it has none like "
            "this setup's."
        )
    return Recipe("\n".join(lines), "python", tuple(notes))


def _word(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


ROUNDS_BY_SCALES = Limit(
    lambda export: export.cache_scales,
    "needs the library compressed-tensors for a folder with scales of an fp8 K/V cache, and rounds K and V by them "
    "itself, in the model's own number format.",
)
READER = Reader(
    15,
    "transformers",
    "5",
    "what this software runs on; quantizers/quantizer_compressed_tensors.py, compressed_tensors modeling/kvcache.py",
    ("hf", "w4a16", "quantized"),
    (ROUNDS_BY_SCALES,),
    recipe=recipe,
)
