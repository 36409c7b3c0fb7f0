"""Writes openvino.npz: keys through OpenVINO's own K/V cache on a CPU, a stateful attention alone as the model.

pip install --target /tmp/openvino --no-deps openvino==2026.4.1
PYTHONPATH=/tmp/openvino:. python -m tests.quantizers.vectors.make_openvino

What the cache holds in u8 is read back as the model's state. The state of a u4 cache is read back wrong, so what is
kept of u4 is the attention of the last token, which reads the cache as it should.
"""

import numpy as np
import openvino as ov
from openvino import opset6, opset13

from tests.quantizers.vectors.drawn import HERE, keys

HEADS, WIDTH, EXACT = 2, 128, {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
CORE = ov.Core()


def attention() -> ov.Model:
    any_length = ov.PartialShape([-1, HEADS, -1, WIDTH])
    q, k, v = (opset13.parameter(any_length, np.float32, name=name) for name in "qkv")
    beam = opset13.parameter(ov.PartialShape([-1]), np.int32, name="beam_idx")
    batch = opset13.gather(opset13.shape_of(q, "i64"), opset13.constant(np.array([0])), opset13.constant(0))
    none = opset13.concat([batch, opset13.constant(np.array([HEADS, 0, WIDTH]))], 0)
    whole, kept = [], []
    for name, new in (("k", k), ("v", v)):
        start = opset13.broadcast(opset13.constant(np.float32(0)), none)
        past = opset6.read_value(start, name, ov.Type.f32, any_length)
        whole.append(opset13.concat([opset13.gather(past, beam, opset13.constant(0)), new], 2))
        kept.append(opset6.assign(whole[-1], name))
    read = opset13.result(opset13.scaled_dot_product_attention(q, *whole, causal=True))
    return ov.Model([read], kept, [q, k, v, beam], "attention")


def run(x: np.ndarray, pieces: list[int], **options: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """States, and what the last piece of queries read, after K = V = q = x came in pieces of so many tokens."""
    request = CORE.compile_model(attention(), "CPU", options | EXACT).create_infer_request()
    start = 0
    for count in pieces:
        part = x[:, :, start : start + count]
        read = request.infer({"q": part, "k": part, "v": part, "beam_idx": np.zeros(1, np.int32)})
        start += count
    return {s.name: np.array(s.state.data)[0] for s in request.query_state()}, next(iter(read.values()))[0].copy()


version = ov.__version__
few, many = keys().numpy()[None], keys(128).numpy()[None]
u8, _ = run(few, [16], KV_CACHE_PRECISION="u8")
by_channel, _ = run(many, [128], KV_CACHE_PRECISION="u8", KEY_CACHE_QUANT_MODE="BY_CHANNEL")
small = few / 8  # so that softmax looks at more than one key
_, u4 = run(small, [15, 1], KEY_CACHE_PRECISION="u4", VALUE_CACHE_PRECISION="u4")
_, u8_u4 = run(small, [15, 1], KEY_CACHE_PRECISION="u8", VALUE_CACHE_PRECISION="u4")
np.savez_compressed(
    HERE / "openvino.npz",
    version=np.array(version),
    ov_u8=u8["k"],
    **{"ov_u8_channel.k": by_channel["k"][..., ::8], "ov_u8_channel.v": by_channel["v"][..., ::8]},
    **{"ov_u4.read": u4, "ov_u8_u4.read": u8_u4},
)
