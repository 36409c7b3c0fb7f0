"""OpenVINO through optimum-intel, which traces transformers' own model."""

from qroar_core.exporters.reader import Limit, Reader, Recipe, Served
from qroar_core.exporters.recipe import cache_of, no_such_cache


def recipe(served: Served) -> Recipe | None:
    """Python that converts the folder in memory and compiles it with the cache of this setup."""
    if served.export.format != "hf":
        return None
    found = cache_of("openvino", served.quant)
    config = {"KV_CACHE_PRECISION": "f16"}
    notes = [
        "optimum-intel 2.2 takes transformers 4.51 to 5.5. Without load_in_8bit=False it rounds weights of a billion "
        "parameters and more to 8 bits.",
    ]
    if found is not None:
        name, preset = found
        kind = "u8" if "u8" in name else "u4"
        config = {"KEY_CACHE_PRECISION": kind, "VALUE_CACHE_PRECISION": kind}
        if name.endswith("_channel"):
            config["KEY_CACHE_QUANT_MODE"] = "BY_CHANNEL"
        notes.append(preset.note)
    else:
        notes.append(
            "Where nobody says KV_CACHE_PRECISION its CPU plugin stores K and V in 8 bits, as preset ov_u8 does."
        )
        if served.rounds_cache:
            notes.append(no_such_cache("OpenVINO", "openvino"))
    if served.export.cache_scales:
        notes.append("Scales of an fp8 K/V cache were not tried with it: export without --cache-scales.")
    words = ", ".join(f'"{key}": "{value}"' for key, value in config.items())
    path = str(served.path)
    code = (
        "from optimum.intel import OVModelForCausalLM\n"
        "from transformers import AutoTokenizer\n\n"
        f"model = OVModelForCausalLM.from_pretrained(\n    {path!r}, export=True, load_in_8bit=False, "
        f"ov_config={{{words}}}\n)\n"
        f"tokenizer = AutoTokenizer.from_pretrained({path!r})"
    )
    return Recipe(code, "python", tuple(notes))


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
    recipe=recipe,
    worker="openvino_worker",
    module="optimum",
    packages=(
        *("openvino==2026.4.1", "openvino-telemetry==2025.2.0", "optimum==2.3.0", "optimum-intel==2.2.0"),
        *("transformers==4.57.3", "huggingface-hub==0.36.0", "tokenizers==0.22.1"),
    ),
    here=False,
)
