"""While a pass goes over its chunks, the host waits for no device: neither to read nor to send.

On a GPU the same is checked by torch.cuda.set_sync_debug_mode("error") in `python -m benchmarks gpu`.
"""

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.models.calibrate import calibrated
from qroar_core.models.capture import capture
from qroar_core.models.condition import Condition
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.stream import open_stream
from qroar_core.models.window_losses import measure
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec
from tests.models.placed import ONE, placed, put
from tests.models.test_placed import CONDITIONS, K4V4, TEXTS, YARN

pytestmark = pytest.mark.slow

ALLOWED = {  # line of the core -> why it may wait within a pass
    "models/hidden_state_file.py": "the reference's hidden states of a long window are on disk, or memory would grow",
}
MADE_HERE = {  # what a pass may make on the host out of nothing, all else is made where the model is: why
    "interpolations/": "positions of a chunk, whose cos and sin are sent",
    "maths/rope.py": "which pair and band a channel is in",
    "quantizers/hadamard.py": "a rotation, once a process",
    "diagnostics/pressure/": "a meter's sums, sent at its first update, and signs drawn by seed",
    "diagnostics/logit_noise/": "the same; positions of the sampled rows",
    "diagnostics/bands/channel_products.py": "which sampled rows see which keys",
}
MOST_MADE_HERE = 512  # numbers in one of them, at this size: rows x distances
SPEC = DiagnosisSpec(
    length=64, short_length=16, paired_tokens=8, bands=BandSpec(4), chunk=32, null_draws=1, query_rows=8
)
QUANTS = {
    "tokens": K4V4,
    "tables": QuantSpec(
        k=QuantizerSpec(4, "block", group_size=16, levels="iq4_nl"), v=QuantizerSpec(4, rotation="hadamard")
    ),
    **CONDITIONS,
}


@pytest.fixture
def there(tiny):
    def build():
        loaded = tiny()
        put(loaded.model, ONE)
        loaded.device = ONE
        return loaded

    return build


def unexplained(machine):
    return {line: n for line, n in machine.inside.items() if line.split(":")[0] not in ALLOWED}


@pytest.mark.parametrize("quant", QUANTS.values(), ids=QUANTS)
def test_a_diagnosis_waits_between_its_passes_only(there, monkeypatch, quant):
    with placed() as machine:
        loaded = there()
        machine.watch_passes(monkeypatch)
        diagnose.run(loaded, Setting(YARN, quant, diagnosis=SPEC), TEXTS["calibration"])
    assert machine.waits  # between passes
    assert unexplained(machine) == {}
    lines = {line.split(":")[0] for line in machine.made_here}
    assert {line for line in lines if not line.startswith(tuple(MADE_HERE))} == set()
    assert max(machine.made_here.values()) <= MOST_MADE_HERE


@pytest.mark.parametrize("quant", QUANTS.values(), ids=QUANTS)
def test_an_evaluation_and_a_capture_wait_between_their_passes_only(there, ids, monkeypatch, quant):
    text = ids(2, 96)
    with placed() as machine, HiddenStateFile(90) as kept:
        loaded = there()
        machine.watch_passes(monkeypatch)
        measure(loaded, Condition(YARN), text, 90, chunk=32, keep=kept)
        condition = calibrated(loaded, Condition(YARN, quant), text[:1])
        measure(loaded, condition, text, 90, chunk=32, against=kept)
        capture(loaded, YARN, text, 8, chunk=32)
    assert unexplained(machine) == {}


def test_a_wait_in_an_observer_is_seen(there, ids, monkeypatch):
    class Reads:
        def on_attention(self, tap):
            float(tap.q.sum())

        def on_layer(self, layer, row, start, hidden):
            hidden[torch.tensor([0])]  # an index that the host has to send

    with placed() as machine:
        loaded = there()
        machine.watch_passes(monkeypatch)
        with open_stream(loaded, Condition(), 96, chunk=32) as stream:
            for _ in stream.run(ids(96), (Reads(),)):
                pass
    assert sorted(machine.inside.values()) == [6, 6]  # chunks x layers
