"""Do the sizes of a config fit the tensors beside it? Asked before anything of that size is made.

A config is a text of a few lines: a number in it can ask for any amount of memory, and transformers lays a model out
before it looks at the weights. What a file holds is bounded by its size, so it is the judge: first the names and shapes
in its header, before transformers reads the config; then the number of values of the model, laid out without memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from qroar_core.errors import BadCheckpoint
from qroar_core.models.quiet import quiet_transformers

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blk)\.(\d+)\.")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count")
WIDTH = re.compile(
    r"(_size|_dim|_rank|_heads|_experts|_groups|d_state|d_conv|d_head|query_pre_attn_scalar|^n_embd|^n_inner)$"
)
GGUF_WIDTH = re.compile(r"(?<!context)(_length|_count|_size|_rank)(_kv|_mla|_swa)?$")
NO_WIDTH = re.compile(r"window|chunk|block|group_size|batch|patch|image|scaling")
PACKED = 32  # values that one stored number may hold: codes of a bit in 32 bits
Shapes = Mapping[str, tuple[int, ...]]


def held_layers(names: Iterable[str]) -> int:
    """How many layers the names of tensors count."""
    return max((int(found[1]) for name in names if (found := LAYER.search(name))), default=-1) + 1


def check_sizes(
    raw: dict[str, Any], shapes: Shapes, layers_at: str, where: str, width: re.Pattern[str] = WIDTH
) -> None:
    """Before a config is read: no more layers than the file has, no width past its longest side.

    Args:
        shapes: of every tensor as it lies in the file, packed or not.
        layers_at: what the names of a layer's tensors begin with.
        width: names of entries that are a side of some weight.
    Raises:
        BadCheckpoint: a size that no model of these tensors has.
    """
    held = held_layers(shapes)
    longest = max((max(shape, default=1) for shape in shapes.values()), default=1)
    for key, value in _numbers(raw):
        name = key.rpartition(".")[2]
        if name in LAYERS and value > held:
            raise BadCheckpoint(
                f"config.json says {value:g} layers, the weights hold {held}; weights are missing, "
                f"first {layers_at}.{held}",
                where=where,
                do="fetch it again",
            )
        if width.search(name) and not NO_WIDTH.search(name) and value > longest * PACKED:
            raise BadCheckpoint(
                f"{key} is {value:g}, the longest side of a weight is {longest}", where=where, do="check config.json"
            )


def check_values(kind: Any, config: Any, shapes: Shapes, where: str) -> None:
    """Before a model is built: it must not be far larger than the file. Which weight is missing is said later.

    Args:
        kind: the model's class.
        shapes: of every tensor as it is read.
    Raises:
        BadCheckpoint: it has, or no such model can be laid out.
    """
    held = sum(math.prod(shape) for shape in shapes.values())
    try:
        with quiet_transformers(), torch.device("meta"):
            model = kind(config)
    except Exception as error:  # the constructors under transformers raise anything, also bare assertions
        message = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadCheckpoint(
            f"no model can be built of it: {message}", where=where, do="check config.json, or fetch it again"
        ) from error
    need = sum(p.numel() for p in model.parameters())  # tied ones once
    if need > 2 * held:
        widest = max(model.named_parameters(), key=lambda pair: pair[1].numel())
        raise BadCheckpoint(
            f"config.json makes a model of {need} values, the weights hold {held}; the largest would be "
            f"{widest[0]} {list(widest[1].shape)}",
            where=where,
            do="check config.json, or fetch it again",
        )


def _numbers(raw: Any, at: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a config under its name, also of the tables inside it."""
    for key, value in raw.items():
        name = f"{at}.{key}" if at else str(key)
        if isinstance(value, dict):
            yield from _numbers(value, name)
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, int | float) and not isinstance(one, bool):
                yield name, one
