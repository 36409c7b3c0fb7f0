"""Run as a file by the interpreter of a runtime: ln p of given tokens as OpenVINO gives them, through optimum-intel.

It imports nothing of this software. The model is traced and compiled in memory, in float32 throughout, so that rounding
says nothing about the reader.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(asked: str, answers: str) -> None:
    """Answer the jobs in one JSON file into another."""
    from openvino import __version__

    found = [_answer(job) for job in json.loads(Path(asked).read_text())]
    Path(answers).write_text(json.dumps({"version": __version__.split("-")[0], "answers": found}))


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(job["folder"])
        exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        model = OVModelForCausalLM.from_pretrained(job["folder"], export=True, load_in_8bit=False, ov_config=exact)
        ids = torch.tensor(job["ids"])
        logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0]
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
