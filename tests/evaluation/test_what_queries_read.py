"""Every stage that compares conditions says what a query reads where a cache keeps its newest tokens exactly."""

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.evaluation import continuations
from qroar_core.evidence.controls.measure import measure_controls
from qroar_core.evidence.prediction import run as predict
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.models.text import Document
from qroar_core.remedies import run as compare
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    ComparisonSpec,
    ContinuationSpec,
    ControlSpec,
    DiagnosisSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    RopeSpec,
    SearchSpec,
)
from qroar_core.transforms.scales import Scales

TEXTS = [
    Document(name, "".join(chr(97 + (i * i + step * i) % 26) for i in range(900)))
    for name, step in (("a", 3), ("b", 5))
]
YARN = RopeSpec("yarn", 2.0)
RESIDUAL, PLAIN = QuantSpec(k=QuantizerSpec(4, residual=16)), QuantSpec(k=QuantizerSpec(4))
SAID = "; the cache holds keys of the newest 1 to 16 tokens exactly and older ones rounded"


def predicted(loaded, quant):
    asked = DiagnosisSpec(length=64, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(2))
    found = diagnose.run(loaded, Setting(YARN, quant, diagnosis=asked), TEXTS)
    spec = PredictionSpec(length=64, windows=2, grid_windows=0)
    return predict.run(loaded, Setting(YARN, quant), spec, TEXTS, found).text


def controlled(loaded, quant):
    bands = bands_of(loaded, BandSpec(2))
    scales = Scales("symmetric", "kv_head", bands, torch.full((2, 2, 2), 2.0, dtype=torch.float64))
    spec = ControlSpec(length=64, windows=2, shuffles=1, dtypes=())
    return measure_controls(loaded, Setting(YARN, quant), scales, spec, TEXTS).text


def continued(loaded, quant):
    spec = ContinuationSpec(length=64, tokens=4)
    return continuations.run(loaded, Setting(YARN, quant), None, None, spec, TEXTS).origin


def remedies_compared(loaded, quant, methods=("smooth_attention",)):
    spec = ComparisonSpec(
        search=SearchSpec(bands=BandSpec(2), length=64),
        windows=2,
        calibration_windows=1,
        methods=methods,
        band_scales=False,
    )
    texts = {"heldout": TEXTS[:1], "calibration": TEXTS[1:], "development": TEXTS[1:]}
    return compare.run(loaded, Setting(YARN, quant), spec, texts).text


@pytest.mark.parametrize("stage", [predicted, controlled, continued, remedies_compared])
def test_it_is_said_where_the_newest_keys_are_exact_and_only_there(tiny, stage):
    loaded = tiny()
    assert SAID in stage(loaded, RESIDUAL)
    assert "the cache holds" not in stage(loaded, PLAIN)


def test_a_comparison_says_it_of_the_remedy_that_brings_such_a_cache(tiny):
    """Per-channel K has KIVI's residual: it keeps the newest 128 tokens, whatever cache it is put in the place of."""
    loaded, brought = (
        tiny(),
        "; under KVQuant (K per channel before RoPE) the cache holds keys of the newest 1 to 128 tokens",
    )
    for quant in (PLAIN, RESIDUAL):
        text = remedies_compared(loaded, quant, ("kvquant", "rotation"))
        assert text.count(brought) == 1
        assert (SAID in text, text.count("the cache holds")) == (quant is RESIDUAL, 1 + (quant is RESIDUAL))
