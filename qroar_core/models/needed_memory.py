"""What a model will take before it is loaded, from its config alone: for who has to find a machine for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from qroar_core.errors import BadCheckpoint
from qroar_core.models.checkpoint_files import check_files, has, table_in
from qroar_core.models.config_check import check_raw
from qroar_core.models.families import family_of
from qroar_core.models.load import choose_dtype, read_config
from qroar_core.models.memory import HEADROOM
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.sources import locate
from qroar_core.progress import OnStep, no_progress

PROCESS = 2**30  # bytes of Python, PyTorch, texts and activations
FLOAT32 = 4  # bytes; captures are kept in it


@dataclass(frozen=True, slots=True)
class NeededMemory:
    """Sizes in bytes, `native` in tokens."""

    weights: int
    cache_per_token: int  # K and V over all layers
    numbers_per_token: int  # the same, counted
    native: int

    def of(self, length: int, captured: int = 0, weights_copied: bool = False) -> int:
        """Bytes for a process that works at `length` tokens.

        The weights, and a copy where they are quantized too; K and V twice, exact and quantized; q, K and V of the
        text that a search reads, in float32; all over `memory.HEADROOM`, and 1 GiB for the process. What a pass
        allocates for a moment is in the last two.

        Args:
            captured: tokens of the text that a search reads.
        """
        kept = self.weights * (2 if weights_copied else 1) + 2 * length * self.cache_per_token
        return int((kept + captured * self.numbers_per_token * FLOAT32) / HEADROOM) + PROCESS


def read(source: str, device: torch.device, dtype: str, on_step: OnStep = no_progress) -> NeededMemory:
    """What `source` will take on `device`; weights are not read, and a model of the hub is fetched.

    Raises:
        BadCheckpoint: no such model, or a config that makes none. UnsupportedModel: a layout that is not known.
        BadSpec: an unknown number format.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    found = locate(source, on_step)
    check_files(found.folder)
    path = found.folder / "config.json"
    if not has(found.folder, "config.json"):
        raise BadCheckpoint("no config.json", where=str(found.folder), do="give a Hugging Face model folder")
    raw = table_in(path)
    check_raw(raw, str(path))
    config = read_config(found, raw)
    try:
        with quiet_transformers(), torch.device("meta"):
            kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model = kind(config)
    except Exception as error:  # the constructors under transformers raise anything; loading says more
        raise BadCheckpoint("no model can be built of it", where=str(path), do="check config.json") from error
    parameters = sum(one.numel() for one in model.parameters())  # tied ones once
    geo = family_of(config.architectures, found.label).geometry(config, parameters)
    width = torch.empty(0, dtype=choose_dtype(dtype, device)).element_size()
    numbers = geo.n_layers * geo.n_kv_heads * (geo.head_dim + geo.value_dim)
    return NeededMemory(parameters * width, numbers * width, numbers, geo.original_context)
