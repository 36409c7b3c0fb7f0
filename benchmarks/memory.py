"""Peak memory of a diagnosis beyond model and K/V cache, at one length and at four times that length."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.checkpoint import ABOUT
from qroar_core.models import smollm2

SHORT, LONG = 2048, 8192
MIB = 2**20
CHILD = """
import gc, json, resource, sys
import psutil, torch
from benchmarks.checkpoint import digest_of
from qroar_core.diagnostics import run as diagnose
from qroar_core.models import load
from qroar_core.models.memory import cache_bytes_per_token
from qroar_core.models.text import Document, split
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec
length = int(sys.argv[1])
loaded = load.run("smollm2", device="cpu", dtype="float32")
text = [Document("all", "\\n".join(d.text for d in split("calibration")))]
rope, asked = RopeSpec("yarn", 2.0), DiagnosisSpec(length=length, short_length=512)
plan = diagnose.plan(loaded, Setting(rope, QuantSpec(), diagnosis=asked), text)
gc.collect()
before = psutil.Process().memory_info().rss
peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
import threading, time
peak, stop = before, False
def watch():
    global peak
    while not stop:
        peak = max(peak, psutil.Process().memory_info().rss)
        time.sleep(0.005)
t = threading.Thread(target=watch); t.start()
diagnose.run(loaded, Setting(rope, QuantSpec(k=QuantizerSpec(4)), diagnosis=asked), text)
stop = True; t.join()
cache = length * cache_bytes_per_token(loaded)
print(json.dumps({"extra": peak - before, "cache": cache, "digest": digest_of(plan.ids)}))
"""


def main() -> None:
    """Print peak minus start minus cache at both lengths, and their ratio."""
    smollm2.fetch()
    print(f"{ABOUT}\n")
    rows = {}
    for length in (SHORT, LONG):
        done = subprocess.run([sys.executable, "-c", CHILD, str(length)], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        rows[length] = found["extra"] - found["cache"], found["cache"], found["digest"]
    print("| length | K/V cache, MiB | beyond model and cache, MiB | tokens' digest |")
    print("|---|---|---|---|")
    for length, (beyond, cache, digest) in rows.items():
        print(f"| {length} | {cache / MIB:.0f} | {beyond / MIB:.0f} | {digest} |")
    print(f"\nratio {rows[LONG][0] / rows[SHORT][0]:.2f} at 4 times the length")


if __name__ == "__main__":
    main()
