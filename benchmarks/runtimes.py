"""What every runtime makes of our exports: the demo model, stretched 8 times, past its trained window.

Every interpolation, each without a transform, with random scales, and with random scales and angles. A runtime reads
the exported folder in a process of its own, as `verify --runtime` asks it; llama.cpp a GGUF F16 of the same setup. The
reference is transformers 5 on the same folder. Weights and arithmetic are float32 where a runtime has it.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers

from qroar_core.errors import BadSpec, QRoarError
from qroar_core.exporters import gguf_write, hf
from qroar_core.exporters.install_runtime import install, installing
from qroar_core.exporters.readers import readers, runnable
from qroar_core.interpolations.registry import stretching
from qroar_core.models import load
from qroar_core.models.llama_cpp import LlamaCpp, LlamaCppStates
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.runtimes.run import Answer, Job, ask, is_installed, place_of
from qroar_core.models.score import token_nll
from qroar_core.models.text import encode, split
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

FACTOR = 8.0
TOKENS, FIRST = 1300, 256  # tokens read, and the first of them that is scored: 1,044, all past the trained window
GREEDY = 32  # tokens that continue all but the last GREEDY
BANDS = 8
AT_ONCE = 2  # interpolations a process
KEPT = Path(__file__).parent / "results" / "runtimes" / "rows.jsonl"
TRANSFORMS = ("none", "scales", "scales and angles")
REFERENCE = "transformers_worker"  # by the interpreter of this environment


def main(name: str, minutes: float | None = None) -> None:
    """Print one runtime's table; what was measured before at this setup and by this runtime is read again.

    Args:
        minutes: end between two processes after so many; the table then has the interpolations that are done.
    Raises:
        BadSpec: it is not installed.
    """
    require(name)
    began = time.monotonic()
    loaded = load.run("demo", device="cpu", dtype="float32")
    ids = encode(loaded.tokenizer, split("heldout")[0])[:TOKENS].tolist()
    wanted = list(ropes(loaded))
    rows = kept_rows(name)
    missing = [rope for rope in wanted if rope.method not in rows]
    for start in range(0, len(missing), AT_ONCE):
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            break
        for row in measured(name, loaded, missing[start : start + AT_ONCE], ids):
            keep(row)
            rows[row["rope"]] = row
    done = [rows[rope.method] for rope in wanted if rope.method in rows]
    label = readers()[name].label
    print(heading(TRANSFORMS))
    for row in done:
        print(f"| {label} {row['version']} | {row['rope']} | {' | '.join(row['cells'])} |")
    refused = dict.fromkeys(f"- {row['rope']}: {error}" for row in done for error in row["errors"])
    if refused:
        print("\n" + "\n".join(refused))
    if len(done) < len(wanted):
        print(f"\nNot asked yet: {', '.join(rope.method for rope in wanted if rope.method not in rows)}.")


def setup_of(name: str) -> dict[str, Any]:
    """What a kept row depends on beside its interpolation."""
    packages = [*readers()[name].packages, f"transformers=={transformers.__version__}"]
    return {"runtime": name, "packages": packages, "factor": FACTOR, "tokens": TOKENS, "first": FIRST, "greedy": GREEDY}


def kept_rows(name: str) -> dict[str, dict[str, Any]]:
    """Interpolation -> row, of those that were measured at today's setup."""
    if not KEPT.is_file():
        return {}
    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    return {row["rope"]: row for row in rows if row["setup"] == setup_of(name)}


def keep(row: dict[str, Any]) -> None:
    """One line more in the file of rows."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with KEPT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def heading(columns: Sequence[str]) -> str:
    """The head of every runtime's table."""
    return f"| runtime | `--rope` | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}"


def require(name: str) -> None:
    """Refuse a runtime that is not there.

    Raises:
        BadSpec: with the line that installs it.
    """
    reader = readers()[name]
    if not is_installed(name, reader.module, here=reader.here):
        raise BadSpec(f"{reader.name} is not installed", where=name, do=installing(name, reader))


def install_missing(asked: Collection[str]) -> None:
    """Put those of these runtimes that are not there yet where they are looked for."""
    for name in runnable():
        if name not in asked:
            continue
        reader = readers()[name]
        if not is_installed(name, reader.module, here=reader.here):
            print(installing(name, reader), flush=True)
            install(name, reader)


