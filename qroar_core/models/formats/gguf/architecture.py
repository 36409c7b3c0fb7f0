"""What one GGUF architecture must tell: which Hugging Face class it is, what its keys mean, where its tensors go.

Names are stems without `.weight` or `.bias`; `{i}` is the layer. Both leaves of a stem are known; one that the model
of the config has no parameter for is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qroar_core.errors import BadCheckpoint
from qroar_core.models.formats.gguf.files import FileTensor, GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import rope_parameters
from qroar_core.models.formats.gguf.reading import Place, TensorPart, assembled, at_rows
from qroar_core.models.formats.stored import StoredTensor

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
QK_NORM = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
STANDARD = ATTENTION | {"ffn_norm": "post_attention_layernorm"} | MLP
QKV_BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
MLP_BIASES = tuple(f"{stem}.bias" for stem in MLP)
HARMLESS = {  # tensors no parameter takes, and why nothing is lost with them
    "attn_rot_embd": "frequencies of very old files, which follow from the metadata",
    "attn.rot_embd": "frequencies of very old files, which follow from the metadata",
}

Config = dict[str, Any]
Mover = Callable[[Config], Place]
Built = dict[str, tuple[StoredTensor, tuple[str, ...]]]  # Hugging Face name: the tensor, the GGUF tensors it takes


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture of llama.cpp. `config` asks for every key it understands; see Metadata."""

    name: str  # general.architecture
    config: Callable[[Metadata, GgufFiles], Config]
    top: Mapping[str, str] = field(default_factory=lambda: TOP)
    layer: Mapping[str, str] = field(default_factory=lambda: STANDARD)
    renamed: Callable[[Config], Mapping[str, str]] | None = None  # `layer` of one config, where it depends on it
    layers_at: str = "model.layers"
    moved: Mapping[str, Mover] = field(default_factory=dict)  # stem in a layer: where its rows go
    one_plus: bool = False  # norms are stored as 1 + w
    merged: Callable[[Config, GgufFiles], Built] | None = None  # tensors made of several, or of another shape
    head: Literal["optional", "always", "never"] = "optional"  # output.weight; without it the embedding serves
    optional_biases: tuple[str, ...] = ()  # in a layer; as in llama.cpp they are zero where no layer has one
    factors: tuple[str, ...] = ()  # tensors of frequencies that llama.cpp reads here
    no_scales: str = ""  # why scales cannot be put into such a file in place; "" where they can

    def direct(self, config: Config, files: GgufFiles) -> Built:
        """Tensors that correspond one to one."""
        found: Built = {}
        for name, source in files.tensors.items():
            target, stem = self._target(name, self.layer if self.renamed is None else self.renamed(config))
            if target is None:
                continue
            move = self.moved[stem](config) if stem in self.moved else None
            shift = -1.0 if self.one_plus and stem.endswith("norm") else 0.0
            found[target] = assembled(source.shape, [TensorPart(source, move)], shift), (name,)
        return found

    def _target(self, name: str, layer: Mapping[str, str]) -> tuple[str | None, str]:
        stem, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias"):
            return None, stem
        if stem in self.top:
            return f"{self.top[stem]}.{leaf}", stem
        blk, _, rest = stem.partition(".")
        number, _, stem = rest.partition(".")
        if blk != "blk" or not number.isdecimal() or stem not in layer:
            return None, stem
        return f"{self.layers_at}.{int(number)}.{layer[stem]}.{leaf}", stem

    def gguf_name(self, target: str) -> str:
        """The GGUF tensor a parameter comes from, as well as the tables know."""
        stem, _, leaf = target.rpartition(".")
        for mine, theirs in self.top.items():
            if theirs == stem:
                return f"{mine}.{leaf}"
        prefix = f"{self.layers_at}."
        if target.startswith(prefix):
            number, _, inner = stem[len(prefix) :].partition(".")
            for mine, theirs in self.layer.items():
                if theirs == inner:
                    return f"blk.{number}.{mine}.{leaf}"
        return target

    def is_harmless(self, name: str) -> bool:
        """Whether a tensor that no parameter takes may be left out."""
        stem = name.rpartition(".")[0]
        return name in self.factors or (name.startswith("blk.") and stem.split(".", 2)[-1] in HARMLESS)


