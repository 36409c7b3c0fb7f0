"""A loaded model as a GGUF file that llama.cpp runs: F16, BF16, Q8_0 or Q4_0, scales and interpolation inside.

Tensors are written one at a time, quantized by the gguf library. As llama.cpp's converter does: vectors
stay F32, W_Q and W_K of Llama-family models are permuted to pairs (2i, 2i + 1), and rows no block divides
are F16. Q4_0 keeps the embedding and the output projection at Q8_0, where four bits cost most.
A model that came from a GGUF file gets that file's vocabulary back, byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, Keys, LlamaFileType
from gguf.quants import quantize
from torch import Tensor

from qroar_core.disk_name import disk_name
from qroar_core.errors import BadCheckpoint, BadSpec, UnsupportedModel
from qroar_core.exporters.folder import LONGEST_NAME, new_folder, note_of, origin_of, write_about
from qroar_core.exporters.formats import written_by
from qroar_core.exporters.forward_pass import require_finite_pass
from qroar_core.exporters.written_rope import (
    as_divisors,
    divisors,
    has_own_borders,
    own_attention_factor,
    require_one_list,
    written_gains,
    written_parameters,
)
from qroar_core.interpolations.frequencies import rope_of, rope_parameters
from qroar_core.models.families import FAMILIES
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.header_entries import (
    DEFAULT_ALIGNMENT,
    Entry,
    TensorInfo,
    entry,
    header_bytes,
    padded,
)
from qroar_core.models.formats.gguf.model import ELSEWHERE, ROPE_FREQS
from qroar_core.models.formats.gguf.tokenizer_entries import tokenizer_entries
from qroar_core.models.formats.gguf.write_layouts import LAYOUTS, Layout, gguf_names, row_order
from qroar_core.models.formats.gguf.write_rope import GgufRope, gguf_rope, per_pair_rope
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import exported_context
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

Kind = GGMLQuantizationType
FLOAT16 = float(np.finfo(np.float16).max)
KINDS = (
    (Kind.F16, LlamaFileType.MOSTLY_F16),
    (Kind.BF16, LlamaFileType.MOSTLY_BF16),
    (Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    (Kind.Q4_0, LlamaFileType.MOSTLY_Q4_0),
)
TYPES: dict[str, tuple[Kind, LlamaFileType]] = dict(zip(written_by("gguf_write"), KINDS, strict=True))
ENDS = ("token_embd.weight", "output.weight")  # kept at Q8_0 in a Q4_0 file
ROWS = 2048  # quantized at a time
LARGEST = {  # number that a tensor may hold; a block's is what its codes reach with the largest scale in float16
    Kind.F32: ("float32", float(np.finfo(np.float32).max)),
    Kind.BF16: ("bfloat16", float(torch.finfo(torch.bfloat16).max)),
    Kind.F16: ("float16", FLOAT16),
    Kind.Q8_0: ("a Q8_0 block with its float16 scale", 127 * FLOAT16),
    Kind.Q4_0: ("a Q4_0 block with its float16 scale", 8 * FLOAT16),
}
QUANTIZATION_VERSION = 2  # of the block formats, as GGML_QNT_VERSION


def run(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    folder: Path | str,
    *,
    format: str,
    command: str = "",
    on_step: OnStep = no_progress,
) -> Path:
    """Write `folder` with one .gguf file, its card and qroar.json; returns the folder.

    Raises:
        UnsupportedModel: a family or tokenizer whose GGUF layout is not known here.
        BadSpec: an unknown format, or an interpolation llama.cpp does not have.
        BadCheckpoint: a weight beyond what the format holds. NonFinite: the model's own numbers overflow.
        BadOutput: the folder exists, or cannot be written.
    """
    if format not in TYPES:
        raise BadSpec(f"unknown format {format!r}", where="--format", do=f"choose one of {', '.join(TYPES)}")
    folder = Path(folder).expanduser()
    layout = _layout(loaded)
    on_step(Step("export", 0, 3, "describe"))
    turned, factor = _rope(loaded, layout, rope)
    with loaded.lock:
        weights = _weights(loaded, layout, scales, factor) | _divisors(turned)
        infos = _infos(weights, TYPES[format][0])
        head = header_bytes(_entries(loaded, layout, format, turned), infos, DEFAULT_ALIGNMENT)
        end = infos[-1].offset + padded(infos[-1].nbytes, DEFAULT_ALIGNMENT)
        with new_folder(folder, len(head) + end) as scratch:
            require_finite_pass(loaded, rope, scales)
            for info in infos:
                _require_held(weights[info.name], info)
            with (scratch / file_name(loaded, format)).open("xb") as file:
                file.write(head)
                for i, info in enumerate(infos):
                    on_step(Step("export", 1 + i / len(infos), 3, info.name))
                    for piece in _pieces(weights[info.name], info):
                        file.write(piece.tobytes())
                    file.write(bytes(-info.nbytes % DEFAULT_ALIGNMENT))
                file.flush()
                os.fsync(file.fileno())
            on_step(Step("export", 2, 3, "hash"))
            changed = [] if written_gains(loaded.geometry, scales, factor) is None else ["attn_q", "attn_k"]
            mixed = ["attn_v", "attn_output"] if scales is not None and scales.mixes_values else []
            note = note_of(
                origin_of(loaded, rope),
                rope,
                scales,
                format=format,
                command=command,
                changed=changed,
                mixed=mixed,
                factor=factor,
                bias=["attn_k"] if scales is not None and scales.shifts else [],
            )
            write_about(scratch, note, loaded.template)
    on_step(Step("export", 3, 3, "done"))
    return folder


def wanted(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None) -> dict[str, Tensor]:
    """GGUF name -> tensor as it is before rounding."""
    layout = _layout(loaded)
    turned, factor = _rope(loaded, layout, rope)
    return _weights(loaded, layout, scales, factor) | _divisors(turned)


def described(
    loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, format: str
) -> tuple[dict[str, bytes], dict[str, Kind]]:
    """Every key with its bytes, and every tensor with its type, as `run` writes them."""
    layout = _layout(loaded)
    infos = _infos(wanted(loaded, rope, scales), TYPES[format][0])
    entries = _entries(loaded, layout, format, _rope(loaded, layout, rope)[0])
    return {e.key: e.raw for e in entries}, {info.name: info.kind for info in infos}


def file_name(loaded: LoadedModel, format: str) -> str:
    """What the file in the folder is called."""
    return f"{disk_name(loaded.name, LONGEST_NAME)}-{format.removeprefix('gguf-').upper()}.gguf"


def offered(loaded: LoadedModel) -> str | None:
    """Only families whose layout llama.cpp and this file both know."""
    return "" if loaded.geometry.gguf_written else None


def _layout(loaded: LoadedModel) -> Layout:
    """How llama.cpp stores this family; refuses what it would compute otherwise."""
    config, name = loaded.model.config, loaded.geometry.family
    if not loaded.geometry.gguf_written:
        known = ", ".join(family.name for family in FAMILIES if family.gguf_written)
        raise UnsupportedModel(
            f"how llama.cpp stores {name} is not known to this writer (it knows {known})",
            where=loaded.name,
            do=ELSEWHERE,
        )
    if getattr(config, "hidden_act", "silu") != "silu":
        raise UnsupportedModel(
            f"its activation is {config.hidden_act}, llama.cpp takes silu", where=loaded.name, do="choose --format hf"
        )
    if loaded.geometry.rotary_dim != loaded.geometry.head_dim:
        raise UnsupportedModel("only a part of its channels is rotated", where=loaded.name, do="choose --format hf")
    if name == "qwen2" and loaded.geometry.head_dim * loaded.geometry.n_heads != loaded.geometry.hidden_size:
        raise UnsupportedModel(
            "llama.cpp takes qwen2 only with head_dim x heads = hidden size", where=loaded.name, do="choose --format hf"
        )
    return LAYOUTS[loaded.geometry.gguf_written]


def _rope(loaded: LoadedModel, layout: Layout, rope: RopeSpec) -> tuple[GgufRope, float]:
    """The file's keys and divisors, and what q and k are multiplied by."""
    config, geo = loaded.model.config, loaded.geometry
    context = exported_context(config.max_position_embeddings, geo, rope)
    window = getattr(config, "sliding_window", None)
    if window and (layout.architecture == "llama" or getattr(config, "use_sliding_window", False)):
        context = min(context, window)  # llama.cpp reads the whole context in these: the same up to the window
    named, fixed = own_attention_factor(rope, lambda spec: rope_of(loaded, spec, context))
    block = rope_parameters(config, geo, named)
    if not (as_divisors(rope) or (has_own_borders(rope) and layout.architecture == "llama")):
        return gguf_rope(block, layout.architecture, geo.head_dim, context), fixed
    require_one_list(block)
    found = rope_of(loaded, rope, context)
    divided = divisors(found, geo.theta).numpy()
    return per_pair_rope(divided, geo.theta, layout.architecture, context), found.attention_factor


