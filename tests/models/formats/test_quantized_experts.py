"""Quantized folders of mixtures of experts: one quantized tensor per expert, joined by transformers' converters.

The oracle is the same folder with every quantized layer written out, read by transformers alone.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qroar_core.models.load import run as load_model
from tests.models.hub_configs import HUB
from tests.models.hub_folders import IDS, random_model
from tests.models.quantized_folders import awq, eight_bit_float, gptq, nf4, quantization_config

WHOLE = ("gate.weight", "shared_expert_gate.weight", "embed_tokens.weight", "kv_a_proj_with_mqa.weight")
PACK = {"gptq4": gptq, "awq": awq, "nf4": nf4}


@pytest.mark.parametrize("form", ["gptq4", "awq", "block fp8", "modelopt fp8", "nf4"])
@pytest.mark.parametrize("name", ["Mixtral", "Qwen2-MoE", "Qwen3-MoE", "DSV3"])
def test_quantized_experts_are_what_their_parts_say(name, form, tmp_path, byte_tokenizer):
    raw = HUB[name] | ({"q_lora_rank": 32, "num_nextn_predict_layers": 0} if name == "DSV3" else {})
    source, folder, oracle = (tmp_path / part for part in ("source", "quantized", "oracle"))
    for place in (source, folder, oracle):
        place.mkdir()
        (place / "config.json").write_text(json.dumps(raw))
        byte_tokenizer.save_pretrained(place)
    random_model(transformers.AutoConfig.from_pretrained(source)).save_pretrained(source)
    parts, whole, experts = {}, {}, 0
    for key, value in load_file(source / "model.safetensors").items():
        weight = value.float()
        if weight.ndim != 2 or ".layers." not in key or key.endswith(WHOLE):
            parts[key] = whole[key] = weight.contiguous()
            continue
        experts += ".experts." in key
        of_layer, dense = PACK[form](weight) if form in PACK else eight_bit_float(form, weight)
        whole[key] = dense.float().contiguous()
        stem = key.removesuffix(".weight")
        parts |= {f"{stem}.{suffix}": part.contiguous() for suffix, part in of_layer.items()}
    assert experts >= 3 * 4 * 3  # three matrices of every expert of every layer, each by itself
    save_file(parts, folder / "model.safetensors")
    save_file(whole, oracle / "model.safetensors", metadata={"format": "pt"})
    if block := quantization_config(form):
        (folder / "config.json").write_text(json.dumps(raw | {"quantization_config": block}))
    else:
        said = {"quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]}
        (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": said}))
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    alone = transformers.AutoModelForCausalLM.from_pretrained(oracle, dtype=torch.float32).eval()
    with torch.no_grad():
        got, expected = loaded.model(IDS, use_cache=False).logits, alone(IDS, use_cache=False).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert "dequantized from" in loaded.note
