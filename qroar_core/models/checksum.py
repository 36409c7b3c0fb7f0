"""One number for a whole model: equal only where every weight, the config and the tokenizer are equal.

`LoadedModel.fingerprint` names the weights by a sample of their values, cheaply enough for a file that nobody loads,
and scales are made for weights. A measured number depends on more: on every weight, on each key of config.json
(theta, the norms' eps, a window) and on how text becomes tokens. Results are kept and found again by this number.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

HARMLESS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}  # keys that compute nothing
MOST_THREADS = 8  # hashing leaves Python's lock, so that it takes as long as reading memory does


def checksum(model: Any, tokenizer: Any, config: dict[str, Any] | None = None) -> str:
    """16 hex digits of SHA-256 over all weights in the dtype they were loaded in, the config and the tokenizer.

    Args:
        model: a transformers model, its weights in host memory.
        tokenizer: a transformers tokenizer, or None for a model without one.
        config: config.json as it was read; without one the model's own config counts.
    """
    digest = hashlib.sha256()
    for part in (_config(model, config), _tokenizer(tokenizer), *_weights(model)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def _config(model: Any, config: dict[str, Any] | None) -> bytes:
    said = model.config.to_dict() if config is None else config
    ends = getattr(model.generation_config, "eos_token_id", None)  # it may say other than the config
    return json.dumps([_deciding(said), ends], sort_keys=True, default=str).encode()


def _deciding(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _deciding(inner) for name, inner in value.items() if name not in HARMLESS}
    return [_deciding(inner) for inner in value] if isinstance(value, list) else value


def _tokenizer(tokenizer: Any) -> bytes:
    """Its vocabulary and rules, what it puts before and after a text, its special tokens and its chat template.

    Special tokens decide more than texts that are coded with them: a BOS that is asked for is put before a window, and
    a template writes them. Retrieval asks through the template.
    """
    if tokenizer is None:
        return b""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = getattr(tokenizer, "special_tokens_map", None), getattr(tokenizer, "all_special_ids", None)
    beside = json.dumps([*special, getattr(tokenizer, "chat_template", None)], sort_keys=True, default=str)
    return f"{rules} {tokenizer('')['input_ids']} {beside}".encode()


def _weights(model: nn.Module) -> Iterable[bytes]:
    """Name, shape and SHA-256 of every parameter and buffer that a checkpoint holds, by name; tied ones once."""
    seen: dict[tuple, str] = {}
    distinct: dict[str, Tensor] = {}
    for name, tensor in sorted(model.state_dict().items()):
        same = seen.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
        if same == name:
            distinct[name] = tensor
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        digests = threads.map(_digest, distinct.values())
        return [
            f"{name}{tuple(tensor.shape)}{digest}".encode()
            for (name, tensor), digest in zip(distinct.items(), digests, strict=True)
        ]


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest() if flat.numel() else ""
