"""Evaluation at length: its cost in bare forward passes, its memory, and every stage at 16k and 32k tokens.

`evaluation`: SmolLM2-135M, YaRN x2 (8,192 tokens promise 16,384), K int4 per token and head, one held-out window.
Reference and quantized with KL, as `evaluate` runs them, against two bare forward passes over the same window in the
same process; and peak memory beyond model and K/V cache. `lengths`: diagnosis, search and evaluation in full.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.checkpoint import ABOUT, digest_of, loaded_as
from qroar_core.diagnostics import run as diagnose
from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.kl_report import kl_report
from qroar_core.models import load, smollm2
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import cache_bytes_per_token
from qroar_core.models.score import forward_seconds
from qroar_core.models.stream import Condition
from qroar_core.models.text import SPLITS, split, windows
from qroar_core.models.window_losses import measure
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

SHORT, LONG = 2048, 16384
ROPE, INT4 = RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))
TEXT = "novels"  # the longest embedded documents
MEMORY_POLL_SECONDS = 0.05  # seconds between looks at the memory; each costs a tenth of a millisecond of CPU time
MIB = 2**20


def main() -> None:
    """Both lengths, each in a process of its own."""
    smollm2.fetch()
    print(f"{ABOUT}\n")
    print(
        "| length | evaluation, s | two bare forwards, s | ratio | ratio in CPU time | K/V cache, MiB | beyond, MiB "
        "| ppl reference | quantized | KL | same top 1 | tokens' digest |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    beyond = {}
    for length in (SHORT, LONG):
        asked = [sys.executable, "-m", "benchmarks.evaluation", str(length)]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        line = json.loads(done.stdout.strip().splitlines()[-1])
        beyond[length] = line["beyond"]
        print(
            f"| {length} | {line['seconds']:.1f} | {line['bare']:.1f} | {line['seconds'] / line['bare']:.2f} "
            f"| {line['cpu'] / line['bare_cpu']:.2f} | {line['cache']:.0f} | {line['beyond']:.0f} "
            f"| {line['ppl'][0]:.3f} | {line['ppl'][1]:.3f} | {line['kl']:.4f} | {line['same']:.1%} "
            f"| {line['digest']} |",
            flush=True,
        )
    print(f"\nMemory beyond model and cache: {beyond[LONG] / beyond[SHORT]:.2f} at {LONG // SHORT} times the length.")


def one(length: int) -> dict:
    """One line of the table."""
    loaded = load.run("smollm2", device="cpu", dtype="float32")
    ids = windows(loaded.tokenizer, split("heldout", TEXT), LONG, 1).ids[:, -length:]
    forward_seconds(loaded, ids[:, :64])  # touches every weight
    started, began = time.perf_counter(), time.process_time()
    with peak() as memory, HiddenStateFile(length - 1) as states:
        reference = measure(loaded, Condition(ROPE), ids, length - 1, keep=states)
        seen = measure(loaded, Condition(ROPE, INT4), ids, length - 1, against=states)
    spent, worked = time.perf_counter() - started, time.process_time() - began
    began = time.process_time()
    bare = forward_seconds(loaded, ids) + forward_seconds(loaded, ids)
    cache = length * cache_bytes_per_token(loaded) / MIB
    assert seen.apart is not None
    close = kl_report(reference.nll, seen.nll, seen.apart.kl, seen.apart.same_top1)
    return {
        "seconds": spent,
        "cpu": worked,
        "bare": bare,
        "bare_cpu": time.process_time() - began,
        "cache": cache,
        "beyond": memory.peak - cache,
        "kl": close.kl_mean,
        "same": close.same_top1,
        "digest": digest_of(ids),
        "ppl": [float(m.nll.double().mean().exp()) for m in (reference, seen)],
    }


@dataclass
class Memory:
    """Resident memory above where it stood, MiB."""

    peak: float = 0.0


@contextmanager
def peak() -> Iterator[Memory]:
    """Watch this process's resident memory."""
    import psutil

    gc.collect()
    process, found, stop = psutil.Process(), Memory(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(MEMORY_POLL_SECONDS):
            found.peak = max(found.peak, (process.memory_info().rss - before) / MIB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Case:
    """A model as far as this machine and the embedded text take it; no two windows of a document overlap."""

    model: str
    rope: RopeSpec
    length: int
    short: int
    calibration: int  # windows


DEMO = Case("demo", RopeSpec("yarn", 128.0), 32000, 256, 2)
SMOLLM2 = Case("smollm2", ROPE, LONG, 2048, 1)


def lengths(case: Case) -> None:
    """Every stage at the longest length of one model."""
    loaded = loaded_as(case.model)
    print(
        "| model | length | diagnosis, s | search, s | evaluation, s | peak beyond model, MiB | of it cache "
        "| ppl reference | quantized | tuned | what the evaluation says "
        "| held-out text |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    print(at_length(loaded, case), flush=True)
    print(f"\nK int4 per token and head, text: {TEXT}, two held-out windows each.")


def at_length(loaded: LoadedModel, case: Case) -> str:
    """One line."""
    texts = {part: split(part, TEXT) for part in SPLITS}
    clock = [time.perf_counter()]
    with peak() as memory:
        asked = DiagnosisSpec(length=case.length, short_length=case.short)
        diagnosis = diagnose.run(loaded, Setting(case.rope, INT4, diagnosis=asked), texts["calibration"])
        clock.append(time.perf_counter())
        spec = SearchSpec(length=case.length, windows=case.calibration)
        outcome = search.run(loaded, Setting(case.rope, INT4, search=spec), texts, diagnosis)
        clock.append(time.perf_counter())
        asked = EvaluationSpec(lengths=(case.length,), windows=2, rotation=False)
        result = evaluate.run(loaded, Setting(case.rope, INT4, evaluation=asked), outcome.found, None, texts["heldout"])
        clock.append(time.perf_counter())
    ppl = {(row.model, row.scales): row.ppl for row in result.rows}
    shown = [ppl["reference", "identity"], ppl["quantized", "identity"], ppl.get(("quantized", "tuned"))]
    cache = case.length * cache_bytes_per_token(loaded) / MIB
    cells = [
        case.model,
        case.length,
        *(f"{b - a:.0f}" for a, b in zip(clock, clock[1:])),
        f"{memory.peak:.0f}",
        f"{cache:.0f}",
        *(f"{p:.3f}" for p in shown),
        result.sentence,
        result.text,
    ]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]))))
