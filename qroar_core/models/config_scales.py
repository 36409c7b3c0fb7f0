"""Numbers of a config that logits, activations and weights of experts are multiplied or divided by.

A scale of nought, or the root of a negative one, gives a model that computes something, or NaN in the middle of a
stage: attention that is the same everywhere, complex logits. No checkpoint has one. Asked of the config as transformers
has read it, so that each family's own names count and keys that it does not compute with do not.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import torch

from qroar_core.errors import BadCheckpoint
from qroar_core.models.config_check import is_number, wrong

SCALE = re.compile(
    r"(_multipliers?|softcapping|logits?_scal(e|ing)|query_pre_attn_scalar|routed_scaling_factor|swiglu_(limit|alpha))$"
)
STEPS = "time_step_limit"  # of Mamba's layers; its usual end is infinity


def check_scales(config: Any, where: str) -> None:
    """Raises BadCheckpoint, naming the key, for a scale that is no number above 0; null is a scale that is off."""
    for name in (field.name for field in fields(config)):
        value = getattr(config, name, None)
        each = value if isinstance(value, list | tuple) else (value,)
        if SCALE.search(name) and value is not None and not all(is_number(one) and one > 0 for one in each):
            raise wrong(name, value, "numbers above 0" if each is value else "a number above 0", where)
        if name == STEPS and value is not None and not (len(each) == 2 and 0 <= each[0] < each[1]):
            raise wrong(name, value, "a number of at least 0 and a larger one", where)


def refuse_scales_of_layers(model: torch.nn.Module, where: str) -> None:
    """What layers made of their config's numbers, whatever those are called.

    Raises:
        BadCheckpoint: a complex or non-finite number in a layer, or logits of attention multiplied by 0 or less.
    """
    for place, module in model.named_modules():
        for name, value in vars(module).items():
            bad = isinstance(value, complex) or (isinstance(value, float) and not is_number(value))
            if bad or (name == "scaling" and isinstance(value, int | float) and value <= 0):
                raise BadCheckpoint(
                    f"{place}.{name} becomes {value:g}" if place else f"{name} becomes {value:g}",
                    where=where,
                    do="check the numbers in config.json that it is computed from",
                )
