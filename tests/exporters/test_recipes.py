"""How every runtime is started with an export: its own options for this interpolation, length and cache.

Expected options were read in the runtimes' own sources: vLLM 0.32.0 engine/arg_utils.py, SGLang 0.5.23
arg_groups/fields/model.py, llama.cpp tools/server/README.md. mlx-lm's and transformers' are asked here.
"""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from qroar_core.exporters import hf
from qroar_core.exporters.exported import Exported
from qroar_core.exporters.folder import NOTE
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.readers import limits_of, readers, recipes
from qroar_core.exporters.served import served_folder, served_setting
from qroar_core.quantizers.presets import RUNTIMES, preset_quant
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

YARN, PLAIN = RopeSpec("yarn", 4.0), QuantSpec()
INT4 = QuantizerSpec(4)


@pytest.mark.parametrize(
    ("rope", "quant", "words", "notes"),
    [
        (
            RopeSpec("yarn", 2.0, beta_fast=16.0),
            preset_quant("q4_0"),
            "--rope-scaling yarn --rope-scale 2 --yarn-orig-ctx 256 --yarn-beta-fast 16 --yarn-beta-slow 1 "
            "--cache-type-k q4_0 --cache-type-v q4_0 -fa on",
            "needs flash attention",
        ),
        (
            RopeSpec("linear", 2.5),
            preset_quant("q8_0-norot"),
            "--rope-scaling linear --rope-scale 2.5 --cache-type-k q8_0 --cache-type-v q8_0 -fa on",
            "turns that off",
        ),
        (RopeSpec("ntk", 4.0), QuantSpec(k=INT4), "--cache-type-k q4_0", "q4_0 has a scale per 32 channels"),
        (
            RopeSpec("ntk", 4.0),
            preset_quant("iq4_nl"),
            "--cache-type-k iq4_nl --cache-type-v iq4_nl -fa on",
            "needs flash attention",
        ),
        (
            RopeSpec("ntk", 4.0),
            QuantSpec(k=preset_quant("bf16").k, v=preset_quant("q4_1").v),
            "--cache-type-k bf16 --cache-type-v q4_1 -fa on",
            "needs flash attention",
        ),
        (RopeSpec("ntk", 4.0), QuantSpec(k=QuantizerSpec(3)), "", "no 3-bit cache for K; q4_0 is its smallest"),
    ],
    ids=["yarn q4_0", "linear q8_0 unrotated", "ntk int4", "iq4_nl", "bf16 and q4_1", "ntk int3"],
)
def test_llama_cpp_gets_the_options_that_mean_this_setting(demo, rope, quant, words, notes):
    recipe = of(demo, "llama.cpp (xllamacpp 2026.10)", rope, quant)
    serve = recipe.code.splitlines()[1]
    assert serve.split("-c 1024")[1].strip() == words
    assert any(notes in note for note in recipe.notes)
    turned = "hadamard" in [spec.rotation for spec in (quant.k, quant.v) if spec is not None]
    rotated = turned or quant.k is None or not words  # no quantized cache, nothing to turn off
    assert serve.startswith("LLAMA_ATTN_ROT_DISABLE=1 ") == (not rotated)


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("fp8", "--kv-cache-dtype fp8"),
        ("int8_per_token_head", "--kv-cache-dtype int8_per_token_head"),
        ("turboquant_3bit_nc", "--kv-cache-dtype turboquant_3bit_nc"),
        ("q8_0", ""),
    ],
)
def test_vllm_gets_its_own_cache_or_is_said_to_have_none_like_it(demo, preset, words):
    recipe = of(demo, "vLLM 0.32", quant=preset_quant(preset))
    assert recipe.code == f"vllm serve out --max-model-len 1024 --dtype float32 {words}".strip()
    assert any("measure what you will serve" in note for note in recipe.notes) == (not words)


