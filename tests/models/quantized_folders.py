"""Quantized safetensors folders for tests: compressed-tensors by its own library, GPTQ and AWQ by their layouts.

GPTQ and AWQ have no library that installs beside this transformers: gptqmodel has no wheel, auto-gptq 0.7.1 is a
23 MB wheel of CUDA kernels that imports names transformers dropped, autoawq 0.2.9 a source package that builds
against triton. Their packers alone (auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py `pack`, awq/modules/linear/
gemm.py `from_linear`) were run once on the weights of `rtn`: the same bytes as `gptq` (4 and 8 bits) and `awq` here.
"""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

GROUP = 16


def rtn(weight, bits, group, symmetric=False):
    """Round to nearest per row and group: codes (out, in) from 0, zero points and float16 scales (out, groups)."""
    blocks = weight.float().unflatten(1, (-1, group))
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).half().float()
    zero = (-low / scale).round().clamp(1, 2**bits - 1)
    codes = (blocks / scale[..., None] + zero[..., None]).round().clamp(0, 2**bits - 1)
    return codes.flatten(1).long(), zero.long(), scale


def words(codes, bits):
    """Pack along dim 1, lowest bits first, by a loop over places: (n, m) -> int32 (n, m * bits / 32)."""
    per = 32 // bits
    out = torch.zeros(codes.shape[0], codes.shape[1] // per, dtype=torch.int64)
    for place in range(per):
        out += codes[:, place::per] << (bits * place)
    return torch.where(out >= 2**31, out - 2**32, out).to(torch.int32)


def gptq(weight, bits=4):
    """AutoGPTQ: everything transposed, zero points stored less one, inputs in a shuffled group order."""
    codes, zero, scale = rtn(weight, bits, GROUP)
    g_idx = torch.arange(weight.shape[1]) // GROUP
    parts = {
        "qweight": words(codes, bits).T.contiguous(), "scales": scale.T.half().contiguous(),
        "qzeros": words(zero.T - 1, bits), "g_idx": g_idx.to(torch.int32),
    }  # fmt: skip
    return parts, (codes - zero[:, g_idx]) * scale[:, g_idx]


def awq(weight):
    """AutoAWQ gemm: outputs packed, nibble k of a word holds output (0, 2, 4, 6, 1, 3, 5, 7)[k]."""
    codes, zero, scale = rtn(weight, 4, GROUP)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])

    def packed(x):  # (rows, out)
        return words(x.unflatten(1, (-1, 8))[:, :, order].flatten(1), 4)

    parts = {"qweight": packed(codes.T), "scales": scale.T.half().contiguous(), "qzeros": packed(zero.T)}
    group = torch.arange(weight.shape[1]) // GROUP
    return parts, (codes - zero[:, group]) * scale[:, group]


def scheme(form):
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    args = {
        "pack4": {"num_bits": 4, "strategy": "group", "group_size": GROUP},
        "pack4 asymmetric": {"num_bits": 4, "strategy": "group", "group_size": GROUP, "symmetric": False},
        "pack8": {"num_bits": 8, "strategy": "channel"},
        "int8": {"num_bits": 8, "strategy": "channel"},
        "fp8": {"num_bits": 8, "type": "float", "strategy": "channel"},
    }[form]
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))


def compressor(form):
    from compressed_tensors.compressors import (
        FloatQuantizationCompressor,
        IntQuantizationCompressor,
        PackedQuantizationCompressor,
    )

    return {"int8": IntQuantizationCompressor, "fp8": FloatQuantizationCompressor}.get(
        form, PackedQuantizationCompressor
    )


def compressed(form, weight, dtype):
    """The library's own parts, and what it decompresses them to."""
    from compressed_tensors.quantization.utils import calculate_qparams

    plan = scheme(form)
    group = GROUP if plan.weights.strategy == "group" else weight.shape[1]
    blocks = weight.float().unflatten(1, (-1, group))
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), plan.weights)
    state = {"weight": weight.float(), "weight_scale": scale.to(dtype), "weight_zero_point": zero}
    if plan.weights.symmetric:
        state.pop("weight_zero_point")
    parts = compressor(form).compress(state, plan)
    return {k: v.contiguous() for k, v in parts.items()}, decompressed(form, parts)


def decompressed(form, parts):
    parts = dict(parts)
    parts["weight_scale"] = parts["weight_scale"].float()
    return compressor(form).decompress(parts, scheme(form))["weight"].float()


FORMS = ("pack4", "pack4 asymmetric", "pack8", "int8", "fp8", "gptq4", "gptq8", "awq")


def quantization_config(form):
    if form.startswith("gptq"):
        return {"quant_method": "gptq", "bits": int(form[-1]), "group_size": GROUP, "sym": False, "desc_act": False}
    if form == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
    name = {"int8": "int-quantized", "fp8": "float-quantized"}.get(form, "pack-quantized")
    plan = scheme(form).model_dump(mode="json")
    return {"quant_method": "compressed-tensors", "format": name, "quantization_status": "compressed",
            "config_groups": {"group_0": plan | {"format": name}}, "ignore": ["lm_head"]}  # fmt: skip


def write_quantized(folder, loaded, form, dtype=torch.float16):
    """`loaded`'s decoder layers quantized into `folder`; returns {name: dequantized weight by the oracle}."""
    tensors, oracle = {}, {}
    for name, parameter in loaded.model.named_parameters():
        if parameter.ndim != 2 or ".layers." not in name:
            tensors[name] = parameter.detach().clone()
            continue
        stem, weight = name.removesuffix(".weight"), parameter.detach()
        if form.startswith("gptq"):
            parts, oracle[name] = gptq(weight, int(form[-1]))
        elif form == "awq":
            parts, oracle[name] = awq(weight)
        else:
            parts, oracle[name] = compressed(form, weight, dtype)
        tensors |= {f"{stem}.{suffix}": value for suffix, value in parts.items()}
    loaded.model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = quantization_config(form)
    (folder / "config.json").write_text(json.dumps(config))
    loaded.tokenizer.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return oracle
