"""How llama.cpp stores the architectures whose files are written or scaled here: tensor names and the order of rows.

llama.cpp rotates the pairs (2i, 2i + 1) of Llama-like models, so its converter permutes W_Q and W_K:
row 2i + s of a head is row i + s * head_dim / 2 of the Hugging Face checkpoint. Qwen2 keeps its rows.
Source: ggml-org/llama.cpp convert_hf_to_gguf.py (LlamaModel.permute, undo_permute), src/llama-arch.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, get_tensor_name_map

from qroar_core.models.formats.gguf.architectures.smollm3 import STEP as SMOLLM3_STEP


@dataclass(frozen=True, slots=True)
class Layout:
    """How llama.cpp stores an architecture: its Hugging Face name, and whether Q/K rows are permuted."""

    architecture: str
    family: str
    hugging_face: str
    permuted: bool
    still_every: int = 0  # every so many layers one turns nothing: no bands, no scales


LAYOUTS = {
    "llama": Layout("llama", "llama", "LlamaForCausalLM", permuted=True),  # Llama, Mistral, SmolLM2
    "qwen2": Layout("qwen2", "qwen2", "Qwen2ForCausalLM", permuted=False),
    "granite": Layout("granite", "granite", "GraniteForCausalLM", permuted=True),
    "smollm3": Layout("smollm3", "smollm3", "SmolLM3ForCausalLM", permuted=True, still_every=SMOLLM3_STEP),
}


def row_order(head_dim: int, permuted: bool) -> np.ndarray:
    """Hugging Face channel at each GGUF row of a head; int64, (head_dim,)."""
    order = np.arange(head_dim)
    return order.reshape(2, head_dim // 2).T.reshape(-1) if permuted else order  # (2, d/2) -> (d/2, 2)


HF_LAYER = (
    "input_layernorm",
    "post_attention_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
HF_TOP = ("model.embed_tokens", "model.norm", "lm_head")


def gguf_names(layout: Layout, n_layers: int) -> dict[str, str]:
    """GGUF name -> Hugging Face name, by gguf's own tables; biases included."""
    arch = MODEL_ARCH[layout.architecture.upper()]
    table: Any = get_tensor_name_map(arch, n_layers)
    stems = [*HF_TOP, *(f"model.layers.{i}.{leaf}" for i in range(n_layers) for leaf in HF_LAYER)]
    suffixes = (".weight", ".bias")
    return {f"{table.get_name(stem)}{s}": f"{stem}{s}" for stem in stems for s in suffixes}