def test_kept_layers_are_an_option_of_vllm_and_said_of_the_others(demo):
    quant = replace(preset_quant("fp8"), keep_layers=(0, 3))
    made = recipes(served_setting(demo, YARN, quant, 1024, Path("out"), "hf"))
    vllm = made.pop("vLLM 0.32")
    assert vllm.code.endswith("--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers 0 3")
    assert not any("layers 0, 3" in note for note in vllm.notes)
    assert made
    for recipe in made.values():
        assert "layers 0, 3" in recipe.notes[-1]


@pytest.mark.parametrize(
    "rope", [RopeSpec("dynamic", 4.0), RopeSpec("longrope", 4.0, long_factor=(4.0,) * 32, short_factor=(1.0,) * 32)]
)
def test_llama_cpp_gets_no_command_for_what_it_cannot_serve(demo, rope):
    recipe = of(demo, "llama.cpp (xllamacpp 2026.10)", rope, QuantSpec())
    assert recipe.code.startswith("# llama.cpp ")
    assert recipe.code.endswith("this interpolation cannot be served there.")
    assert "\n" not in recipe.code


def test_vllm_under_dynamic_ntk_says_first_what_it_does(demo):
    first, *_ = of(demo, "vLLM 0.32", RopeSpec("dynamic", 4.0)).notes
    assert first.startswith("Computes NaN or arbitrary numbers")


def of(model, name, rope=YARN, quant=PLAIN, format="hf", **named):
    return recipes(served_setting(model, rope, quant, 1024, Path("out"), format, **named))[name]


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("sglang_fp8_e4m3", "--kv-cache-dtype fp8_e4m3"),
        ("sglang_fp4", "--kv-cache-dtype fp4_mx_block16"),
        ("fp8-calibrated", "--kv-cache-dtype fp8_e4m3"),
        ("q8_0", ""),
    ],
)
def test_sglang_gets_its_own_cache(demo, preset, words):
    recipe = of(demo, "SGLang 0.5.23", quant=preset_quant(preset))
    start = "python -m sglang.launch_server --model-path out --context-length 1024 --dtype float32"
    assert recipe.code == f"{start} {words}".strip()
    assert any("measure what you will serve" in note for note in recipe.notes) == (not words)


def test_a_cache_whose_scales_are_in_the_checkpoint_is_said_to_have_none_where_none_are_written(demo):
    quant = preset_quant("fp8-calibrated")
    for name in ("vLLM 0.32", "SGLang 0.5.23"):
        without, there = (of(demo, name, quant=quant, cache_scales=has) for has in (False, True))
        assert without.code == there.code
        assert "--cache-scales" in " ".join(without.notes)
        assert "This export has no" not in " ".join(there.notes)


def test_who_refuses_scales_of_the_cache_gets_no_command_and_who_needs_a_library_says_so(demo):
    quant = preset_quant("fp8-calibrated")
    for name in ("mlx-lm 0.32", "llama.cpp (xllamacpp 2026.10)"):
        without, there = (of(demo, name, quant=quant, cache_scales=has) for has in (False, True))
        assert there.code.startswith("# ")
        assert there.code.endswith("refuses a folder with scales of an fp8 K/V cache: export without --cache-scales.")
        assert not without.code.startswith("#")
    for name in ("transformers 5", "transformers 4.57"):
        notes = of(demo, name, quant=quant, cache_scales=True).notes
        assert any("needs the library compressed-tensors for the cache scales" in note for note in notes)
        assert name in {
            line[: len(name)] for line in limits_of(Exported("hf", "llama", {}, "float32", cache_scales=True))
        }


@pytest.mark.parametrize(("preset", "kind", "by_channel"), [("ov_u8", "u8", False), ("ov_u4_channel", "u4", True)])
def test_openvino_gets_its_own_cache(demo, preset, kind, by_channel):
    code = of(demo, "OpenVINO 2026.4 (optimum-intel 2.2)", quant=preset_quant(preset)).code
    (call,) = (one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Call) and len(one.keywords) == 3)
    config = ast.literal_eval(next(one.value for one in call.keywords if one.arg == "ov_config"))
    both = {"KEY_CACHE_PRECISION": kind, "VALUE_CACHE_PRECISION": kind}
    assert config == both | ({"KEY_CACHE_QUANT_MODE": "BY_CHANNEL"} if by_channel else {})


