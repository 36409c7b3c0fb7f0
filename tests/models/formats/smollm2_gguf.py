"""A GGUF file of the fetched SmolLM2's kind."""

from __future__ import annotations

import gguf
import numpy
import torch

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight, heads):
    """llama.cpp's row order, spelled out: pair i of a head at rows 2i and 2i + 1 in place of i and i + d/2."""
    head_dim = len(weight) // heads
    order = [h * head_dim + i + s * head_dim // 2 for h in range(heads) for i in range(head_dim // 2) for s in (0, 1)]
    return weight[order]


def write_gguf(path, loaded, kind, architecture="llama", scaling=None):
    """A llama.cpp file of a tiny model; the model's own weights become what the file stores."""
    geometry, config = loaded.geometry, loaded.model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(geometry.original_context)
    writer.add_embedding_length(geometry.hidden_size)
    writer.add_block_count(geometry.n_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(geometry.n_heads)
    writer.add_head_count_kv(geometry.n_kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(geometry.head_dim)
    writer.add_key_length(geometry.head_dim)
    writer.add_value_length(geometry.head_dim)
    writer.add_rope_freq_base(geometry.theta)
    writer.add_vocab_size(geometry.vocab_size)
    if scaling is not None:
        writer.add_rope_scaling_type(scaling)
    vocabulary = loaded.tokenizer.convert_ids_to_tokens(range(geometry.vocab_size))
    vocabulary[-1], merge = vocabulary[0] + vocabulary[1], f"{vocabulary[0]} {vocabulary[1]}"  # the format wants one
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(vocabulary))
    writer.add_token_merges([merge])
    for name, parameter in loaded.model.named_parameters():
        stem, _, leaf = name.rpartition(".")
        short = stem.split(".", 3)[-1] if ".layers." in stem else stem
        prefix = f"blk.{stem.split('.')[2]}." if ".layers." in stem else ""
        data = parameter.detach().numpy()
        if short.endswith(("q_proj", "k_proj")):
            data = interleaved(data, geometry.n_heads if short.endswith("q_proj") else geometry.n_kv_heads)
        as_kind = kind if data.ndim == 2 else gguf.GGMLQuantizationType.F32
        stored = gguf.quantize(numpy.ascontiguousarray(data), as_kind)
        writer.add_tensor(f"{prefix}{NAMES[short]}.{leaf}", stored, raw_dtype=as_kind)
        plain = gguf.quantize(numpy.ascontiguousarray(parameter.detach().numpy()), as_kind)
        parameter.data.copy_(torch.from_numpy(gguf.dequantize(plain, as_kind)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
