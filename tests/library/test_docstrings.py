"""The public API says of every argument, result and error what it is, and names attributes that are there."""

import inspect
import re
from pathlib import Path

import pytest

import qroar_core as qroar
from qroar_core import errors
from qroar_core.exporters.formats import FORMATS
from qroar_core.models.own_dtype import DTYPES
from qroar_core.specs.remedies import REMEDIES
from qroar_core.specs.stages import OBJECTIVES

ROOT = Path(__file__).parents[2]
STAGES = (
    "load",
    "diagnose",
    "choose_ties",
    "search",
    "evaluate",
    "retrieve",
    "lm_eval",
    "compare",
    "protect_layers",
    "tune_rope",
    "sweep",
    "tradeoff",
    "export",
)
CLASSES = (
    "Diagnosis",
    "TieChoice",
    "Search",
    "Evaluation",
    "Retrieval",
    "TaskScores",
    "Comparison",
    "LayerChoice",
    "RopeSearch",
    "Tradeoff",
    "Transform",
)


def sections(documented):
    """Heading of a section of a docstring, Args for one -> its lines."""
    parts = re.split(r"^(\w+):\n", inspect.getdoc(documented), flags=re.M)
    return {
        name: [line[4:] for line in text.splitlines() if line[:4] == "    "]
        for name, text in zip(parts[1::2], parts[2::2])
    }


def entries(lines):
    """What lines that are not indented name before their colon."""
    return [name for line in lines if (said := re.match(r"(\w[\w, ]*):", line)) for name in said[1].split(", ")]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_takes_returns_and_raises(name):
    stage = getattr(qroar, name)
    found = sections(stage)
    assert [*found] == ["Args", "Returns", "Raises"]
    assert entries(found["Args"]) == [*inspect.signature(stage).parameters]
    assert found["Returns"]
    raised = re.findall(r"\b([A-Z]\w+):", " ".join(found["Raises"]))
    assert "Cancelled" in raised
    assert all(issubclass(getattr(errors, one), qroar.QRoarError) for one in raised)


@pytest.mark.parametrize("name", CLASSES)
def test_a_result_names_its_main_attributes_and_they_are_there(name):
    kind = getattr(qroar, name)
    named = entries(sections(kind)["Attributes"])
    assert len(named) >= 4
    there = {*getattr(kind, "model_fields", {}), *getattr(kind, "__dataclass_fields__", {})}
    assert {*named} <= there


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("load", ["auto", "balanced", "cpu", "cuda", "mps", *DTYPES]),
        ("search", OBJECTIVES),
        ("export", [name for name in FORMATS if name != "gguf"]),  # which edits a file without loading it
        ("compare", REMEDIES),
    ],
)
def test_what_can_be_chosen_is_what_the_registries_have(stage, words):
    section = re.search(rf"^`{stage}\(.*?(?=^## |\Z)", (ROOT / "docs/api.md").read_text(), re.M | re.S)[0]
    texts = [section] if stage == "compare" else [section, inspect.getdoc(getattr(qroar, stage))]
    assert [(word, i) for word in words for i, text in enumerate(texts) if f"`{word}`" not in text] == []
