"""A bias of W_K that the checkpoint has not, in a folder that transformers loads: by the config's own switch for it.

A K offset goes into that bias. Where the checkpoint has none, the family names the switch of transformers' config that
brings it: Llama's `attention_bias` brings biases of q, k, v and o, of which all but K's are written as zeros. A switch
that would bring anything but biases, or a family without one, is a refusal.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.models.loaded import LoadedModel


def brought(loaded: LoadedModel, new: Mapping[str, Tensor | None]) -> set[str]:
    """Names among `new` that the checkpoint has not."""
    own = {name for name, p in loaded.originals.items() if p is None}
    return {name for name, p in new.items() if p is not None} - (loaded.parameter_names() - own)


def bias_switch(loaded: LoadedModel, names: set[str]) -> tuple[dict[str, bool], dict[str, torch.Size]]:
    """What of the config brings parameters `names`, and the shapes of those that come with them.

    Raises:
        BadSpec: the family's switch does not bring them, or not without parameters that are no biases.
    """
    if not names:
        return {}, {}
    config = loaded.model.config
    own = set(_shapes(loaded, {}))
    named = loaded.geometry.key_bias
    if getattr(config, named, None) is False:
        shapes = {name: shape for name, shape in _shapes(loaded, {named: True}).items() if name not in own}
        if names <= {*shapes} and all(name.endswith(".bias") for name in shapes):
            return {named: True}, {name: shape for name, shape in shapes.items() if name not in names}
    raise BadSpec(
        loaded.geometry.bare_keys or f"a K offset needs a bias of W_K, and {named} of its config brings none",
        where="scales",
        do="search without --k-offset" + (", or choose a GGUF format" if loaded.geometry.gguf_written else ""),
    )


def _shapes(loaded: LoadedModel, entries: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Parameters that transformers makes of the config with these entries; no memory is taken."""
    config = copy.deepcopy(loaded.model.config)
    for name, value in entries.items():
        setattr(config, name, value)
    with torch.device("meta"):
        made = type(loaded.model)(config)
    return {name: p.shape for name, p in made.named_parameters()}
