"""gpt-oss: attention sinks, biases, a sliding window in every other layer, experts that multiply from the right.

Gate and up take turns along the rows that transformers keeps as columns. YaRN is in the model itself, with bounds that
are not rounded (`truncate` false): no key says it, every released model has it, and llama.cpp rounds them all the same.
"""

from __future__ import annotations

from torch import Tensor

from qroar_core.models.formats.gguf.architecture import ATTENTION, Architecture, Built, Config, decoder, share, take
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.reading import Place, TensorPart, assembled


def config(meta: Metadata, files: GgufFiles) -> Config:
    """gpt-oss's config; the constants of its activation are in llama.cpp's code too."""
    count = meta.size("expert_count")
    found = decoder(meta, files, "GptOssForCausalLM", "gpt_oss")
    rope = found["rope_parameters"]
    period = meta.size("attention.sliding_window_pattern", 2)
    meta.only("rope.freq_base_swa", rope["rope_theta"])
    layers = range(found["num_hidden_layers"])
    inner = meta.size("expert_feed_forward_length")
    meta.only("feed_forward_length", inner)
    return found | {
        "intermediate_size": inner,
        "num_local_experts": count,
        "num_experts_per_tok": share(meta, "expert_used_count", count),
        "sliding_window": meta.size("attention.sliding_window"),
        "layer_types": ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in layers],
        "rope_parameters": rope | ({"truncate": False} if rope["rope_type"] == "yarn" else {}),
        "attention_bias": True,
        "swiglu_alpha": 1.702,
        "swiglu_limit": 7.0,
    }


def merged(found: Config, files: GgufFiles) -> Built:
    """Experts and their biases, and the sinks, of every layer."""
    built: Built = {}
    count, inner, hidden = found["num_local_experts"], found["intermediate_size"], found["hidden_size"]
    for i in range(found["num_hidden_layers"]):
        mlp, stem = f"model.layers.{i}.mlp.experts", f"blk.{i}.ffn"
        for target, parts, rows, columns in (
            ("gate_up_proj", ("gate", "up"), inner, hidden),
            ("down_proj", ("down",), hidden, inner),
        ):
            wide = rows * len(parts)
            names = tuple(f"{stem}_{part}_exps.weight" for part in parts)
            pieces = [
                TensorPart(take(files, name, (count, rows, columns)), _as_columns(rows, k, len(parts)))
                for k, name in enumerate(names)
            ]
            built[f"{mlp}.{target}"] = assembled((count, columns, wide), pieces), names
            names = tuple(f"{stem}_{part}_exps.bias" for part in parts)
            pieces = [
                TensorPart(take(files, name, (count, rows)), _in_turn(k, len(parts))) for k, name in enumerate(names)
            ]
            built[f"{mlp}.{target}_bias"] = assembled((count, wide), pieces), names
        name = f"blk.{i}.attn_sinks.weight"
        sinks = assembled(
            (found["num_attention_heads"],), [TensorPart(take(files, name, (found["num_attention_heads"],)))]
        )
        built[f"model.layers.{i}.self_attn.sinks"] = sinks, (name,)
    return built


def _as_columns(rows: int, first: int, step: int) -> Place:
    """Row r of expert e becomes its column `first + step * r`."""

    def place(whole: Tensor, numbers: Tensor, values: Tensor) -> None:
        whole[numbers // rows, :, first + step * (numbers % rows)] = values

    return place


def _in_turn(first: int, step: int) -> Place:
    def place(whole: Tensor, numbers: Tensor, values: Tensor) -> None:
        whole[numbers, first::step] = values

    return place


GPT_OSS = Architecture(
    "gpt-oss",
    config,
    layer=ATTENTION | {"post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"},
    merged=merged,
    head="always",
    no_scales="its layout is not known to the in-place writer",
)
