"""Run as a file by the interpreter of a runtime: ln p of given tokens as that transformers gives them.

It imports nothing of this software: older versions of transformers are on its path, and nothing else is sure to be.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(asked: str, answers: str) -> None:
    """Answer the jobs in one JSON file into another."""
    import transformers

    transformers.logging.set_verbosity_error()
    found = [_answer(job) for job in json.loads(Path(asked).read_text())]
    Path(answers).write_text(json.dumps({"version": transformers.__version__, "answers": found}))


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(job["folder"])
        model = AutoModelForCausalLM.from_pretrained(job["folder"], torch_dtype=torch.float32).eval()
        ids = torch.tensor(job["ids"])
        with torch.inference_mode():
            logits = model(ids[None], use_cache=False).logits[0]
        ln = logits[job["first"] - 1 : -1].double().log_softmax(-1)
        values = ln.gather(1, ids[job["first"] :, None])[:, 0].tolist()
        made: list[int] = []
        if job["greedy"]:
            model.generation_config.eos_token_id = None
            asked = {"max_new_tokens": job["greedy"], "do_sample": False}
            prompt = ids[None, : -job["greedy"]]
            whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), **asked)[0]
            made = whole[prompt.shape[1] :].tolist()
        tokens = tokenizer(job["text"], add_special_tokens=False)["input_ids"]
        return {"values": values, "tokens": tokens, "greedy": made}
    except Exception as error:  # a reader refuses in its own words, whatever the class
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


if __name__ == "__main__":
    main(*sys.argv[1:])
