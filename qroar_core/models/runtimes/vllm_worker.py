"""Run as a file by the interpreter of a runtime: ln p of given tokens as vLLM gives them.

It imports nothing of this software. The engine runs in this process, in float32, as it would otherwise serve a float32
folder in bfloat16, and with a window as long as the tokens, as it chooses LongRoPE's list by it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound threads wait for each other where cores are shared
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def main(asked: str, answers: str) -> None:
    """Answer the jobs in one JSON file into another."""
    os.environ.update(ENVIRONMENT)
    from vllm import __version__

    found = [_answer(job) for job in json.loads(Path(asked).read_text())]
    Path(answers).write_text(json.dumps({"version": __version__, "answers": found}))


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM, SamplingParams
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    try:
        ids, count = job["ids"], job["greedy"]
        model = LLM(job["folder"], dtype="float32", max_model_len=len(ids) + 1, max_num_seqs=2, enforce_eager=True)
        (read,) = model.generate(
            [{"prompt_token_ids": ids}], SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False
        )
        scored = list(zip(ids, read.prompt_logprobs, strict=True))[job["first"] :]
        values = [given[token].logprob if token in given else math.nan for token, given in scored]
        made: list[int] = []
        if count:
            greedy = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
            (continued,) = model.generate([{"prompt_token_ids": ids[:-count]}], greedy, use_tqdm=False)
            made = list(continued.outputs[0].token_ids)
        tokens = model.get_tokenizer().encode(job["text"], add_special_tokens=False)
        return {"values": values, "tokens": tokens, "greedy": made}
    except Exception as error:  # a reader refuses in its own words, whatever the class
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    finally:
        model = None
        gc.collect()
        cleanup_dist_env_and_memory()


if __name__ == "__main__":
    main(*sys.argv[1:])
