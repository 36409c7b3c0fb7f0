"""Sentences that a reader met on a page and did not understand: none comes back, and what stands there now does."""

import ast
from pathlib import Path

from qroar_core.diagnostics.logit_noise.figure_words import of_kl
from qroar_core.diagnostics.logit_noise.result import NoiseNull
from qroar_core.specs.labels import checksum_words

ROOT = Path(__file__).parents[1]
REFUSED = {
    "closes the sum": "The two parts do not add up exactly",
    "takes back part of what": "below zero the layer cancels part of the earlier error",
    "it holds to second order": "For the KL the null is an approximation, good for small errors",
    "; second order in": "; an approximation, good for small errors",
    "is a difference of a tenth": "20 dB: the error is a tenth of the value; higher is better",
    "(delta method)": "bars and bands are 2 standard errors over the sampled rows",
    "mean energy at a random angle": "random errors of the same average size",
    "Jaccard index 1": "the share that does at both; 1 is all of them, 0 none",
    "found in other channels far out": "lies in other channels at the last positions than at the first",
    "Fence above Q3": "Limit above the upper quartile, interquartile ranges",
    "loudest of all": "in random data of the same size the largest would be",
    "rho_W: before RoPE": "rho_W divides the sizes of q and k as W_Q and W_K put them out, before RoPE",
    "has stretched nothing yet": "the left shows what a first bit of stretching would do",
    "coarsens all": "share one rounding step, so one band with large values makes it coarser for all",
    "nothing but identity": "found no scales worth keeping",
    "as if tokens came one": "while a prompt is read too",
}


def sentences():
    """Every string of the program that is no docstring, with … for what an f-string puts in."""
    for path in (*(ROOT / "qroar_core").rglob("*.py"), *(ROOT / "pages").rglob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
                yield node.value


def test_no_sentence_that_was_not_understood_comes_back():
    program = list(sentences())
    assert len(program) > 3000
    assert [(said, phrase) for phrase in REFUSED for said in program if phrase in said] == []
    assert [phrase for phrase in REFUSED.values() if not any(phrase in said for said in program)] == []


def test_the_null_of_the_kl_is_called_an_approximation():
    null = NoiseNull(rms=[0.1], rms_by_distance=[0.1], noise_std=[0.1], attention_kl=[0.01])
    assert of_kl(null).startswith(" For the KL the null is an approximation, good for small errors.")


def test_a_digest_is_called_what_it_is():
    said = "16 windows, 128 targets each, digest 46451bed, seed 0"
    assert checksum_words(said) == "16 windows, 128 targets each, text checksum 46451bed, seed 0"
    assert checksum_words("scales digest of another kind") == "scales digest of another kind"
