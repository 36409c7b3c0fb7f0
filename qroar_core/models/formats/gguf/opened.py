"""A GGUF file as a Hugging Face checkpoint: config, tensors under their Hugging Face names, a small folder.

Everything is checked before the first tensor is read: every key of the architecture is understood, every parameter of
the model comes from the file and has the shape its sizes say, every tensor of the file is used or harmless.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qroar_core.errors import BadCheckpoint, QRoarError, UnsupportedModel
from qroar_core.models.formats.gguf.architecture import Architecture, Built, Config
from qroar_core.models.formats.gguf.architectures import ARCHITECTURES
from qroar_core.models.formats.gguf.files import GgufFiles, gguf_files
from qroar_core.models.formats.gguf.header_entries import array_length
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.stored import StoredTensor
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.size_check import GGUF_WIDTH, check_sizes

MOST_LAYERS = 1 << 16  # of any model
UNQUANTIZED_TYPES = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True, slots=True)
class Opened:
    """A GGUF model that has been understood; its weights are still on disk."""

    files: GgufFiles
    architecture: Architecture
    config: Config  # of config.json
    tensors: Mapping[str, StoredTensor]

    @property
    def label(self) -> str:
        """The quantized type of most values of the layers, or else of all; the float type where none is quantized.

        An embedding of many rows is most of a small model, and often stored finer than the layers.
        """
        layers, kinds = Counter[str](), Counter[str]()
        for name, source in self.files.tensors.items():
            kind, values = source.info.kind.name, math.prod(source.shape)
            kinds[kind] += values
            layers[kind] += values if name.startswith("blk.") else 0
        for counted in (layers, kinds):
            quantized = Counter({kind: n for kind, n in counted.items() if kind not in UNQUANTIZED_TYPES and n})
            if quantized:
                return quantized.most_common(1)[0][0]
        return kinds.most_common(1)[0][0]


def open_gguf(path: Path) -> Opened:
    """Understand a GGUF file and its shards; reads no weights.

    Raises:
        BadCheckpoint: a file that is broken, or keys and tensors that contradict each other.
        UnsupportedModel: an architecture, key, tensor or tensor type that is not known here.
    """
    from qroar_core.models.families import family_of  # and with it transformers, which a copy of a file does without

    files = gguf_files(path)
    name = files.header.get("general.architecture")
    architecture = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if architecture is None:
        raise UnsupportedModel(
            f"GGUF architecture {str(name)[:40]} is not known here",
            where=str(path),
            do=f"known are {', '.join(sorted(ARCHITECTURES))}",
        )
    meta = Metadata(files.header, architecture.name, str(path))
    asked = {k: v.value for k, v in files.header.entries.items() if k.startswith(f"{architecture.name}.")}
    _refuse_layers(meta.size("block_count"), files)
    check_sizes(asked, {name: one.shape for name, one in files.tensors.items()}, "blk", str(path), GGUF_WIDTH)
    config = architecture.config(meta, files)
    config |= meta.special_ids(config["vocab_size"])
    meta.refuse_unread()
    _refuse_rows(config, files)
    family_of(config["architectures"], str(path))
    try:
        built = architecture.direct(config, files)
        if architecture.merged is not None:
            built |= architecture.merged(config, files)
    except QRoarError as error:
        raise type(error)(error.what, where=error.where or str(path), do=error.do) from error
    tensors = _checked(architecture, config, files, built)
    return Opened(files, architecture, config, tensors)


def _refuse_layers(count: int, files: GgufFiles) -> None:
    """Before anything is laid out: as many layers as the tensors have."""
    layers = {int(match[1]) for name in files.tensors if (match := re.match(r"blk\.(\d+)\.", name))}
    if count > MOST_LAYERS or layers != set(range(count)):
        raise BadCheckpoint(
            f"block_count is {count}, its tensors are of {len(layers)} layers",
            where=str(files.path),
            do="fetch it again",
        )


def _refuse_rows(config: Config, files: GgufFiles) -> None:
    """As llama.cpp: the embedding has a row for every token of the tokenizer, and no more."""
    tokens = files.header.entries.get("tokenizer.ggml.tokens")
    count = config["vocab_size"] if tokens is None else array_length(tokens)
    if count != config["vocab_size"]:
        raise BadCheckpoint(
            f"token_embd.weight has {config['vocab_size']} rows, its tokenizer {count} tokens",
            where=str(files.path),
            do="fetch it again",
        )


def _checked(architecture: Architecture, config: Config, files: GgufFiles, built: Built) -> dict[str, StoredTensor]:
    where = str(files.path)
    expected, known = parameter_shapes(config, where)
    for key in config.keys() - known:  # head_dim in classes that divide it themselves
        del config[key]
    if architecture.head != "optional" and config["tie_word_embeddings"] != (architecture.head == "never"):
        there = "is missing" if architecture.head == "always" else "has no place in this architecture"
        raise BadCheckpoint(f"tensor output.weight {there}", where=where, do="fetch it again")
    used = {name for _stored, names in built.values() for name in names}
    strangers = sorted(n for n in files.tensors.keys() - used if not architecture.is_harmless(n))
    strangers += sorted(name for hf, (_one, names) in built.items() if hf not in expected for name in names)
    if strangers:
        raise UnsupportedModel(
            f"tensor {strangers[0]} is not known in {architecture.name}",
            where=where,
            do="give the Hugging Face checkpoint of this model",
        )
    found = {name: stored for name, (stored, _names) in built.items()}
    for name in sorted(expected.keys() - found.keys()):
        found[name] = _zero(architecture, name, expected[name], built, where)
    for name, stored in found.items():
        if stored.shape != expected[name]:
            raise BadCheckpoint(
                f"tensor {architecture.gguf_name(name)} has shape {list(stored.shape)}, "
                f"its sizes say {list(expected[name])}",
                where=where,
                do="fetch it again",
            )
    return found


def _zero(architecture: Architecture, name: str, shape: tuple[int, ...], found: Mapping[str, Any], where: str) -> Any:
    """An optional bias that no layer of the file has is zero; anything else that is missing is refused."""
    mine, leaf = architecture.gguf_name(name), re.sub(r"\.\d+\.", ".N.", name)
    elsewhere = any(re.sub(r"\.\d+\.", ".N.", other) == leaf for other in found)
    if elsewhere or mine.split(".", 2)[-1] not in architecture.optional_biases:
        raise BadCheckpoint(f"tensor {mine} is missing", where=where, do="fetch it again")
    return StoredTensor(shape, lambda: torch.zeros(shape))


def parameter_shapes(config: Config, where: str) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """State-dict names and shapes of the model of a config, tied ones once; and the keys that the class may go by.

    Raises:
        BadCheckpoint: sizes that no model can be laid out with.
    """
    import transformers

    try:
        with quiet_transformers(), torch.device("meta"):
            own = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
            settings = transformers.AutoConfig.for_model(config["model_type"], **own)
            model: Any = getattr(transformers, config["architectures"][0])(settings)
    except Exception as error:  # the constructors under transformers raise anything, also bare assertions
        message = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadCheckpoint(f"its sizes make no model ({message})", where=where, do="fetch it again") from error
    tied = set(model._tied_weights_keys or {}) if settings.tie_word_embeddings else set()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    usual = config["hidden_size"] // config["num_attention_heads"]
    spare = {"head_dim"} if config.get("head_dim") == usual and "head_dim" not in vars(type(settings)) else set()
    return shapes, config.keys() - spare
