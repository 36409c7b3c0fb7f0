"""A GGUF file run by llama.cpp itself, through the optional wheel xllamacpp: the check from outside.

Nothing here is needed to make a file; it answers what the runtime people serve with makes of one. Two ways:

- `LlamaCpp` completes. Log-probabilities come one token a call: the wanted token is forced by a bias, and the
  server reports its probability from the logits before the bias. The cache keeps what was read.
- `LlamaCppStates` reads a whole window in one pass and gives the final hidden state of every token, through the
  server's own /embedding. Logits are those states times the output matrix; a hundred times faster, same numbers.

llama.cpp rotates K when its cache is quantized, unless LLAMA_ATTN_ROT_DISABLE=1 is set when it starts.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadCheckpoint, BadSpec

NO_ROTATION = "LLAMA_ATTN_ROT_DISABLE"
K_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}  # ggml_type
FORCED = 1e6  # a bias that no logit outweighs
EVERY = 1 << 20  # more tokens than any vocabulary
NO_NUMBER = -1e37  # nats; at or below, it stands for ln 0 and is no measurement
PATIENCE = 600  # seconds for one window
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is this machine's own


def available() -> bool:
    """Is the wheel installed?"""
    return importlib.util.find_spec("xllamacpp") is not None


class _Server:
    """One GGUF file with one context of `context` tokens, on the CPU."""

    def __init__(self, path: Path, context: int, k_cache: str = "f16", threads: int = 1) -> None:
        if k_cache not in K_TYPES:
            raise BadSpec(f"unknown K cache {k_cache!r}", where="llama.cpp", do=f"choose one of {', '.join(K_TYPES)}")
        if not available():
            raise BadSpec("llama.cpp is not installed here", where="xllamacpp", do="pip install xllamacpp")
        import xllamacpp

        params: Any = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
        params.cache_type_k = xllamacpp.ggml_type(K_TYPES[k_cache])
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup, params.verbosity, params.cache_ram_mib = False, -1, 0
        self._prepare(params)
        try:
            with _silent():
                self.server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            message = " ".join(str(error).split())[:160]
            raise BadCheckpoint(f"llama.cpp cannot load it ({message})", where=str(path)) from error

    def _prepare(self, params: Any) -> None:
        """Set what this kind of server needs."""

    def tokens(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """The token ids llama.cpp makes of a text, with what it puts around it or without."""
        request = {"content": text, "add_special": add_special, "parse_special": parse_special}
        try:
            return [int(i) for i in self._post("/tokenize", request)["tokens"]]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadCheckpoint(f"llama.cpp gives no tokens ({str(error)[:120]})", where="xllamacpp") from error

    def _post(self, what: str, request: dict[str, Any]) -> Any:
        """The server's answer over HTTP."""
        body = json.dumps(request).encode()
        asked = urllib.request.Request(
            f"{self.server.listening_address}{what}", body, {"Content-Type": "application/json"}
        )
        with DIRECT.open(asked, timeout=PATIENCE) as answer:
            return json.load(answer)


class LlamaCpp(_Server):
    """A server that completes."""

    def _complete(self, ids: Sequence[int], count: int, probabilities: int, **options: Any) -> list[dict]:
        """Tokens made, each with its probabilities; the server leaves out those that end inside a character."""
        request = {
            "prompt": [int(i) for i in ids],
            "n_predict": count,
            "n_probs": probabilities,
            "temperature": 0.0,
            "cache_prompt": True,
            "post_sampling_probs": False,
        } | options
        answer = self.server.handle_completions(request)
        if "choices" not in answer:
            raise BadCheckpoint(f"llama.cpp answered {str(answer)[:160]}", where="xllamacpp")
        return (answer["choices"][0]["logprobs"] or {"content": []})["content"]

    def continuation(self, ids: Sequence[int], count: int) -> list[int]:
        """The greedy next tokens, fewer where an end token comes first."""
        return [token["id"] for token in self._complete(ids, count, 1)]

    def top(self, ids: Sequence[int], count: int, whole: int | None = None) -> dict[int, float]:
        """The likeliest next tokens and their ln p, nats. `whole`: a token whose text is whole characters."""
        forced = {} if whole is None else {"logit_bias": [[whole, FORCED]]}
        made = self._complete(ids, 1, count, **forced)
        return {token["id"]: _number(token["logprob"]) for token in made[0]["top_logprobs"]} if made else {}

    def log_probabilities(self, ids: Sequence[int], first: int) -> list[float]:
        """ln p of each of ids[first:] given all tokens before it, nats; NaN where llama.cpp has no number for it."""
        found, whole = [], None
        for at in range(first, len(ids)):
            wanted = int(ids[at])
            made = self._complete(ids[:at], 1, 1, logit_bias=[[wanted, FORCED]])
            if made and made[0]["id"] == wanted:
                found.append(_number(made[0]["logprob"]))
                whole = wanted
                continue
            every = self.top(ids[:at], EVERY, whole)
            if wanted not in every:
                raise BadCheckpoint(f"llama.cpp gives no probability for token {wanted}", where="xllamacpp")
            found.append(every[wanted])
        return found


class LlamaCppStates(_Server):
    """A server that reads: final hidden states, after the last norm, of every token of a window."""

    def _prepare(self, params: Any) -> None:
        import xllamacpp

        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
        params.n_batch = params.n_ubatch = params.n_ctx  # the server takes a prompt for embeddings in one piece

    def states(self, ids: Sequence[int]) -> Tensor:
        """float32 (tokens, hidden_size), causal, through the K cache as it is stored.

        Raises:
            BadCheckpoint: the server answers with something else.
        """
        try:
            found = torch.tensor(self._post("/embedding", {"content": [int(i) for i in ids]})[0]["embedding"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadCheckpoint(f"llama.cpp gives no hidden states ({str(error)[:120]})", where="xllamacpp") from error
        if found.ndim != 2 or len(found) != len(ids):
            raise BadCheckpoint(f"llama.cpp gives {tuple(found.shape)} for {len(ids)} tokens", where="xllamacpp")
        return found


def _number(logprob: Any) -> float:
    """JSON has no NaN and no infinity: the server writes null for the one, -FLT_MAX for ln 0."""
    return float(logprob) if isinstance(logprob, int | float) and logprob > NO_NUMBER else math.nan


@contextmanager
def rotation_disabled(disabled: bool = True) -> Iterator[None]:
    """Servers started inside leave K unrotated in a quantized cache."""
    before = os.environ.pop(NO_ROTATION, None)
    if disabled:
        os.environ[NO_ROTATION] = "1"
    try:
        yield
    finally:
        os.environ.pop(NO_ROTATION, None)
        if before is not None:
            os.environ[NO_ROTATION] = before


@contextmanager
def _silent() -> Iterator[None]:
    """llama.cpp's C++ side writes its log to the process's own stderr."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
