"""The formats of quantized linear layers in safetensors, by the name that a config gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qroar_core.models.formats import awq, bitsandbytes, compressed, float8, gptq, mxfp4
from qroar_core.models.formats.packing import Packing, unknown

FORMATS: dict[str, Callable[[Mapping[str, Any], str], list[Packing]]] = {
    "gptq": lambda block, where: [gptq.packing(block, where)],
    "awq": lambda block, where: [awq.packing(block, where)],
    "bitsandbytes": lambda block, where: [bitsandbytes.packing(block, where)],
    "compressed-tensors": compressed.packings,
    "mxfp4": lambda block, where: [mxfp4.packing(block, where)],
    "modelopt": float8.modelopt,
    "fp8": float8.plain,
    "fbgemm_fp8": float8.fbgemm,
}


def packings_of(block: Mapping[str, Any], where: str) -> list[Packing]:
    """The format that a quantization config names; more than one where the tensors' names decide, none where
    its weights stay in full precision.

    Raises:
        UnsupportedModel: a format, or settings of one, that are not known here.
    """
    method = block.get("quant_method")
    if not isinstance(method, str) or method not in FORMATS:
        raise unknown(f"its weights are quantized already ({str(method)[:40]}): this format", where)
    return FORMATS[method](block, where)
