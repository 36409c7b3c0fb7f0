"""What a GGUF file that takes scales in place says about its model, without loading it: sizes, names, fingerprint.

The fingerprint is the one `load` gives the dequantized model, so that scales found on the loaded model
are recognised on the file; it reads a few blocks a tensor.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES
from gguf.quants import dequantize

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.architectures import ARCHITECTURES
from qroar_core.models.formats.gguf.files import one_file
from qroar_core.models.formats.gguf.header_entries import Header, TensorInfo
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import FREQS, LONG, SHORT
from qroar_core.models.formats.gguf.read_rope import rope_parameters as own_rope
from qroar_core.models.formats.gguf.write_layouts import LAYOUTS, Layout, gguf_names, row_order
from qroar_core.models.geometry import Geometry
from qroar_core.models.size_check import held_layers

FINGERPRINT_SAMPLES = 256  # as models.loaded.fingerprint: about as many values a tensor
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # what a model may be loaded as
ELSEWHERE = "export the hf format and convert it with llama.cpp's convert_hf_to_gguf.py"
ROPE_FREQS = FREQS  # llama3's divisors of the frequencies, one a pair
ROPE_TENSORS = (FREQS, LONG, SHORT)


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A GGUF file that has been understood."""

    path: Path
    header: Header
    layout: Layout
    geometry: Geometry
    own_rope: dict[str, Any]  # the interpolation that its keys and tensors ask for, as transformers names it

    def q_and_k(self, layer: int) -> tuple[list[TensorInfo], list[TensorInfo]]:
        """(query, key) tensors of a layer: the weight and, where there is one, the bias."""
        tensors = self.header.tensors
        names = [[f"blk.{layer}.attn_{x}.{leaf}" for leaf in ("weight", "bias")] for x in "qk"]
        q, k = ([tensors[name] for name in group if name in tensors] for group in names)
        return q, k

    def row_order(self) -> np.ndarray:
        """Channel of a head, in the Hugging Face order, that lies at each of its GGUF rows; (head_dim,)."""
        return row_order(self.geometry.head_dim, self.layout.permuted)

    def fingerprints(self) -> set[str]:
        """`models.loaded.fingerprint` of this file as transformers dequantizes it, for each dtype."""
        return fingerprints(self)


def understood(path: Path, header: Header) -> GgufModel:
    """The model of a header.

    Raises:
        UnsupportedModel: an architecture, attention layout or RoPE scaling that is not known here; a shard.
        BadCheckpoint: sizes that are missing or contradict the tensors.
    """
    if not header.tensors:
        raise BadCheckpoint("it holds no tensors", where=str(path), do="give the model's own file")
    name = header.get("general.architecture")
    if name not in LAYOUTS:
        known = ARCHITECTURES.get(name) if isinstance(name, str) else None
        if known is None:
            raise UnsupportedModel(f"GGUF architecture {str(name)[:40]} is not known here", where=str(path))
        raise UnsupportedModel(
            f"a {name} file takes no scales in place: {known.no_scales}", where=str(path), do=ELSEWHERE
        )
    if header.get(f"{name}.expert_count", 0):
        raise UnsupportedModel(
            "a file with experts takes no scales in place: their tensors are not known to the in-place writer",
            where=str(path),
            do=ELSEWHERE,
        )
    if header.get("split.count", 1) not in (0, 1):
        raise UnsupportedModel(
            f"scales go into a whole file, this is one of {header.get('split.count')} shards",
            where=str(path),
            do="join them with llama.cpp's llama-gguf-split --merge",
        )
    geometry = _geometry(path, header, LAYOUTS[name])
    own = own_rope(Metadata(header, name, str(path)), one_file(path, header), geometry.head_dim)
    native = own.get("original_max_position_embeddings", geometry.original_context)
    model = GgufModel(path, header, LAYOUTS[name], replace(geometry, original_context=native), own)
    _check_tensors(model)
    return model


