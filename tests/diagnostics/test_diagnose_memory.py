"""Memory beyond model and cache: neither a tensor of a diagnosis nor what the process holds grows with the context."""

import subprocess
import sys

import pytest

from qroar_core.diagnostics import run as diagnose
from qroar_core.models import load
from qroar_core.models.text import Document, split
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers.largest_tensor import LargestTensor

pytestmark = pytest.mark.slow

MIB = 2**20
# A process of its own: in this one other tests have left a heap full of gaps, which would hide any growth.
RESIDENT = """
import gc, sys, threading, time
import psutil
from qroar_core.diagnostics import run as diagnose
from qroar_core.models import load
from qroar_core.models.memory import cache_bytes_per_token
from qroar_core.models.text import Document, split
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec
length, rope = int(sys.argv[1]), RopeSpec("yarn", 4.0)
loaded = load.run("demo", device="cpu", dtype="float32")
text = [Document("all", "\\n".join(document.text for document in split("calibration")))]
spec = DiagnosisSpec(length=length, short_length=256, windows=4)
diagnose.plan(loaded, Setting(rope, QuantSpec(), diagnosis=spec), text)
gc.collect()
resident = psutil.Process().memory_info
before = peak = resident().rss
stop = False
def watch():
    global peak
    while not stop:
        peak = max(peak, resident().rss)
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
diagnose.run(loaded, Setting(rope, QuantSpec(k=QuantizerSpec(4)), diagnosis=spec), text)
stop = True
thread.join()
print(peak - before - length * cache_bytes_per_token(loaded))
"""


@pytest.mark.parametrize(
    "quant",
    [QuantSpec(k=QuantizerSpec(4)), QuantSpec(k=QuantizerSpec(4), qk=QuantizerSpec(8))],
    ids=["k int4", "k int4, qk int8"],
)
def test_four_times_the_length_makes_no_larger_tensor(quant):
    loaded, seen = load.run("demo", device="cpu", dtype="float32"), {}
    text = [Document("all", "\n".join(document.text for document in split("calibration")))]
    for length in (1024, 4096):
        spec = DiagnosisSpec(length=length, short_length=256, windows=4, chunk=256)
        with LargestTensor(length) as mode:
            diagnose.run(loaded, Setting(RopeSpec("yarn", 4.0), quant, diagnosis=spec), text)
        assert len(mode.caches) >= 1
        seen[length] = mode.largest, mode.op
    assert seen[4096][0] <= 1.1 * seen[1024][0], seen


@pytest.mark.skipif(sys.platform != "linux", reason="what is given back to the system is glibc's to decide")
def test_four_times_the_length_makes_no_larger_process():
    """Small tensors that stay, between large ones that go, once made the process grow: by 25 to 40 MiB here.

    Gaps in the heap only ever add to what a process holds, 5 to 30 MiB from one run to the next: the least counts.
    """
    beyond: dict[int, list[float]] = {2048: [], 8192: []}
    for _ in range(4):
        for length, seen in beyond.items():
            command = [sys.executable, "-c", RESIDENT, str(length)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seen.append(int(done.stdout.split()[-1]) / MIB)
        if min(beyond[8192]) - min(beyond[2048]) < 16:
            return
    raise AssertionError(beyond)
