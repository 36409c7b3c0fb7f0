"""Loads folders again and again, one number of config.json changed at a time, under a limit of memory.

    python -m tests.models.config_numbers STRIDE FOLDER ...

Prints a line of JSON for every change: what was changed, how it ended, how long it took. It runs in a process of its
own, because memory can be limited for a whole process only.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

ROOM = 4 << 30  # bytes of address space
VALUES = (0, -1, 1e9, 1e18, 0.5, float("nan"))


def numbers(raw, at=()):
    """Path of every number of a config."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, dict | list):
            yield from numbers(value, (*at, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*at, key)


def with_value(raw, path, value):
    """A copy of `raw` with another number at `path`."""
    copy = json.loads(json.dumps(raw))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = int(value) if isinstance(value, float) and value.is_integer() else value
    return copy


def main(folders, stride):
    """Every `stride`-th change of every folder, each folder beginning with another one."""
    import torch

    from qroar_core.errors import QRoarError
    from qroar_core.models.load import run as load_model

    ids = torch.arange(1, 65)[None] % 250

    def logits(loaded):
        with torch.no_grad():
            return loaded.model(ids, use_cache=False).logits

    raws = [json.loads((folder / "config.json").read_text()) for folder in folders]
    expected = [logits(load_model(str(folder), device="cpu", dtype="float32")) for folder in folders]
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    for index, (folder, raw) in enumerate(zip(folders, raws, strict=True)):
        changes = [(path, value) for path in numbers(raw) for value in VALUES]
        for path, value in changes[index % stride :: stride]:
            (folder / "config.json").write_text(json.dumps(with_value(raw, path, value)))
            started = time.process_time()
            said = ""
            try:
                loaded = load_model(str(folder), device="cpu", dtype="float32")
                how = "same" if torch.equal(logits(loaded), expected[index]) else "other"
            except QRoarError as error:
                how, said = "refused", str(error)
            except Exception as error:
                how, said = "escaped", f"{type(error).__name__}: {str(error)[:200]}"
            line = {
                "folder": folder.name,
                "path": ".".join(map(str, path)),
                "value": str(value),
                "how": how,
                "seconds": time.process_time() - started,
                "said": said,
            }
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        (folder / "config.json").write_text(json.dumps(raw))


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[2:]], int(sys.argv[1]))
