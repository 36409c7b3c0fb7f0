"""What one entry of the zoo says: a transformers class with small sizes, and how its GGUF file is laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

VOCAB = 2048  # tokens of the demo's tokenizer
THETA = 7_000.0
BASE_10000 = {"rope_type": "default", "rope_theta": 10_000.0}  # where the file does not say the base
CONTEXT = 512
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
LAYER = {  # module of a transformers layer: tensor of a GGUF block; the usual names
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ROOT = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
TABLE = "llama.cpp takes gelu from a float16 table"
Change = Callable[[str, Tensor, Any], "dict[str, Tensor] | None"]


def unchanged(part: str, tensor: Tensor, config: Any) -> None:
    """A layer's tensor keeps its rows and gets its name from the table."""


@dataclass(frozen=True)
class Kind:
    """One architecture, or one variant of it.

    `change(part, tensor, config)` gives the tensors of a block that one transformers tensor becomes, by their names
    in the block, or None where only its name changes. `part` is the transformers name inside the layer.
    """

    architecture: str  # general.architecture
    stem: str  # of <stem>Config and <stem>ForCausalLM
    options: dict = field(default_factory=dict)
    keys: Callable[[Any], dict] = lambda config: {}  # beyond the usual ones; a None removes a usual one
    names: dict = field(default_factory=dict)  # beyond LAYER
    change: Change = unchanged
    root: dict = field(default_factory=dict)  # beyond ROOT
    layers: str = "model.layers"
    config: str = ""  # config class, where it is not <stem>Config
    centred: bool = False  # norms multiply by 1 + weight in transformers, by the stored weight in llama.cpp
    rounded_along: dict = field(default_factory=dict)  # end of a name: the dimension that is last in the file
    unblocked: tuple = ()  # ends of names: float16 where the file is quantized in blocks
    without: str = ""  # why llama.cpp cannot be asked about it
    apart: float = 2e-4  # the largest difference of a log-probability that llama.cpp may show at F32, nats
    why_apart: str = ""  # what makes it larger than that of float32 sums


def rope_parameters(kind: Kind) -> dict:
    """The plain RoPE of a kind's options, or the zoo's own."""
    return dict(kind.options.get("rope_parameters", {"rope_type": "default", "rope_theta": THETA}))


def in_turn(tensor: Tensor, heads: int) -> Tensor:
    """Rows of each head with the two halves taken in turn: 0, d/2, 1, d/2 + 1, ... as llama.cpp's Llama rotates."""
    rows = tensor.reshape(heads, 2, len(tensor) // heads // 2, -1).transpose(1, 2)
    return rows.reshape(tensor.shape)


def llama_rows(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """Llama's Q and K, weight and bias."""
    for letter, heads in (("q", config.num_attention_heads), ("k", config.num_key_value_heads)):
        module, _, suffix = part.rpartition(".")
        if module == f"self_attn.{letter}_proj":
            return {f"attn_{letter}.{suffix}": in_turn(tensor, heads)}
    return None
