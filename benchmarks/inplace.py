"""Band scales put into the SmolLM2 GGUF in place: seconds and memory of the whole command, imports included."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from qroar_core.models import smollm2
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.model import understood
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales

REPEATS = 3
LAUNCHER = """import os, subprocess, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)
print(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(status != 0)
"""  # small, because Linux counts the memory of who starts a process as that process's own
SECONDS, MEBIBYTES = 5.0, 300.0  # what issue 4 allows


def main() -> None:
    """Scales alone, then scales and YaRN, each `REPEATS` times in a process of its own; the slowest counts."""
    source = smollm2.fetch()
    print(f"{source.name}, {source.stat().st_size / 2**20:.0f} MiB; slowest of {REPEATS} runs.\n")
    print("| command | seconds | of one core | peak memory, MiB | within 5 s and 300 MiB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        scales = planted(source, Path(scratch))
        for label, more in (("scales", []), ("scales, YaRN x2", ["--rope", "yarn", "--factor", "2"])):
            words = ["export", str(source), "--format", "gguf", "--scales", str(scales), *more]
            runs = [timed([*words, "--out", f"{scratch}/{label[:8]}-{len(more)}-{i}"]) for i in range(REPEATS)]
            seconds, core, peak = (max(column) for column in zip(*runs, strict=True))
            kept = "yes" if seconds <= SECONDS and peak <= MEBIBYTES else "NO"
            print(f"| {label} | {seconds:.1f} | {core:.1f} | {peak:.0f} | {kept} |", flush=True)


def planted(source: Path, folder: Path) -> Path:
    """scales.json for the file: a random g from a half to two per layer, KV head and band."""
    model = understood(source, read_header(source))
    geo = model.geometry
    described = SimpleNamespace(name=source.stem, fingerprint=min(model.fingerprints()), geometry=geo)
    drawn = torch.rand(geo.n_layers, geo.n_kv_heads, 2, generator=torch.Generator().manual_seed(0)).double()
    half = geo.n_pairs // 2
    scales = Scales("symmetric", "kv_head", ((0, half - 1), (half, geo.n_pairs - 1)), (2 * drawn - 1).exp2())
    path = folder / "scales.json"
    path.write_text(to_file(described, RopeSpec(), QuantSpec(), scales).to_json())
    return path


def timed(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, seconds of a core, and peak resident MiB of `python -m qroar_core` with these arguments."""
    words = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "qroar_core", *arguments]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    seconds, core, kibibytes = said.splitlines()[-1].split()
    return float(seconds), float(core), int(kibibytes) / 1024


if __name__ == "__main__":
    main()