def _weights(loaded: LoadedModel, layout: Layout, scales: Scales | None, factor: float) -> dict[str, Tensor]:
    """GGUF name -> tensor, scales inside, in the order of the model; W_Q and W_K still in Hugging Face order."""
    new = written_parameters(loaded, scales, factor)
    names = {hf: name for name, hf in gguf_names(layout, loaded.geometry.n_layers).items()}
    weights = {}
    there = {hf: parameter.data for hf, parameter in loaded.model.named_parameters()}  # a tied output comes once
    for hf, tensor in (there | new).items():
        if tensor is None:  # what applied scales brought, and these do not
            continue
        if hf not in names:
            raise UnsupportedModel(
                f"parameter {hf} has no name in a {layout.architecture} GGUF",
                where=loaded.name,
                do="choose --format hf",
            )
        weights[names[hf]] = _permuted(tensor, hf, loaded, layout)
    return weights


def _permuted(tensor: Tensor, hf: str, loaded: LoadedModel, layout: Layout) -> Tensor:
    geo = loaded.geometry
    if not layout.permuted or not hf.rpartition(".")[0].endswith(("q_proj", "k_proj")):
        return tensor
    heads = tensor.unflatten(0, (-1, geo.head_dim))  # (heads, head_dim, ...)
    return heads[:, row_order(geo.head_dim, permuted=True).tolist()].flatten(0, 1)


