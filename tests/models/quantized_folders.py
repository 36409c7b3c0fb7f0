"""Quantized safetensors folders for tests: compressed-tensors by its own library, the others by their layouts.

GPTQ and AWQ have no library that installs beside this transformers: test_packers.py holds `gptq` and `awq` here against
the packers of AutoGPTQ and AutoAWQ, byte for byte, where the package index can be reached. `nf4` is held against
bitsandbytes in test_bitsandbytes.py, where that is installed.
"""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

GROUP = 16
NF4 = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]


def rtn(weight, bits, group, symmetric=False):
    """Round to nearest per row and group: codes (out, in) from 0, zero points and float16 scales (out, groups)."""
    blocks = weight.float().unflatten(1, (-1, group))
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).half().float()
    zero = (-low / scale).round().clamp(1, 2**bits - 1)
    codes = (blocks / scale[..., None] + zero[..., None]).round().clamp(0, 2**bits - 1)
    return codes.flatten(1).long(), zero.long(), scale


def words(codes, bits):
    """Pack along dim 1, lowest bits first, code by code: (n, m) -> int32 (n, m * bits / 32).

    One Python integer a row holds its codes end to end, so three bits run across words as in the other sizes.
    """
    rows = []
    for row in codes.tolist():
        number = sum(code << (bits * place) for place, code in enumerate(row))
        rows.append([number >> (32 * word) & 0xFFFFFFFF for word in range(len(row) * bits // 32)])
    out = torch.tensor(rows, dtype=torch.int64)
    return torch.where(out >= 2**31, out - 2**32, out).to(torch.int32)


def gptq(weight, bits=4):
    """AutoGPTQ: everything transposed, zero points stored less one, inputs in a shuffled group order."""
    codes, zero, scale = rtn(weight, bits, GROUP)
    g_idx = torch.arange(weight.shape[1]) // GROUP
    parts = {
        "qweight": words(codes, bits).T.contiguous(),
        "scales": scale.T.half().contiguous(),
        "qzeros": words(zero.T - 1, bits),
        "g_idx": g_idx.to(torch.int32),
    }
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


def nf4(weight):
    """bitsandbytes: blocks of 64 of the flattened weight, the first of two codes in the high nibble."""
    blocks = weight.float().flatten().unflatten(0, (-1, 64))
    absmax = blocks.abs().amax(1)
    table = torch.tensor(NF4)
    codes = ((blocks / absmax[:, None])[..., None] - table).abs().argmin(-1).flatten()
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
    parts = {
        "weight": (codes[::2] * 16 + codes[1::2]).to(torch.uint8)[:, None],
        "weight.absmax": absmax,
        "weight.quant_map": table,
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }
    return parts, (table[codes].unflatten(0, (-1, 64)) * absmax[:, None]).view(weight.shape)


def doubled(parts, weight):
    """The same with its absmax rounded to 8 bits, less their mean, in blocks of 256."""
    absmax, table = parts["weight.absmax"], torch.linspace(-1, 1, 256)
    offset = absmax.mean()
    padded = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % 256)).unflatten(0, (-1, 256))
    outer = padded.abs().amax(1)
    inner = ((padded / outer[:, None])[..., None] - table).abs().argmin(-1).flatten()[: len(absmax)]
    state = json.loads(bytes(parts["weight.quant_state.bitsandbytes__nf4"].tolist()))
    state |= {"nested_blocksize": 256, "nested_offset": float(offset), "nested_dtype": "float32"}
    again = table[inner] * outer.repeat_interleave(256)[: len(absmax)] + offset
    codes = torch.stack((parts["weight"][:, 0] >> 4, parts["weight"][:, 0] & 15), 1).flatten().long()
    whole = (torch.tensor(NF4)[codes].unflatten(0, (-1, 64)) * again[:, None]).view(weight.shape)
    return parts | {
        "weight.absmax": inner.to(torch.uint8),
        "weight.nested_absmax": outer,
        "weight.nested_quant_map": table,
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }, whole


def bitsandbytes(form, weight):
    """Parts of one layer by suffix, and the weight they stand for."""
    if form == "bitsandbytes int8":
        largest = weight.abs().amax(1)
        codes = (weight * 127 / largest[:, None]).round()
        parts = {"weight": codes.to(torch.int8), "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
        return parts, codes * largest[:, None] / 127
    parts, whole = nf4(weight)
    return doubled(parts, weight) if form == "nf4 double" else (parts, whole)


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


def fp8_codes(weight, scale):
    """E4M3 codes by the nearest of all 256 values, and what they stand for. `scale` is as large as the weight."""
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    finite = values[values.isfinite()].unique()
    near = ((weight / scale)[..., None] - finite).abs().argmin(-1)
    return finite[near].to(torch.float8_e4m3fn), finite[near].double() * scale.double()


def eight_bit_float(form, weight):
    """Parts of one layer by suffix, and the weight they stand for in float64."""
    out, inputs = weight.shape
    if form == "block fp8":  # of 32 x 48: the last ones of 64 inputs are short
        parts, whole = torch.zeros(-(-out // 32), -(-inputs // 48)), torch.empty_like(weight, dtype=torch.float64)
        codes = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
        for i in range(parts.shape[0]):
            for j in range(parts.shape[1]):
                at = slice(32 * i, 32 * i + 32), slice(48 * j, 48 * j + 48)
                parts[i, j] = weight[at].abs().max() / 448
                codes[at], whole[at] = fp8_codes(weight[at], parts[i, j].expand(weight[at].shape))
        return {"weight": codes, "weight_scale_inv": parts}, whole
    if form == "fbgemm fp8":
        scale = weight.abs().amax(1, keepdim=True) / 448
        codes, whole = fp8_codes(weight, scale.expand_as(weight))
        return {"weight": codes, "weight_scale": scale}, whole
    scale = weight.abs().max() / 448
    codes, whole = fp8_codes(weight, scale.expand_as(weight))
    return {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.02)}, whole


BITSANDBYTES = ("nf4", "nf4 double", "bitsandbytes int8")
EIGHT_BIT_FLOATS = ("modelopt fp8", "autofp8", "block fp8", "fbgemm fp8")
FORMS = ("pack4", "pack4 asymmetric", "pack8", "int8", "fp8", "gptq3", "gptq4", "gptq8", "awq")


def quantization_config(form):
    if form.startswith("gptq"):
        return {"quant_method": "gptq", "bits": int(form[-1]), "group_size": GROUP, "sym": False, "desc_act": False}
    if form in EIGHT_BIT_FLOATS:
        return {
            "modelopt fp8": None,  # in a file of its own
            "autofp8": {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]},
            "block fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 48]},
            "fbgemm fp8": {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0},
        }[form]
    if form == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
    if form in BITSANDBYTES:
        return {
            "quant_method": "bitsandbytes",
            "load_in_8bit": form.endswith("int8"),
            "load_in_4bit": not form.endswith("int8"),
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": form == "nf4 double",
        }
    name = {"int8": "int-quantized", "fp8": "float-quantized"}.get(form, "pack-quantized")
    plan = scheme(form).model_dump(mode="json")
    return {
        "quant_method": "compressed-tensors",
        "format": name,
        "quantization_status": "compressed",
        "config_groups": {"group_0": plan | {"format": name}},
        "ignore": ["lm_head"],
    }


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
        elif form in EIGHT_BIT_FLOATS:
            parts, oracle[name] = eight_bit_float(form, weight)
        elif form in BITSANDBYTES:
            parts, oracle[name] = bitsandbytes(form, weight)
        else:
            parts, oracle[name] = compressed(form, weight, dtype)
        tensors |= {f"{stem}.{suffix}": value for suffix, value in parts.items()}
    loaded.model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    if block := quantization_config(form):
        config["quantization_config"] = block
    else:
        inner = {"quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]}
        content = {"producer": {"name": "modelopt", "version": "0.29.0"}, "quantization": inner}
        (folder / "hf_quant_config.json").write_text(json.dumps(content))
    (folder / "config.json").write_text(json.dumps(config))
    loaded.tokenizer.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return oracle
