"""Memory beyond model and cache: no tensor of a diagnosis grows with the context."""

import pytest
from largest_tensor import LargestTensor

from qroar_core import diagnose, load
from qroar_core.models.text import Document, split
from qroar_core.specs import DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("quant", [QuantSpec(k=QuantizerSpec(4)), QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(8))],
                         ids=["k int4", "k int4, qk int8"])  # fmt: skip
def test_four_times_the_length_makes_no_larger_tensor(quant):
    loaded, seen = load.run("demo", device="cpu", dtype="float32"), {}
    text = [Document("all", "\n".join(document.text for document in split("calibration")))]
    for length in (2048, 8192):
        spec = DiagnosisSpec(length=length, short_length=256, windows=4)
        with LargestTensor(length) as mode:
            diagnose.run(loaded, RopeSpec("yarn", 4.0), quant, spec, text)
        assert len(mode.caches) >= 1
        seen[length] = mode.largest, mode.op
    assert seen[8192][0] <= 1.1 * seen[2048][0], seen
