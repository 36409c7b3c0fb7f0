"""Plausible mistakes of a library user: each gets one line that names the parameter and says what to give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qroar_core as qroar
from qroar_core.errors import BadSpec
from qroar_core.library.refusal_words import PHRASES
from qroar_core.specs import EvaluationSpec, RopeSpec

CORE = Path(qroar.__file__).parent
SPEC = "spec must be a qroar_core.specs."


def line_of(call, *given):
    with pytest.raises(BadSpec) as refused:
        call(*given)
    line = str(refused.value)
    assert "\n" not in line
    assert not re.search(r"(?<![\w])--[a-z]", line), line
    return line


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: qroar.quantization(k=4),
            'quantization(k=...) must be a word, got 4; give for example quantization(k="int4")',
        ),
        (lambda: qroar.quantization(weights=4), "quantization(weights=...) must be a word, got 4"),
        (lambda: qroar.quantization(activations=True), "quantization(activations=...) must be a word, got True"),
        (
            lambda: qroar.quantization(k="int4", kv_scale="block", group_size=2.5),
            "quantization(group_size=...) must be a whole number, got 2.5; give 2 or more",
        ),
        (
            lambda: qroar.quantization(weights="int4", weight_scale="group", weight_group=-1),
            "quantization(weight_group=...) must be at least 2 and finite, got -1",
        ),
        (
            lambda: qroar.quantization(k="int4", weight_group=4),
            'quantization(weight_group=...): no weights are quantized; add weights="int4"',
        ),
        (
            lambda: qroar.quantization(k="int4", weight_scale="group"),
            'quantization(weight_scale=...): no weights are quantized; add weights="int4"',
        ),
        (
            lambda: qroar.quantization(weights="w4a16", weight_group=64),
            "quantization(weights=...): preset w4a16 brings its own scales; drop weight_group",
        ),
        (
            lambda: qroar.quantization(kv="q4_0", kv_scale="block"),
            "quantization(kv=...): preset q4_0 brings its own scales and rotation; drop kv_scale",
        ),
        (lambda: qroar.quantization(kv="int9"), "quantization(kv=...): unknown cache quantizer 'int9'"),
        (
            lambda: qroar.Rope("yarn", factor=4, tie="0-1"),
            "tie must be tied pairs, got '0-1'; give qroar.ties(\"20-21,22-25,26-31:0\"), with pairs of your model",
        ),
        (lambda: qroar.Rope("yarn", factor=4, tie=[(0, 1)]), "tie must be tied pairs, got [(0, 1)]; give qroar.ties("),
        (lambda: qroar.Rope("yarn", factor=4, tie=5), "tie must be tied pairs, got 5; give qroar.ties("),
        (lambda: qroar.ties(5), 'qroar.ties must be given a text, got 5; write for example "20-21,22-25,26-31:0"'),
        (
            lambda: qroar.Rope("yarn", factor=2, beta_fast="a"),
            "beta_fast must be a number, got 'a'; give one such as 32.0",
        ),
        (
            lambda: qroar.Rope("longrope", factor=2, long_factor="l" * 32),
            f"long_factor must be a list of numbers, got '{'l' * 32}'; give one per RoPE pair",
        ),
        (lambda: qroar.Rope("longrope", factor=2, long_factor=5), "long_factor must be a list of numbers, got 5"),
        (lambda: qroar.Rope("yarn", 2, original_context=2.5), "original_context must be a whole number, got 2.5"),
        (lambda: qroar.Setup(length=-1), "Setup(length=...): -1 tokens are too few to diagnose; give at least 64"),
        (lambda: qroar.Setup(bands=0), "Setup(bands=...) must be at least 1 and finite, got 0"),
        (lambda: qroar.load(5), "load(source=...) must be a name or a path, got 5; give for example"),
        (lambda: qroar.load(None), "load(source=...) must be a name or a path, got None"),
    ],
)
def test_a_wrong_value_gets_one_line(call, line):
    assert line_of(call).startswith(line)


@pytest.mark.parametrize(
    "name",
    [
        "Diagnosis",
        "LayerChoice",
        "TieChoice",
        "Evaluation",
        "Retrieval",
        "Comparison",
        "RopeSearch",
        "Search",
        "Transform",
    ],
)
@pytest.mark.parametrize("path", [None, 5, True, ["a.json"]], ids=repr)
def test_a_path_that_is_none_is_refused(name, path):
    kind = getattr(qroar, name)
    assert line_of(kind.load, path).startswith(f"{name}.load(...) must be given a path, got {path!r}; give ")
    unmade = object.__new__(kind)
    assert line_of(unmade.save, path).startswith(f"{name}.save(...) must be given a path, got {path!r}; give ")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda m, s: qroar.tune_rope(m, s, spec=5), f"{SPEC}RopeSearchSpec, got 5; give one, or leave it out"),
        (lambda m, s: qroar.search(m, s, spec=5), f"{SPEC}SearchSpec, got 5"),
        (lambda m, s: qroar.evaluate(m, s, spec=5), f"{SPEC}EvaluationSpec, got 5"),
        (lambda m, s: qroar.diagnose(m, s, spec=0), f"{SPEC}DiagnosisSpec, got 0"),
        (lambda m, s: qroar.compare(m, s, spec=EvaluationSpec()), f"{SPEC}ComparisonSpec, got EvaluationSpec()"),
        (lambda m, s: qroar.retrieve(m, s, spec={}), f"{SPEC}RetrievalSpec, got {{}}"),
        (lambda m, s: qroar.diagnose(m, s, null_draws=1.5), "null_draws must be a whole number, got 1.5"),
        (lambda m, s: qroar.tune_rope(m, s, trials=2.5), "trials must be a whole number, got 2.5"),
        (lambda m, s: qroar.evaluate(m, s, windows=2.5), "windows must be a whole number, got 2.5"),
        (lambda m, s: qroar.search(m, s, windows=2.5), "windows must be a whole number, got 2.5"),
        (lambda m, s: qroar.evaluate(m, s, lengths=[64.5]), "each of lengths must be a whole number, got 64.5"),
        (lambda m, s: qroar.retrieve(m, s, trials=True), "trials must be a whole number, got True"),
        (
            lambda m, s: qroar.search(m, s, maps=True),
            "search(maps=...): every RoPE pair turns at a frequency of its own, so no map commutes with them; tie "
            'neighbouring slow pairs, for example by Rope(tie=qroar.ties("22-25,26-31:0"))',
        ),
        (
            lambda m, s: qroar.compare(m, s, remedies=["static_scales"]),
            "compare(remedies=...): static_scales does not apply: it needs a K or V cache with one static scale a "
            'layer (fp8, or quantization(kv_scale="tensor")); drop it',
        ),
        (
            lambda m, s: qroar.diagnose(m, qroar.Setup(rope=qroar.Rope("longrope", factor=2), length=64)),
            "Setup(rope=...): LongRoPE needs a factor per pair and this checkpoint ships none; pass "
            "Rope(long_factor=..., short_factor=...), numbers, one per RoPE pair (4 each)",
        ),
    ],
)
def test_a_call_with_a_wrong_value_gets_one_line(tiny, call, line):
    model, setup = tiny(head_dim=8), qroar.Setup(length=64, bands=2, quantization=qroar.quantization(k="int4"))
    assert line_of(call, model, setup).startswith(line)


def test_numbers_that_a_list_gives_are_taken():
    assert qroar.Rope("longrope", 2, long_factor=[1.0, 2.0]) == RopeSpec("longrope", 2, long_factor=(1.0, 2.0))
    tied = list(qroar.ties("0-1"))
    assert hash(qroar.Rope("yarn", 2, tie=tied)) == hash(qroar.Rope("yarn", 2, tie=tuple(tied)))


def test_every_sentence_with_words_of_its_own_in_the_library_is_one_of_the_core():
    """A phrase that the core says otherwise by now would be translated no more."""
    said = " ".join(path.read_text(encoding="utf-8") for path in CORE.rglob("*.py") if path.name != "parameters.py")
    assert [phrase for phrase in PHRASES if phrase not in said] == []