@pytest.mark.parametrize("preset", [*RUNTIMES["quanto"].caches, *RUNTIMES["hqq"].caches])
def test_transformers_makes_the_cache_that_its_recipe_asks_for(demo, monkeypatch, tmp_path, preset):
    """The recipe's own lines, run: what transformers' QuantizedCache was given."""
    import transformers

    asked = {}
    folder = hf.run(demo, RopeSpec(), None, tmp_path / "out")
    code = recipes(served_setting(demo, RopeSpec(), preset_quant(preset), 256, folder, "hf"))["transformers 5"].code
    monkeypatch.setattr(
        transformers.generation.utils,
        "QuantizedCache",
        lambda **given: asked.update(given) or transformers.DynamicCache(),
    )
    exec(code.replace("cache_config=", "max_new_tokens=1, cache_config="), {})
    del asked["config"]
    axes = {"axis_key": 1, "axis_value": 1} if preset.startswith("hqq") else {}
    assert asked == {"backend": preset[:-1], "nbits": int(preset[-1])} | axes


@pytest.mark.slow
def test_mlx_takes_the_options(demo, runtime):
    place = runtime("mlx")
    tree = ast.parse((place / "mlx_lm" / "server.py").read_text())
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call)]
    names = {a.value for c in calls if getattr(c.func, "attr", "") == "add_argument" for a in c.args}
    for preset in RUNTIMES["mlx"].caches:
        command, *words = shlex.split(of(demo, "mlx-lm 0.32", quant=preset_quant(preset)).code)
        given = dict(zip(words[::2], words[1::2], strict=True))
        assert command == "mlx_lm.server"
        assert set(given) <= names
        assert given == {"--model": "out", "--kv-bits": preset.removeprefix("mlx"), "--quantized-kv-start": "0"}


@pytest.mark.parametrize("format", FORMATS)
def test_who_serves_a_format_is_who_reads_it(demo, format):
    path = Path("out.gguf") if FORMATS[format].whole_file else Path("out")
    served = served_setting(demo, RopeSpec("yarn", 4.0), QuantSpec(), 1024, path, format)
    made = {name for name, one in readers().items() if one.recipe is not None and one.recipe(served) is not None}
    read = {name for name, one in readers().items() if format in one.formats}
    assert made - read <= {"llama_cpp"}  # it converts a folder first
    assert read - made <= {"onnxruntime_genai", "ctranslate2"}  # which convert, and do not serve
    assert made


def test_a_folder_is_served_as_the_setting_that_it_was_written_for(demo, tmp_path):
    rope, quant = RopeSpec("yarn", 4.0), preset_quant("q8_0")
    folder = hf.run(demo, rope, None, tmp_path / "out")
    note = json.loads((folder / NOTE).read_text())
    asked = served_setting(demo, rope, quant, 1024, folder, "hf")
    assert recipes(served_folder(folder, note, rope, 1024, quant)) == recipes(asked)
    card = (folder / "README.md").read_text()
    assert "    vllm serve out --max-model-len 1024 --dtype float32\n" in card.split("## How to serve it")[1]


def test_transformers_4_gets_the_attention_that_caps_gemma_2s_logits():
    """Its sdpa, the default, leaves the cap out: apart by 4e-4 nats on a small model, by nothing with eager."""
    from qroar_core.exporters.reader import Served

    for family, words in (("gemma2", ', attn_implementation="eager")'), ("gemma3_text", ")")):
        exported = Exported("hf", family, {}, "bfloat16", 8192)
        served = Served(Path("FOLDER"), exported, RopeSpec(), 8192, 256, "half", 8192, PLAIN)
        first = readers()["transformers4"].recipe(served).code.splitlines()[2]
        assert first == f"model = AutoModelForCausalLM.from_pretrained('FOLDER', dtype=\"auto\"{words}"
        assert "attn_implementation" not in readers()["transformers5"].recipe(served).code
