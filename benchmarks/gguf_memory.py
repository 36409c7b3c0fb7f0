"""Peak memory while SmolLM2's GGUF file is read: the model in its dtype, one tensor, and what else."""

from __future__ import annotations

import json
import subprocess
import sys

from qroar_core.models import smollm2

MIB = 2**20
CHILD = """
import gc, json, sys, threading, time
import psutil, torch
from qroar_core.models.families import family_of
from qroar_core.models.fill_weights import filled
from qroar_core.models.load import read_config
from qroar_core.models.sources import locate
dtype = getattr(torch, sys.argv[1])
found = locate("smollm2")
config = read_config(found, json.loads((found.folder / "config.json").read_text()))
stored, _ = found.tensors()
largest = max(stored, key=lambda name: torch.Size(stored[name].shape).numel())
family = family_of(config.architectures, "")
gc.collect()
process = psutil.Process()
before = peak = process.memory_info().rss
stop = False
def watch():
    global peak
    while not stop:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.001)
thread = threading.Thread(target=watch); thread.start()
model = filled(config, stored, dtype, family, "")
stop = True; thread.join()
kept = sum(p.numel() * p.element_size() for p in model.parameters())
print(json.dumps({"peak": peak - before, "model": kept, "tensor": torch.Size(stored[largest].shape).numel() * 4,
                  "name": largest}))
"""


def measured(dtype: str) -> dict:
    """Bytes of the peak over the start, of the model, and of its largest tensor in float32."""
    done = subprocess.run([sys.executable, "-c", CHILD, dtype], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Print one row a dtype."""
    smollm2.fetch()
    print("| dtype | model, MiB | largest tensor in float32, MiB | peak while reading, MiB | beyond both, MiB |")
    print("|---|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        found = measured(dtype)
        beyond = found["peak"] - found["model"] - found["tensor"]
        row = (found["model"], found["tensor"], found["peak"], beyond)
        print(f"| {dtype} | " + " | ".join(f"{x / MIB:.0f}" for x in row) + " |")
    print(f"\nlargest tensor: {found['name']}")


if __name__ == "__main__":
    main()
