"""Small GGUF files for tests, written by the gguf library: any tensor type for q and k, no usable vocabulary."""

from __future__ import annotations

import gguf
import numpy as np

HIDDEN, HEADS, KV, HEAD_DIM, LAYERS, VOCAB, CONTEXT = 256, 4, 2, 64, 2, 48, 128
QK = [f"blk.{layer}.attn_{x}" for layer in range(LAYERS) for x in "qk"]


def random_blocks(rng, rows, kind):
    """Rows of a block format by its layout: every byte random but the float16 scales, which are ordinary numbers."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows, HIDDEN // block, size), dtype=np.uint8)
    for at in SCALE_BYTES[kind]:
        scales = rng.uniform(0.001, 0.02, raw.shape[:2]).astype("<f2")
        raw[..., at : at + 2] = scales[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


Q = gguf.GGMLQuantizationType
SCALE_BYTES = {  # ggml-common.h: where d, and m or dmin, lie in a block
    Q.Q4_0: (0,),
    Q.Q4_1: (0, 2),
    Q.Q5_0: (0,),
    Q.Q5_1: (0, 2),
    Q.Q8_0: (0,),
    Q.Q2_K: (80, 82),
    Q.Q3_K: (108,),
    Q.Q4_K: (0, 2),
    Q.Q5_K: (0, 2),
    Q.Q6_K: (208,),
    Q.IQ4_NL: (0,),
}
WRITABLE = (Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.F16, Q.BF16, Q.F32)
HAND_BUILT = (Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL)


def write_model(path, kind=Q.Q8_0, architecture="llama", bias=False, seed=0, extra=None, tensors=None):
    """A two-layer file whose attn_q and attn_k have `kind`; `extra(writer)` adds keys, `tensors` replaces arrays."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10_000.0)
    writer.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(VOCAB)])
    if extra:
        extra(writer)

    def add(name, rows, as_kind, columns=HIDDEN):
        data = rng.standard_normal((rows, columns)).astype(np.float32) * 0.1
        if tensors and name in tensors:
            data = tensors[name]
        if as_kind in HAND_BUILT:
            stored = random_blocks(rng, rows, as_kind)
        else:
            stored = gguf.quantize(data, as_kind)
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=as_kind)

    add("token_embd", VOCAB, Q.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for layer in range(LAYERS):
        stem = f"blk.{layer}"
        for x, heads in (("q", HEADS), ("k", KV)):
            add(f"{stem}.attn_{x}", heads * HEAD_DIM, kind)
            if bias:
                writer.add_tensor(f"{stem}.attn_{x}.bias", rng.standard_normal(heads * HEAD_DIM).astype(np.float32))
        add(f"{stem}.attn_v", KV * HEAD_DIM, Q.Q8_0)
        for name in ("attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            add(f"{stem}.{name}", HIDDEN, Q.Q8_0)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{stem}.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