def ropes(loaded: LoadedModel) -> Iterator[RopeSpec]:
    """Every interpolation by its name; LongRoPE with two lists, of divisors that grow with the wavelength."""
    pairs = loaded.geometry.n_pairs
    grown = tuple(1 + (FACTOR - 1) * i / (pairs - 1) for i in range(pairs))
    for method in stretching():
        lists = {"long_factor": grown, "short_factor": (1.0,) * pairs} if method == "longrope" else {}
        yield RopeSpec(method, FACTOR, **lists)


def transforms(loaded: LoadedModel) -> Iterator[Scales | None]:
    """None, scales of 1/2 to 2 a band and KV head, and the same with an angle a pair."""
    geo, generator = loaded.geometry, torch.Generator().manual_seed(0)
    edges = [round(i * geo.n_pairs / BANDS) for i in range(BANDS + 1)]
    bands = tuple((low, high - 1) for low, high in zip(edges[:-1], edges[1:], strict=True))
    shape = geo.n_layers, geo.n_kv_heads
    g = (2 * torch.rand(*shape, BANDS, generator=generator, dtype=torch.float64) - 1).exp2()
    angles = math.tau * torch.rand(*shape, geo.n_pairs, generator=generator, dtype=torch.float64)
    yield None
    yield Scales("symmetric", "kv_head", bands, g)
    yield Scales("symmetric", "kv_head", bands, g, angles)


def measured(name: str, loaded: LoadedModel, asked: list[RopeSpec], ids: list[int]) -> Iterator[dict[str, Any]]:
    """A row an interpolation, all of them by one process of the runtime."""
    reader, place, kinds = readers()[name], place_of(name), list(transforms(loaded))
    with tempfile.TemporaryDirectory() as scratch:
        made = [
            (rope, scales, hf.run(loaded, rope, scales, Path(scratch) / f"{rope.method}{i}"))
            for rope in asked
            for i, scales in enumerate(kinds)
        ]
        jobs = [Job(str(folder), ids, FIRST, greedy=GREEDY) for _, _, folder in made]
        if reader.worker:
            version, answers = ask(reader.worker, jobs, place if place.is_dir() else None)
        else:
            version = f"(xllamacpp {metadata.version('xllamacpp')})"
            answers = [
                in_llama_cpp(loaded, rope, scales, ids, folder.with_suffix(".gguf")) for rope, scales, folder in made
            ]
        _, reference = ask(REFERENCE, jobs, None)
    for at, rope in enumerate(asked):
        of = slice(at * len(kinds), (at + 1) * len(kinds))
        yield {
            "setup": setup_of(name),
            "rope": rope.method,
            "version": version,
            "cells": [cell(one, wanted) for one, wanted in zip(answers[of], reference[of], strict=True)],
            "errors": list(dict.fromkeys(one.error for one in answers[of] if one.error)),
        }


def in_llama_cpp(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, ids: list[int], folder: Path) -> Answer:
    """What llama.cpp makes of a GGUF F16: ln p from its final states, and its own greedy tokens."""
    try:
        (file,) = gguf_write.run(loaded, rope, scales, folder, format="gguf-f16").glob("*.gguf")
    except QRoarError as error:
        return Answer([], [], str(error))
    states = LlamaCppStates(file, TOKENS + 8).states(ids)[None, FIRST - 1 : -1]
    nll = token_nll(loaded, states, torch.tensor([ids[FIRST:]]))[0]
    made = LlamaCpp(file, TOKENS + 8).continuation(ids[:-GREEDY], GREEDY)
    return Answer((-nll.double()).tolist(), [], greedy=tuple(made))


def cell(found: Answer, wanted: Answer) -> str:
    """Largest |d ln p| and mean in nats, and how many greedy tokens are the same before one is not."""
    if found.error:
        return "refused"
    apart = (torch.tensor(found.values).double() - torch.tensor(wanted.values).double()).abs()
    if not apart.isfinite().all():
        return f"{int((~apart.isfinite()).sum())} of {len(apart)} are NaN"
    return f"{float(apart.max()):.1e} ({float(apart.mean()):.1e}), {alike(found.greedy, wanted.greedy)}"


def alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are the same before one is not."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))