def sizes(meta: Metadata, files: GgufFiles) -> Config:
    """What every decoder has."""
    heads = meta.size("attention.head_count")
    return {
        "vocab_size": rows_of(files, "token_embd.weight"),
        "hidden_size": meta.size("embedding_length"),
        "num_hidden_layers": meta.size("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.size("attention.head_count_kv", heads),
        "intermediate_size": meta.size("feed_forward_length"),
        "max_position_embeddings": meta.size("context_length"),
        "tie_word_embeddings": "output.weight" not in files.tensors,
        "attention_dropout": 0.0,
    }


def decoder(meta: Metadata, files: GgufFiles, kind: str, model_type: str) -> Config:
    """`sizes` of a class whose heads turn as a whole, with RMS norms and SiLU."""
    found = sizes(meta, files)
    width = whole_rotary(meta, head_dim(meta, found))
    return found | {
        "architectures": [kind],
        "model_type": model_type,
        "hidden_act": "silu",
        "head_dim": width,
        "rms_norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_parameters(meta, files, width),
    }


def head_dim(meta: Metadata, config: Config) -> int:
    """Channels of a head; keys and values alike.

    Raises:
        UnsupportedModel: values of another size.
    """
    meta.only("attention.causal", True)
    width = meta.size("attention.key_length", config["hidden_size"] // config["num_attention_heads"])
    meta.only("attention.value_length", width)
    return width


def whole_rotary(meta: Metadata, width: int) -> int:
    """`width`, which rope.dimension_count must be where all channels of a head turn."""
    meta.only("rope.dimension_count", width, "all channels of a head turn in this architecture")
    return width


def rows_of(files: GgufFiles, name: str) -> int:
    """Outputs of a matrix.

    Raises:
        BadCheckpoint: it is missing, or no matrix.
    """
    source = files.tensors.get(name)
    if source is None or len(source.shape) != 2:
        raise BadCheckpoint(f"it has no {name}", where=str(files.path), do="fetch it again")
    return source.shape[0]


def has(files: GgufFiles, leaf: str) -> bool:
    """Whether any layer has `blk.N.{leaf}`."""
    return any(name.startswith("blk.") and name.split(".", 2)[-1] == leaf for name in files.tensors)


def take(files: GgufFiles, name: str, shape: tuple[int, ...]) -> FileTensor:
    """A tensor that must be there and have `shape`, outputs first.

    Raises:
        BadCheckpoint: it does not.
    """
    source = files.tensors.get(name)
    if source is None:
        raise BadCheckpoint(f"tensor {name} is missing", where=str(files.path), do="fetch it again")
    if source.shape != shape:
        raise BadCheckpoint(
            f"tensor {name} has shape {list(source.shape)}, its sizes say {list(shape)}", where=str(source.path)
        )
    return source


def unpaired(heads: str) -> Mover:
    """W_Q or W_K whose rows llama.cpp keeps pair by pair: row 2i + s of a head is channel i + s * head_dim / 2."""

    def rows(config: Config) -> Place:
        half, count = config["head_dim"] // 2, config[heads]
        head = np.arange(half * 2).reshape(2, half).T.reshape(-1)
        return at_rows((np.arange(count)[:, None] * 2 * half + head).reshape(-1))

    return rows


PAIRED = {"attn_q": unpaired("num_attention_heads"), "attn_k": unpaired("num_key_value_heads")}


def partial_rotary(meta: Metadata, files: GgufFiles, width: int) -> Config:
    """rope_parameters where only the first rope.dimension_count channels of a head may turn."""
    turned = meta.size("rope.dimension_count", width)
    if turned > width or turned % 2:
        raise meta.wrong("rope.dimension_count", turned)
    return rope_parameters(meta, files, turned) | {"partial_rotary_factor": turned / width}


def share(meta: Metadata, key: str, total: int, default: int | None = None) -> int:
    """A count that must lie between 1 and `total`; without a default it must be there.

    Raises:
        BadCheckpoint: it does not.
    """
    value = meta.size(key) if default is None else meta.size(key, default)
    if value > total:
        raise meta.wrong(key, value)
    return value


def reordered(files: GgufFiles, target: str, name: str, shape: tuple[int, ...], rows: np.ndarray) -> Built:
    """One tensor whose row i goes to row `rows[i]`; {} where the file does not have it."""
    if name not in files.tensors:
        return {}
    return {target: (assembled(shape, [TensorPart(take(files, name, shape), at_rows(rows))]), (name,))}
