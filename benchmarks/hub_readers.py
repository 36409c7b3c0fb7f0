"""How many exports of well-known configs a runtime reads as transformers 5 does: small random models of every family.

Each config of `tests/models/hub_configs.py` is exported with its own interpolation, YaRN x2, linear x2 and NTK x2,
where its family takes them. What a runtime gives other numbers for must stand among its limits; what does not is named.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import torch
import transformers

from benchmarks.runtimes import REFERENCE, require
from qroar_core.errors import QRoarError
from qroar_core.exporters import hf
from qroar_core.exporters.exported import of_folder
from qroar_core.exporters.readers import readers
from qroar_core.models import load
from qroar_core.models.runtimes.run import Answer, Job, ask, place_of
from qroar_core.models.sources import DEMO
from qroar_core.specs import RopeSpec

ROPES = (RopeSpec(), RopeSpec("yarn", 2.0), RopeSpec("linear", 2.0), RopeSpec("ntk", 2.0))
IDS, FIRST = list(range(1, 251)) + list(range(1, 39)), 258
BOUNDS = {"transformers4": 1e-4, "mlx": 1e-3}  # nats, the largest |d ln p| of a token that is rounding
AT_ONCE = 24  # exports a process
KINDS = ("same numbers", "other numbers", "refused")


def main(name: str) -> None:
    """Print one runtime's line, and what its limits do not name.

    Raises:
        BadSpec: it is not installed.
    """
    require(name)
    reader, place = readers()[name], place_of(name)
    counted: Counter[str] = Counter()
    said, unsaid, version = 0, [], ""
    with tempfile.TemporaryDirectory() as scratch:
        folders = exports(Path(scratch))
        for start in range(0, len(folders), AT_ONCE):
            part = folders[start : start + AT_ONCE]
            jobs = [Job(str(folder), IDS, FIRST) for folder in part]
            _, reference = ask(REFERENCE, jobs, None)
            version, answers = ask(reader.worker, jobs, place if place.is_dir() else None)
            for folder, answer, wanted in zip(part, answers, reference, strict=True):
                kind = kind_of(answer, wanted, BOUNDS[name])
                counted[kind] += 1
                if kind == KINDS[0]:
                    continue
                if reader.limits_of(of_folder(folder, "hf")):
                    said += 1
                else:
                    unsaid.append(f"{folder.name}: {answer.error[:120] or kind}")
    print(f"| runtime | exports | {' | '.join(KINDS)} | of the last two, named by its limits |\n|{'---|' * 6}")
    cells = [str(counted[kind]) for kind in KINDS]
    print(f"| {reader.label} {version} | {counted.total()} | {' | '.join(cells)} | {said} |")
    if unsaid:
        print("\nNot named:\n\n" + "\n".join(f"- {line}" for line in unsaid))


def exports(top: Path) -> list[Path]:
    """One folder an export; what a family does not take is left out."""
    from tests.models.hub_configs import HUB
    from tests.models.hub_folders import random_model

    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
    made = []
    for name, own in HUB.items():
        source = top / "source" / name
        source.mkdir(parents=True)
        (source / "config.json").write_text(json.dumps(own))
        random_model(transformers.AutoConfig.from_pretrained(source)).save_pretrained(source)
        tokenizer.save_pretrained(source)
        (source / "config.json").write_text(json.dumps(own))  # as the hub has it, not as transformers 5 writes it
        for rope in ROPES:
            try:
                loaded = load.run(str(source), device="cpu", dtype="float32")
                made.append(hf.run(loaded, rope, None, top / f"{name}, {rope.method}"))
            except QRoarError:
                continue
    return made


def kind_of(answer: Answer, wanted: Answer, bound: float) -> str:
    """One of KINDS."""
    if answer.error:
        return "refused"
    apart = (torch.tensor(answer.values).double() - torch.tensor(wanted.values).double()).abs()
    return "same numbers" if bool((apart < bound).all()) else "other numbers"
