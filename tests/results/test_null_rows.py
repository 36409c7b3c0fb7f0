"""`Diagnosis.null_rows` finds what every part says for itself, and nothing is made up for a part that says nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "figures"))

import planted

from qroar_core import diagnose
from qroar_core.diagnostics.null import NullRow
from qroar_core.models.text import Document
from qroar_core.result import Result
from qroar_core.results.diagnosis import WHOLE
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
EXPECTED = {  # diagnostic of DESIGN section 3: words of which one stands in the name of a row
    "pressure": ("pressure",), "tails": ("tail",), "aliasing": ("aliasing",), "dilation": ("dilation", "range"),
    "anisotropy": ("anisotropy",), "outliers": ("outlier",), "pair error": ("amplitude", "phase"),
    "logit noise": ("logit noise",), "hidden states": ("hidden",), "bands": ("bands",),
}  # fmt: skip


def row(name, quantity="x"):
    return NullRow(diagnostic=name, quantity=quantity, measured=2.0, null=1.0, control="planted")


class Says(Result):
    """A part with a method."""

    name: str = "a"

    def null_rows(self):
        return [row(self.name)]


def test_methods_and_dicts_are_found():
    plain = planted.diagnosis()
    more = plain.model_copy(update={"hidden": Says(name="hidden"), "survival": {"q/pre": Says(), "k/pre": Says()},
                                    "groups": []})  # fmt: skip
    found = more.null_rows("hidden", "survival", "verdict")
    assert [(r.diagnostic, r.quantity) for r in found] == [("hidden", "x"), ("a", "q/pre: x"), ("a", "k/pre: x")]
    assert len(more.null_rows()) > len(found)
    assert "a" not in [r.diagnostic for r in plain.null_rows()]


@pytest.mark.parametrize("name", list(WHOLE))
def test_bands_and_tails_are_given_whole_to_what_speaks_of_the_worst(monkeypatch, name):
    monkeypatch.setitem(WHOLE, name, lambda parts: [row(name, f"{len(parts)} of them")])
    plain = planted.diagnosis()
    assert [r.quantity for r in plain.null_rows(name)] == [f"{len(getattr(plain, name))} of them"]


@pytest.mark.parametrize("missing", [None, SimpleNamespace(x=1)])
def test_a_part_that_says_nothing_gives_no_row(missing):
    assert planted.diagnosis().model_copy(update={"hidden": missing}).null_rows("hidden") == []


@pytest.fixture
def fresh(tiny):
    spec = DiagnosisSpec(length=128, short_length=32, paired_tokens=16, windows=3, bands=BandSpec(3), eps=0.02,
                         query_rows=9, null_draws=3)  # fmt: skip
    return diagnose.run(tiny(), RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)), spec, TEXT)


def test_every_diagnostic_has_a_null(fresh):
    told = [r.diagnostic.lower() for r in fresh.null_rows()]
    assert [name for name, words in EXPECTED.items() if not any(w in said for said in told for w in words)] == []


def test_every_row_says_what_was_done_and_lies_within_its_range(fresh):
    rows = fresh.null_rows()
    assert rows
    for r in rows:
        assert r.control
        assert r.quantity
        assert r.null is not None
        if r.low is not None:
            assert r.low <= r.null <= r.high


def test_a_null_that_was_drawn_once_has_no_range():
    plain = planted.diagnosis()
    once = row("a").model_copy(update={"low": 1.0, "high": 1.0})
    many = row("a").model_copy(update={"low": 0.5, "high": 1.5})

    class Both(Result):
        def null_rows(self):
            return [once, many]

    found = plain.model_copy(update={"hidden": Both(), "groups": []}).null_rows("hidden")
    assert [(r.low, r.high) for r in found] == [(None, None), (0.5, 1.5)]
