"""What a library function refuses names its parameters; the command line's flags are another's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qroar_core as qroar
from qroar_core.cli import options
from qroar_core.errors import BadSpec, Cancelled
from qroar_core.library.refusal_words import OWNERS, in_parameters, in_words

CORE = Path(qroar.__file__).parent


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("add --objective full", 'add search(objective="full")'),
        ("drop --angles, or add --objective cached", 'drop search(angles=True), or add search(objective="cached")'),
        ("quantize the K cache, for example by --k int4, or name the groups", 'quantization(k="int4"), or name'),
        ("choose --rope yarn --factor 2 for it", 'choose rope=qroar.Rope("yarn", factor=2) for it'),
        ("keep --rope default", 'keep rope=qroar.Rope("default")'),
        ("run with the --tie that they were searched under", "run with the Rope(tie) that they"),
        ("drop it, or choose --bos off", 'choose bos="off"'),
        ("quantize K or --qk alone", "quantize K or quantization(qk) alone"),
        (
            "pass --longrope-factors FILE, a JSON with long_factor and short_factor (32 each)",
            "pass Rope(long_factor=..., short_factor=...), numbers, one per RoPE pair (32 each)",
        ),
        ("ask without it (--no-chat, or so)", "(RetrievalSpec(chat=False), or so)"),
        ("or take `qroar run --rotation-scales`", "or take `qroar run --rotation-scales`"),
        ("llama-gguf-split --merge", "llama-gguf-split --merge"),
    ],
)
def test_sentences_are_translated_and_quoted_commands_are_not(said, words):
    assert words in in_words(said)


def test_a_parameter_of_the_called_function_needs_no_other_name():
    assert in_words("take --device cpu", ("device",)) == 'take device="cpu"'
    assert in_words("take --device cpu") == 'take load(device="cpu")'
    assert in_words("add --group-size 32", ("group_size",)) == "add group_size=32"


def test_what_is_raised_is_of_the_same_kind_and_everything_else_passes():
    @in_parameters
    def search(angles=False):
        raise angles

    with pytest.raises(BadSpec) as refused:
        search(BadSpec("the norm turns no pair", where="--angles", do="drop --maps"))
    assert str(refused.value) == "search(angles=...): the norm turns no pair; drop search(maps=True)"
    for same in (BadSpec("plain", where="demo", do="choose"), Cancelled("--rope", 3), ValueError("--rope")):
        with pytest.raises(type(same)) as kept:
            search(same)
        assert kept.value is same


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda m, s: qroar.tune_rope(
                m, qroar.Setup(rope=qroar.Rope("yarn", 4.0), quantization=qroar.quantization())
            ),
            "tune_rope: nothing is quantized, so that both choices are one; quantize something, for example by "
            'quantization(k="int4")',
        ),
        (
            lambda m, s: qroar.tune_rope(m, s),
            "Setup(rope=...): the checkpoint's own RoPE has no factor to search around; name a method and the factor "
            'to reach, for example rope=qroar.Rope("yarn", factor=2)',
        ),
        (
            lambda m, s: qroar.choose_ties(m, qroar.Setup(length=64, quantization=qroar.quantization(weights="int4"))),
            "choose_ties: ",
        ),
        (
            lambda m, s: qroar.search(m, s, k_offset=True),
            "search(k_offset=...): every channel of K turns",
        ),
        (lambda m, s: qroar.search(m, s, value_maps=True), "search(value_maps=...): "),
        (lambda m, s: qroar.compare(m, s, remedies=["gptq"]), "compare(remedies=...): gptq does not apply"),
        (lambda m, s: qroar.quantization(k="int4", group_size=32), "quantization(k=...): group_size has no meaning"),
        (lambda m, s: qroar.quantization(k="q4_0", kv_scale="block"), "quantization(k=...): preset q4_0 brings"),
        (lambda m, s: qroar.Rope("default", factor=2), "factor 2 needs a method; choose one of "),
        (lambda m, s: qroar.load("demo", device="tpu"), "load(device=...): unknown device 'tpu'; choose auto"),
    ],
)
def test_a_library_user_reads_parameters(tiny, call, line):
    with pytest.raises(BadSpec) as refused:
        call(tiny(), qroar.Setup(length=64, quantization=qroar.quantization(k="int4")))
    assert str(refused.value).startswith(line)
    assert not re.search(r"(?<![\w`])--[a-z]", str(refused.value)), refused.value


def test_every_flag_that_the_core_names_is_known_or_has_no_parameter():
    """Flags of llama.cpp and pip aside: what no function of the library takes says so here."""
    without = {"dataset", "storage", "workers", "out", "merge", "quiet", "no-deps", "dest", "scales", "model"}
    flags = {p.name for group in vars(options).values() if isinstance(group, list) for p in group if hasattr(p, "kind")}
    named = set()
    for path in CORE.rglob("*.py"):
        if "cli" not in path.parts and path.name not in ("parameters.py", "__main__.py"):
            named |= set(re.findall(r"(?<![\w-])--([a-z][a-z-]+|k|v)\b", path.read_text(encoding="utf-8")))
    ours = {name for name in named if name.replace("-", "_") in flags}
    assert {name for name in ours - without if name.replace("-", "_") not in OWNERS} == set()
