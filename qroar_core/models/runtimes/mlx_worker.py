"""Run as a file by the interpreter of a runtime: ln p of given tokens as mlx-lm gives them, on the CPU.

It imports nothing of this software. Weights are read as float32, so that rounding says nothing about the reader.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(asked: str, answers: str) -> None:
    """Answer the jobs in one JSON file into another."""
    import mlx.core as mx
    from mlx_lm import __version__

    mx.set_default_device(mx.cpu)
    found = [_answer(job) for job in json.loads(Path(asked).read_text())]
    Path(answers).write_text(json.dumps({"version": __version__, "answers": found}))


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    import mlx.core as mx
    from mlx_lm.utils import load

    try:
        model, tokenizer = load(job["folder"])
        model.set_dtype(mx.float32)
        ids = mx.array(job["ids"])
        logits = model(ids[None])[0][job["first"] - 1 : -1].astype(mx.float32)
        ln = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        values = mx.take_along_axis(ln, ids[job["first"] :, None], axis=1)[:, 0].tolist()
        made = [int(token) for token, _ in _continued(model, ids, job["greedy"])]
        return {"values": values, "tokens": tokenizer.encode(job["text"], add_special_tokens=False), "greedy": made}
    except Exception as error:  # a reader refuses in its own words, whatever the class
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _continued(model: Any, ids: Any, count: int) -> Any:
    """The likeliest next tokens behind all but the last `count`, through mlx-lm's own cache."""
    from mlx_lm.generate import generate_step

    return generate_step(ids[:-count], model, max_tokens=count) if count else ()


if __name__ == "__main__":
    main(*sys.argv[1:])
