"""Long pages have a list of what is on them, on top; each link of it leads to a heading that is there."""

import re

import pytest

from tests.helpers import planted, planted_comparison
from tests.helpers.planted_nulls import with_nulls
from tests.pages.visitor import button, clicked, go, read, settled

pytestmark = pytest.mark.slow
LINK = re.compile(r"- \[(.+)\]\(#(\S+)\)")  # an anchor holds no blank: Markdown makes no link of one


def links(app):
    """Anchor -> words of the page's own list; empty where it has none."""
    listed = [box.value for box in app.markdown if box.value.startswith("**On this page**")]
    assert len(listed) <= 1
    return {anchor: read(words) for words, anchor in LINK.findall(listed[0])} if listed else {}


def anchors(app):
    """Anchor -> words of every heading that has one, in the order of the page."""
    headings = [h for kind in (app.title, app.header, app.subheader) for h in kind if h.proto.anchor]
    there = {h.proto.anchor: read(h.value) for h in headings}
    assert len(there) == len(headings)  # of two that are alike, a browser goes to the first
    return there


def lead_somewhere(app):
    found = links(app)
    assert len(found) > 1
    there = anchors(app)
    assert {anchor: there.get(anchor) for anchor in found} == found
    return list(found)


@pytest.mark.parametrize(
    ("page", "first"),
    [
        ("bands", ["bands-alone", "bands-table"]),
        ("tails", ["tails", "survival"]),
        ("outliers", ["outlier-layers", "outlier-map", "outlier-error", "outliers-of-weights"]),
        ("pressure", ["methods-by-band", "measured", "pressure-by-band"]),
        ("noise", ["noise-by-position", "noise-by-band"]),
    ],
)
def test_a_page_of_the_diagnosis_lists_its_findings(loaded_app, stages, page, first):
    stages.patch(stages.diagnose, "run", lambda *a, **kw: with_nulls())
    go(loaded_app, page)
    listed = lead_somewhere(clicked(loaded_app, "Diagnose"))
    assert [anchor for anchor in listed if anchor in first] == first


def test_tune_lists_its_sections_and_figures(loaded_app):
    go(loaded_app, "tune")
    assert lead_somewhere(loaded_app) == ["by-hand", "candidates", "runs"]
    assert lead_somewhere(clicked(loaded_app, "Start the search")) == ["by-hand", "candidates", "scales", "runs"]


def test_evaluate_lists_its_figures_and_its_continuations(loaded_app, stages):
    stages.patch(stages.evaluate, "run", lambda *a, **kw: planted.evaluation())
    go(loaded_app, "evaluate")
    assert not links(loaded_app)  # of one section there is no list
    listed = lead_somewhere(clicked(loaded_app, "Evaluate"))
    assert listed[:2] == ["ppl", "gain"]
    assert listed[-1] == "continued"
    assert "counts" not in listed  # what experts read is folded, and no link opens it


def test_remedies_lists_its_table_and_figures(loaded_app, stages):
    from qroar_core.remedies import run as compare

    stages.patch(compare, "run", lambda *a, **kw: planted_comparison.comparison())
    go(loaded_app, "remedies")
    listed = lead_somewhere(clicked(loaded_app, "Run the comparison"))
    assert listed == ["comparison", "comparison-gains", "comparison-on-top"]


def test_remedies_lists_the_plot_of_kept_layers(loaded_app, stages):
    from qroar_core.remedies import run as compare

    made = planted_comparison.comparison().model_copy(update={"layers": planted_comparison.layers()})
    stages.patch(compare, "run", lambda *a, **kw: made)
    go(loaded_app, "remedies")
    listed = lead_somewhere(clicked(loaded_app, "Run the comparison"))
    layers = ["loss-by-memory", "kept-layers", "layers-worth"]
    assert listed == ["comparison", "comparison-gains", "comparison-on-top", *layers]
    assert "--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers 0 3" in [code.value for code in loaded_app.code]


def test_evidence_and_export_list_their_sections_before_anything_is_measured(loaded_app):
    go(loaded_app, "evidence")
    assert lead_somewhere(loaded_app) == ["controls-section", "claims", "prediction", "interpolation-section"]
    go(loaded_app, "export")
    assert lead_somewhere(loaded_app) == ["scales-file", "report-file", "checkpoint-folder", "loading"]


def test_what_only_experts_read_is_closed_at_first(loaded_app, stages, monkeypatch):
    monkeypatch.setattr("pages.views.render.OPEN", False)
    stages.patch(stages.diagnose, "run", lambda *a, **kw: with_nulls())
    go(loaded_app, "tails")
    clicked(loaded_app, "Diagnose")
    shown = {}
    for page in ("tails", "outliers"):
        go(loaded_app, page)
        shown[page] = len(settled(loaded_app).get("plotly_chart"))
    assert shown == {"tails": 2, "outliers": 3}
    go(loaded_app, "tune")
    assert not [b for b in loaded_app.get("download_button") if b.label == "Download as CSV"]
    assert button(loaded_app, "Start the search")
