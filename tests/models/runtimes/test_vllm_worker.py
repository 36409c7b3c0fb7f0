"""The worker of vLLM, on a stand-in for that package which notes what it was asked.

vLLM itself needs an environment of 3.5 GB: `python -m benchmarks runtimes.vllm` runs it.
"""

from __future__ import annotations

import json
import math

import pytest

from qroar_core.models.runtimes.run import Job, ask

PACKAGE = """
import json, os
from types import SimpleNamespace as Of

__version__ = "0.32.0"

class SamplingParams(dict):
    pass

class LLM:
    def __init__(self, folder, **options):
        if "bad" in folder:
            raise ValueError("not\\n  read")
        self.note({"folder": folder.rpartition("/")[2], **options})

    def note(self, what):
        with open(os.environ["ASKED"], "a") as file:
            file.write(json.dumps(what) + "\\n")

    def generate(self, prompts, params, use_tqdm):
        (ids,) = (one["prompt_token_ids"] for one in prompts)
        self.note({"ids": ids, **params})
        given = [None] + [{i: Of(logprob=-i / 10), 99: Of(logprob=0.0)} for i in ids[1:]]
        if 7 in ids:
            given[ids.index(7)] = {99: Of(logprob=0.0)}
        return [Of(prompt_logprobs=given, outputs=[Of(token_ids=list(range(params["max_tokens"])))])]

    def get_tokenizer(self):
        return Of(encode=lambda text, add_special_tokens: [len(text), int(add_special_tokens)])
"""
STATE = "def cleanup_dist_env_and_memory():\n    pass\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    files = {"__init__": PACKAGE, "distributed/__init__": "", "distributed/parallel_state": STATE}
    for name, text in files.items():
        file = tmp_path / "place" / "vllm" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "place"


def test_scores_and_greedy_tokens_are_asked_in_float32_at_the_length_that_is_read(place, tmp_path):
    jobs = [Job("/a/good", [5, 6, 7, 8], 1, "text", 2), Job("/a/bad", [1, 2], 1), Job("/a/again", [5, 6], 1)]
    version, (first, refused, again) = ask("vllm_worker", jobs, place)
    assert version == "0.32.0"
    assert (first.values[0], math.isnan(first.values[1]), first.values[2]) == (-0.6, True, -0.8)
    assert (first.tokens, first.greedy) == ([4, 0], (0, 1))
    assert refused.error == "ValueError: not read"
    assert (again.values, again.greedy) == ([-0.6], ())
    started, scored, continued, *_ = map(json.loads, (tmp_path / "asked").read_text().splitlines())
    assert started == {
        "folder": "good",
        "dtype": "float32",
        "max_model_len": 5,
        "max_num_seqs": 2,
        "enforce_eager": True,
    }
    assert scored == {"ids": [5, 6, 7, 8], "max_tokens": 1, "prompt_logprobs": 0}
    assert continued == {"ids": [5, 6], "temperature": 0.0, "max_tokens": 2, "ignore_eos": True}
