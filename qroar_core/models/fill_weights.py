"""A model built from its config and filled from stored tensors: the one gate behind every reader.

Nothing passes that would be another model without a word: every parameter comes from the file, every tensor of the
file is used or is known to be harmless, no tensor is used twice, and nothing holds NaN or infinity.
What is used is observed, not asked of transformers, whose report leaves out what it was told to overlook.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from qroar_core.errors import BadCheckpoint, QRoarError
from qroar_core.models.families import Family
from qroar_core.models.formats.stored import StoredTensor
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.size_check import check_values, held_layers

EAGER = "eager"  # experts one by one: torch's grouped product, transformers' first choice, has no float64
SEQUENTIAL = "HF_DEACTIVATE_ASYNC_LOAD"  # transformers then reads one tensor at a time
HARMLESS = {  # tensors that are no part of the model, and why nothing is lost with them
    r"(^|\.)rotary_emb\.inv_freq$": "frequencies, which follow from the config",
    r"(^|\.)attention\.(bias|masked_bias)$": "the causal mask, which GPT-NeoX checkpoints carry",
    r"(^|\.)position_ids$": "the numbers 0, 1, 2, ...",
    r"^mtp\.": "a head that guesses several tokens, which next-token prediction does not run",
}
HEADS = ("lm_head.weight", "embed_out.weight")  # names of the output head


def filled(config: Any, stored: Mapping[str, StoredTensor], dtype: torch.dtype, family: Family, where: str) -> Any:
    """The transformers model of `config` in `dtype` on the CPU, every parameter read from `stored`.

    Memory beyond the model is one tensor.

    Raises:
        BadCheckpoint: a tensor that is missing, left over, double, of another shape, or not finite.
    """
    held = held_layers(stored)
    if config.num_hidden_layers > held:
        raise BadCheckpoint(
            f"config.json says {config.num_hidden_layers} layers, the weights hold {held}; weights are missing, "
            f"first {family.layers_at}.{held}",
            where=where,
            do="fetch it again",
        )
    watched = {name: _Watched(one) for name, one in stored.items()}
    model, info = _built(config, watched, dtype, family, where)
    unused = {name for name, one in watched.items() if not one.used and not harmless(name, config, family)}
    unused = {name for name in unused if not _adds_nothing(stored[name])}
    beside = f"; {len(unused)} others have no place in it, first {min(unused)}" if unused else ""
    _refuse("are missing", info["missing_keys"], where, beside)
    _refuse("have another shape than config.json says", {key for key, *_ in info["mismatched_keys"]}, where)
    _refuse("have no place in the model of config.json", unused, where)
    _refuse_untied(model, where)
    _refuse_double(model, {name: one.stored for name, one in watched.items() if one.used}, where)
    return model


def harmless(name: str, config: Any, family: Family) -> str:
    """Why a tensor that no parameter takes may be left out; "" where it may not."""
    for pattern, reason in HARMLESS.items():
        if re.search(pattern, name):
            return reason
    layer = re.match(rf"{re.escape(family.layers_at)}\.(\d+)\.", name)
    more = getattr(config, "num_nextn_predict_layers", None) or getattr(config, "num_mtp_modules", None) or 0
    if layer and isinstance(more, int) and 0 <= int(layer[1]) - config.num_hidden_layers < more:
        return "a layer past num_hidden_layers that guesses several tokens"
    return ""


def _adds_nothing(one: StoredTensor) -> bool:
    """A bias of zeros that old AutoGPTQ made up for a layer of a model without it."""
    return one.bias and not bool(one[...].any())


class _Watched:
    """A stored tensor that knows whether it was read."""

    def __init__(self, stored: StoredTensor) -> None:
        self.stored, self.used = stored, False

    def __getitem__(self, index: EllipsisType) -> Tensor:
        self.used = True
        return self.stored[index]


def _built(config: Any, stored: Mapping[str, _Watched], dtype: torch.dtype, family: Family, where: str) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        with quiet_transformers(), _sequential():
            kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            if kind.__name__ not in family.architectures:
                raise BadCheckpoint(
                    f"{family.architectures[0]}, its model_type {config.model_type} makes a {kind.__name__}",
                    where=where,
                    do="check config.json",
                )
            check_values(kind, config, {name: one.stored.shape for name, one in stored.items()}, where)
            return kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(stored),
                dtype=dtype,
                attn_implementation=family.implementation,
                **({"experts_implementation": EAGER} if dtype == torch.float64 else {}),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused by name
            )
    except (QRoarError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers and the constructors under it raise anything, also bare assertions
        message = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadCheckpoint(
            f"no model can be built of it: {message}", where=where, do="check config.json, or fetch it again"
        ) from error


@contextmanager
def _sequential() -> Iterator[None]:
    before = os.environ.get(SEQUENTIAL)
    os.environ[SEQUENTIAL] = "1"
    try:
        yield
    finally:
        os.environ.pop(SEQUENTIAL) if before is None else os.environ.__setitem__(SEQUENTIAL, before)


def _refuse(what: str, names: set[str], where: str, beside: str = "") -> None:
    if names:
        said = f"{len(names)} weights {what}, first {min(names)}{beside}"
        raise BadCheckpoint(said, where=where, do="fetch it again")


def _refuse_untied(model: Any, where: str) -> None:
    """A config that ties the output head and a file that holds another one: transformers and vLLM differ then."""
    out, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if model.config.tie_word_embeddings and out.weight is not embedding.weight:
        raise BadCheckpoint(
            "tie_word_embeddings is set, and the file holds an output head of its own with other values",
            where=where,
            do="set tie_word_embeddings to what the model was trained with",
        )


def _refuse_double(model: nn.Module, used: Mapping[str, StoredTensor], where: str) -> None:
    """Values read = values of the model: no tensor took another's place, and none was made up."""
    need = sum(t.numel() for t in {t.data_ptr(): t for t in model.state_dict().values()}.values())
    read = sum(math.prod(one.shape) for one in used.values())
    spare = sum(math.prod(one.shape) for name, one in used.items() if name.endswith(HEADS))
    if read not in (need, need + spare):  # a tied head may lie in the file beside the embedding
        raise BadCheckpoint(
            f"{read} values were read, the model has {need}: two tensors are the same weight",
            where=where,
            do="fetch it again",
        )


def refuse_non_finite(model: nn.Module, where: str) -> None:
    """Raises BadCheckpoint where a parameter holds NaN or infinity."""
    for name, parameter in model.named_parameters():
        ends = torch.aminmax(parameter) if parameter.numel() else ()  # NaN comes through; no copy
        if not all(math.isfinite(end.item()) for end in ends):
            raise BadCheckpoint(
                f"{name} holds NaN or infinity in {str(parameter.dtype).removeprefix('torch.')}",
                where=where,
                do="choose --dtype bfloat16 or float32, or fetch the checkpoint again"
                if parameter.dtype == torch.float16  # whose largest number, 65504, a weight may pass
                else "fetch the checkpoint again",
            )
