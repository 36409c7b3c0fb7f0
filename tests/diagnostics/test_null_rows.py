"""`Diagnosis.null_rows` finds what every part says for itself, and nothing is made up for a part that says nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.result import WHOLE
from qroar_core.models.text import Document
from qroar_core.result import Result
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from tests.helpers import planted

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
EXPECTED = {  # diagnostic of docs/method.md section 3: words of which one stands in the name of a row
    "pressure": ("pressure",),
    "tails": ("tail",),
    "aliasing": ("aliasing",),
    "dilation": ("dilation", "range"),
    "anisotropy": ("anisotropy",),
    "outliers": ("outlier",),
    "pair error": ("amplitude", "phase"),
    "logit noise": ("logit noise",),
    "hidden states": ("hidden",),
    "bands": ("bands",),
}


def row(name, quantity="x"):
    return NullRow(diagnostic=name, quantity=quantity, measured=2.0, null=1.0, control="planted")


class Says(Result):
    """A part with a method."""

    name: str = "a"

    def null_rows(self):
        return [row(self.name)]


def test_methods_and_dicts_are_found():
    plain = planted.diagnosis()
    more = plain.model_copy(
        update={"hidden": Says(name="hidden"), "survival": {"q/pre": Says(), "k/pre": Says()}, "groups": []}
    )
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
    spec = DiagnosisSpec(
        length=128,
        short_length=32,
        paired_tokens=16,
        windows=3,
        bands=BandSpec(3),
        eps=0.02,
        query_rows=9,
        null_draws=3,
    )
    return diagnose.run(tiny(), Setting(RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)), diagnosis=spec), TEXT)


def test_every_diagnostic_has_a_null(fresh):
    told = [r.diagnostic.lower() for r in fresh.null_rows()]
    assert [name for name, words in EXPECTED.items() if not any(w in said for said in told for w in words)] == []


@pytest.mark.parametrize("method", ["linear", "ntk", "yarn", "dynamic"])
def test_what_no_interpolation_stretches_reads_its_null_within_its_own_window(tiny, method):
    """At s = 1 frequencies are the native ones: what is held against native RoPE must not differ from it."""
    spec = DiagnosisSpec(length=64, short_length=16, paired_tokens=8, windows=2, bands=BandSpec(2), query_rows=5)
    found = diagnose.run(tiny(), Setting(RopeSpec(method, 1.0), QuantSpec(), diagnosis=spec), TEXT)
    rows = found.null_rows("bands", "kernel")
    assert len(rows) >= 3
    assert [r.measured for r in rows] == pytest.approx([r.null for r in rows], rel=1e-4, abs=1e-4)
    if method != "dynamic":  # what is a sensitivity is largest there, and is no such row
        stretched = diagnose.run(tiny(), Setting(RopeSpec(method, 2.0), QuantSpec(), diagnosis=spec), TEXT)
        pressures = [max(b.interpolation_pressure for b in d.bands) for d in (found, stretched)]
        assert pressures[0] > pressures[1] > 0


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


@pytest.mark.parametrize("weights", [None, WeightQuantSpec(4)])
def test_rows_of_errors_say_which_errors(tiny, weights):
    """Each layer alone where the cache alone is rounded, with those of earlier layers where weights are."""
    spec = DiagnosisSpec(length=64, short_length=16, paired_tokens=8, windows=2, bands=BandSpec(2), query_rows=5)
    found = diagnose.run(
        tiny(), Setting(RopeSpec("yarn", 2.0), QuantSpec(weights=weights, k=QuantizerSpec(4)), diagnosis=spec), TEXT
    )
    said = "; each layer measured alone" if weights is None else "; with errors of earlier layers"
    for part in ("logit_noise", "pair_error", "anisotropy", "rounding"):
        rows = found.null_rows(part)
        assert rows, part
        assert [r.quantity[-len(said) :] for r in rows] == [said] * len(rows)
    assert not any(said in r.quantity for r in found.null_rows("dilation", "tails", "logit_change"))