def _divisors(turned: GgufRope) -> dict[str, Tensor]:
    return {} if turned.divisors is None else {ROPE_FREQS: torch.from_numpy(turned.divisors)}


def _infos(weights: dict[str, Tensor], kind: Kind) -> list[TensorInfo]:
    infos, offset = [], 0
    for name, tensor in weights.items():
        info = TensorInfo(name, tuple(reversed(tensor.shape)), _kind_of(name, tensor, kind), offset)
        infos.append(info)
        offset = padded(offset + info.nbytes, DEFAULT_ALIGNMENT)
    return infos


def _kind_of(name: str, tensor: Tensor, kind: Kind) -> Kind:
    if tensor.ndim == 1:
        return Kind.F32
    if kind == Kind.Q4_0 and name in ENDS:
        kind = Kind.Q8_0
    return kind if tensor.shape[1] % GGML_QUANT_SIZES[kind][0] == 0 else Kind.F16


def _pieces(tensor: Tensor, info: TensorInfo) -> Iterator[np.ndarray]:
    """The tensor's bytes, some rows at a time."""
    for start in range(0, len(tensor), ROWS):
        rows = tensor[start : start + ROWS].detach().float().cpu().numpy()
        yield quantize(np.ascontiguousarray(rows), info.kind)


def _require_held(tensor: Tensor, info: TensorInfo) -> None:
    """Refuse a tensor whose largest number its kind would store as infinity."""
    largest, (kind, end) = float(tensor.detach().abs().amax()), LARGEST[info.kind]
    if largest > end:
        do = "use hf" if info.kind in (Kind.F32, Kind.BF16) else "use gguf-bf16"
        raise BadCheckpoint(f"it holds {largest:.3g}, {kind} ends at {end:.6g}", where=info.name, do=do)


def _entries(loaded: LoadedModel, layout: Layout, format: str, turned: GgufRope) -> list[Entry]:
    geo, config, arch = loaded.geometry, loaded.model.config, layout.architecture
    u32 = GGUFValueType.UINT32

    def number(key: str, value: int) -> Entry:
        return entry(key.format(arch=arch), u32, int(value))

    keys = [
        entry(Keys.General.ARCHITECTURE, GGUFValueType.STRING, arch),
        entry(Keys.General.TYPE, GGUFValueType.STRING, "model"),
        entry(Keys.General.NAME, GGUFValueType.STRING, loaded.name),
        number(Keys.General.FILE_TYPE, TYPES[format][1]),
        number(Keys.General.QUANTIZATION_VERSION, QUANTIZATION_VERSION),
        number(Keys.LLM.BLOCK_COUNT, geo.n_layers),
        number(Keys.LLM.EMBEDDING_LENGTH, geo.hidden_size),
        number(Keys.LLM.FEED_FORWARD_LENGTH, config.intermediate_size),
        number(Keys.LLM.VOCAB_SIZE, geo.vocab_size),
        number(Keys.Attention.HEAD_COUNT, geo.n_heads),
        number(Keys.Attention.HEAD_COUNT_KV, geo.n_kv_heads),
        number(Keys.Attention.KEY_LENGTH, geo.head_dim),
        number(Keys.Attention.VALUE_LENGTH, geo.head_dim),
        number(Keys.Rope.DIMENSION_COUNT, geo.rotary_dim),
        entry(Keys.Attention.LAYERNORM_RMS_EPS.format(arch=arch), GGUFValueType.FLOAT32, float(config.rms_norm_eps)),
        *turned.entries,
    ]
    if loaded.file is not None:
        old = read_header(loaded.file).entries.values()
        return keys + [e for e in old if e.key.startswith("tokenizer.")]
    return keys + tokenizer_entries(loaded.tokenizer, geo.vocab_size, loaded.name)