def _geometry(path: Path, header: Header, layout: Layout) -> Geometry:
    arch = layout.architecture

    def number(key: str, default: int | None = None) -> int:
        value = header.get(f"{arch}.{key}", default)
        if isinstance(value, list) and value and len(set(value)) == 1:
            value = value[0]
        if type(value) is not int or not 0 < value < 1 << 31:
            raise BadCheckpoint(f"{arch}.{key} is {str(value)[:40]}", where=str(path), do="fetch it again")
        return value

    hidden, heads = number("embedding_length"), number("attention.head_count")
    n_kv = number("attention.head_count_kv", heads)
    head_dim = number("attention.key_length", hidden // heads)
    rotary = number("rope.dimension_count", head_dim)
    if heads % n_kv or head_dim % 2 or rotary != head_dim:
        raise UnsupportedModel(
            f"{heads} query heads over {n_kv} KV heads, {rotary} of {head_dim} channels rotated: no layout known here",
            where=str(path),
            do=ELSEWHERE,
        )
    theta = header.get(f"{arch}.rope.freq_base", 10_000.0)
    if not isinstance(theta, float) or not 1 < theta < math.inf:
        raise BadCheckpoint(f"{arch}.rope.freq_base is {theta!r}", where=str(path), do="fetch it again")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise BadCheckpoint("it has no token_embd.weight", where=str(path), do="fetch it again")
    layers = number("block_count")
    held = held_layers(header.tensors)
    if layers > held:
        raise BadCheckpoint(f"blk.{held}.attn_q.weight is missing", where=str(path), do="fetch it again")
    step = layout.still_every
    return Geometry(
        family=layout.family,
        n_layers=layers,
        without_rope=tuple(range(step - 1, layers, step)) if step else (),
        n_heads=heads,
        n_kv_heads=n_kv,
        head_dim=head_dim,
        rotary_dim=rotary,
        pairing="half",
        theta=theta,
        original_context=number("context_length"),
        hidden_size=hidden,
        vocab_size=embedding.shape[1],
        parameters=sum(math.prod(t.shape) for t in header.tensors.values()),
    )


def _check_tensors(model: GgufModel) -> None:
    """q and k of every layer are there, separate, of the shapes the sizes promise, and no norm follows them."""
    geo, tensors, where = model.geometry, model.header.tensors, str(model.path)
    for layer in range(geo.n_layers):
        for x, heads in (("q", geo.n_heads), ("k", geo.n_kv_heads)):
            stem = f"blk.{layer}.attn_{x}"
            weight, bias = tensors.get(f"{stem}.weight"), tensors.get(f"{stem}.bias")
            rows = heads * geo.head_dim
            if weight is None:
                raise BadCheckpoint(f"{stem}.weight is missing", where=where, do="fetch it again")
            if weight.shape != (geo.hidden_size, rows) or (bias is not None and bias.shape != (rows,)):
                raise BadCheckpoint(
                    f"{stem} has shape {list(weight.shape)}, its sizes say {[geo.hidden_size, rows]}", where=where
                )
            if f"{stem}_norm.weight" in tensors:
                raise UnsupportedModel(f"{stem}_norm normalises the scale away", where=where)


def fingerprints(model: GgufModel) -> set[str]:
    """See GgufModel.fingerprints.

    Raises:
        UnsupportedModel: a tensor whose Hugging Face name is not known, or a type gguf cannot dequantize.
    """
    named = hugging_face_names(model)
    digests = {dtype: hashlib.sha256() for dtype in FLOATS}
    with model.path.open("rb") as file:
        for name in sorted(named):
            info = named[name]
            shape = tuple(reversed(info.shape))
            flat = math.prod(shape)
            at = np.arange(0, flat, max(1, flat // FINGERPRINT_SAMPLES))
            values = torch.from_numpy(_values_at(file, model, info, at))
            for dtype, digest in digests.items():
                digest.update(f"{name}{shape}".encode())
                digest.update(values.to(dtype).float().numpy().tobytes())
    return {digest.hexdigest()[:16] for digest in digests.values()}


def hugging_face_names(model: GgufModel) -> dict[str, TensorInfo]:
    """Hugging Face state-dict key of every tensor.

    Raises:
        UnsupportedModel: a tensor that architecture does not have.
    """
    geo, tensors = model.geometry, model.header.tensors
    names = gguf_names(model.layout, geo.n_layers)
    found = {hf: tensors[name] for name, hf in names.items() if name in tensors}
    strangers = sorted(tensors.keys() - {t.name for t in found.values()} - set(ROPE_TENSORS))
    if strangers:
        raise UnsupportedModel(
            f"tensor {strangers[0]} is not known in {model.layout.architecture}", where=str(model.path)
        )
    return found


def _values_at(file: BinaryIO, model: GgufModel, info: TensorInfo, at: np.ndarray) -> np.ndarray:
    """Dequantized values at flat positions `at` of the Hugging Face tensor; float32, (positions,)."""
    rows, columns = np.divmod(at, info.shape[0])
    if model.layout.permuted and info.name.rpartition(".")[0].endswith(("attn_q", "attn_k")):
        if len(info.shape) == 1:
            columns = _gguf_rows(model, columns)
        else:
            rows = _gguf_rows(model, rows)
    block, size = GGML_QUANT_SIZES[info.kind]
    start = model.header.data_start + info.offset
    raw = np.empty((len(at), size), np.uint8)
    for i, position in enumerate(rows * info.row_bytes + columns // block * size):
        file.seek(start + int(position))
        raw[i] = np.frombuffer(file.read(size), np.uint8)
    try:
        values = dequantize(raw, info.kind)
    except NotImplementedError as error:
        raise UnsupportedModel(f"gguf cannot read {info.kind.name}", where=info.name) from error
    return values.reshape(len(at), block)[np.arange(len(at)), columns % block].astype(np.float32)


def _gguf_rows(model: GgufModel, hf_rows: np.ndarray) -> np.ndarray:
    """Where llama.cpp keeps these Hugging Face rows of W_Q or W_K."""
    back = np.argsort(model.row_order())
    head, channel = np.divmod(hf_rows, model.geometry.head_dim)
    return head * model.geometry.head_dim + back[channel]
