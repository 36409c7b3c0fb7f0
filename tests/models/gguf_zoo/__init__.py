"""Small GGUF files of every architecture, written from real transformers classes as llama.cpp's converter does.

    model = write("gemma3", path, kind="F16", rope="linear")

The model that comes back holds exactly the values that the file holds. Nothing here shares code with qroar_core;
that a file is right is proven by llama.cpp itself, in test_gguf_zoo.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from torch import Tensor, nn

from tests.models.gguf_zoo.building import build, round_to, state, stored_kind
from tests.models.gguf_zoo.dense import DENSE
from tests.models.gguf_zoo.experts import EXPERTS
from tests.models.gguf_zoo.header import add_keys, add_tokenizer, keys_of, rope_tensors
from tests.models.gguf_zoo.kind import LAYER, ROOT, Kind
from tests.models.gguf_zoo.layer_norms import LAYER_NORMS
from tests.models.gguf_zoo.rms_norms import RMS_NORMS

KINDS: dict[str, Kind] = DENSE | RMS_NORMS | LAYER_NORMS | EXPERTS
FILE_TYPES = {kind.name.partition("_")[2]: kind for kind in gguf.LlamaFileType}
FILE_TYPES["MXFP4"] = gguf.LlamaFileType.MOSTLY_MXFP4_MOE


def write(name: str, path: Path, *, kind: str = "F16", rope: str | None = None, shard_tensors: int = 0) -> nn.Module:
    """Write one file, or with `shard_tensors` files of at most so many tensors, and give the model it holds.

    Shards are named as llama.cpp names them: stem-00001-of-00003.gguf beside `path`.
    """
    entry = KINDS[name]
    model = build(entry, rope)
    asked = gguf.GGMLQuantizationType[kind]
    round_to(model, entry, asked)
    writer = gguf.GGUFWriter(path, entry.architecture, split_max_tensors=shard_tensors)
    writer.add_string("general.type", "model")
    writer.add_string("general.name", "zoo")  # llama.cpp reads a Phi-3 out of it
    writer.add_uint32("general.file_type", int(FILE_TYPES[kind]))
    writer.add_uint32("general.quantization_version", gguf.GGML_QUANT_VERSION)
    add_keys(writer, entry.architecture, keys_of(entry, model.config, rope))
    add_tokenizer(writer)
    for source, target, tensor in placed(entry, model):
        how = stored_kind(entry, source, tensor.ndim, tensor.shape[-1], asked)
        writer.add_tensor(target, gguf.quantize(tensor.contiguous().numpy(), how), raw_dtype=how)
    for target, tensor in rope_tensors(model.config).items():
        writer.add_tensor(target, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def placed(entry: Kind, model: nn.Module) -> list[tuple[str, str, Tensor]]:
    """(transformers name, GGUF name, values) of every tensor.

    Raises:
        KeyError: a tensor has no place in the file.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for source, parameter in state(model).items():
        tensor = parameter.detach()
        if entry.centred and source.endswith("norm.weight"):
            tensor = tensor + 1
        if not source.startswith(f"{entry.layers}."):
            module, _, suffix = source.rpartition(".")
            found[f"{(ROOT | entry.root)[module]}.{suffix}"] = (source, tensor)
            continue
        layer, _, part = source.removeprefix(f"{entry.layers}.").partition(".")
        made = entry.change(part, tensor, model.config)
        if made is None:
            module, _, suffix = part.rpartition(".")
            made = {f"{(LAYER | entry.names)[module]}.{suffix}": tensor}
        for target, values in made.items():
            full = f"blk.{layer}.{target}"
            before = [found[full][1]] if full in found else []  # the norms of heads, one after the other
            found[full] = (source, torch.cat([*before, values]))
    return [(source, target, values) for target, (source, values) in found.items()]
