"""Addresses and manifests whose specs leave fields out: each counts as its default, and no page fails by it."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from pages.state.choice import ByHand, Choice, Claims, SweepChoice, ToExport, TradeoffChoice, adapter_of
from qroar_core.runs.store import runs_root
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    ControlSpec,
    DiagnosisSpec,
    EvaluationSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RetrievalSpec,
    RopeSearchSpec,
    RopeSpec,
    SearchSpec,
)
from tests.pages.visitor import clicked, go, texts

pytestmark = pytest.mark.slow

BANDS = tuple((first, first + 3) for first in range(0, 32, 4))
WHOLE = {  # every field that an address holds as JSON, and the pages that compute with it
    "length": (768, ("start", "pressure", "tune", "evaluate")),
    "bands": (BandSpec(8, "log"), ("start", "pressure", "tune")),
    "rope": (RopeSpec("yarn", 4.0), ("start", "pressure", "tune", "evidence")),
    "quant": (QuantSpec(k=QuantizerSpec(4)), ("start", "tune", "evaluate", "remedies")),
    "diagnosis": (
        DiagnosisSpec(length=768, short_length=192),
        ("pressure", "evidence"),
    ),
    "search": (SearchSpec(length=768, steps=20), ("tune", "remedies")),
    "evaluation": (
        EvaluationSpec(lengths=(192, 768), windows=4, targets=64, stride=64),
        ("evaluate", "retrieval", "remedies", "evidence", "export", "runs"),
    ),
    "retrieval": (RetrievalSpec(lengths=(256, 512), trials=6), ("retrieval",)),
    "comparison": (ComparisonSpec(methods=("rotation",), windows=4), ("remedies",)),
    "controls": (ControlSpec(length=768, collections=("novels",)), ("evidence",)),
    "prediction": (PredictionSpec(length=768, windows=4), ("evidence", "bands")),
    "prediction_bands": (BandSpec(4, "log"), ("evidence", "bands")),
    "hand": (ByHand(BANDS, "symmetric", (1.0,) * 8), ("tune",)),
    "compared": (("one", "two"), ("runs",)),
    "claims": (
        Claims((RopeSpec("linear", 4.0),), (QuantSpec(k=QuantizerSpec(4)),), ReplicationSpec(length=768)),
        ("evidence",),
    ),
    "rope_search": (RopeSearchSpec(length=768, trials=20), ("evidence",)),
    "tradeoff": (TradeoffChoice("no/such/folder", "kl", 0.1, 4096, 8, "gb", 1), ("tradeoff",)),
    "sweep": (
        SweepChoice(
            *(("demo",), ("yarn",), "2, 4", ("int4",), "{k: int4}", ("none",), "256", ("novels",), "0, 1", 4),
            *("{remedy: none, quantizer: {k: int4}}", 30, 9, "there"),
        ),
        ("sweep",),
    ),
    "export": (ToExport("MAD clipping", "hf"), ("export",)),
}
PLAIN = ("model", "device", "dtype", "text", "bos", "run", "lesson")


def spelled(name):
    """The whole spec as JSON, defaults too."""
    return adapter_of(name).dump_python(WHOLE[name][0], mode="json")


def without(name, field):
    """The spec of an address without one of its fields."""
    return json.dumps({key: value for key, value in spelled(name).items() if key != field})


def test_every_field_of_an_address_is_tried_here():
    assert {*WHOLE, *PLAIN} == set(Choice.__dataclass_fields__)


@pytest.mark.parametrize("name", WHOLE)
def test_a_link_may_leave_any_field_out(app, name):
    """Also all of them at once: `{}` is every default, on every page. Each field is left out on one page, in turn."""
    spec, pages = spelled(name), WHOLE[name][1]
    fields = spec if isinstance(spec, dict) else ()
    cases = [(json.dumps(spec), pages), ("{}", pages)]
    cases += [(without(name, field), (pages[at % len(pages)],)) for at, field in enumerate(fields)]
    failed = []
    for case, there in cases:
        visitor = AppTest.from_file(app._script_path, default_timeout=30)
        visitor.query_params.update({"model": "demo", name: case})
        visitor.run()
        if any(b.label == "Load demo" for b in visitor.button):
            clicked(visitor, "Load demo")
        for page in there:
            visitor.switch_page(f"pages/{page}.py").run()
            failed += [(page, case, e.value) for e in visitor.exception]
    assert not failed


OPEN = [("evaluation", "lengths", []), ("diagnosis", "length", None), ("search", "length", None)]


@pytest.mark.parametrize(("spec", "field", "value"), OPEN, ids=lambda value: str(value))
def test_a_run_whose_manifest_leaves_a_length_open_is_unreadable_and_says_which(
    loaded_app, written, spec, field, value
):
    """What another machine would fill in otherwise is nobody's result."""
    manifest = written(runs_root() / "open") / "manifest.json"
    said = json.loads(manifest.read_text())
    said["specs"][spec][field] = value
    manifest.write_text(json.dumps(said))
    for page in ("tune", "evaluate", "retrieval", "export", "runs"):
        go(loaded_app, page)
    assert "Unreadable folders: 1" in [e.label for e in loaded_app.expander]
    assert any(f"{spec}.{field} is left open" in e.value for e in loaded_app.get("text"))
    assert "is in view" not in texts(loaded_app)
