"""Which remedies apply to a quantizer, and what quantizers each one runs under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qroar_core.errors import BadSpec
from qroar_core.presets import KV_PRESETS
from qroar_core.specs import METHODS, Method, QuantSpec

KIVI_K = replace(KV_PRESETS["kivi2"].k, before_rope=True)  # its groups and residual, on the axes before RoPE
WHY_NOT: dict[Method, str] = {
    "smooth_attention": "it needs a K cache or q and k activations whose channels share a scale",
    "per_channel": "it needs a K cache with scales per token, per block or per tensor, and integer levels",
    "rotation": "it needs a K cache per token or per block that is not rotated already",
    "awq": "it needs weights with a scale per channel or per group",
    "gptq": "it needs weights with a scale per channel or per group",
    "smoothquant": "it needs linear inputs that are quantized (--activations)",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A remedy and the quantizers it runs under."""

    method: Method
    quant: QuantSpec


def contenders(quant: QuantSpec, asked: Sequence[Method]) -> list[Contender]:
    """`plain`, and every asked method that applies, or all that apply where none is asked; in the order of METHODS.

    Raises:
        BadSpec: nothing is quantized, or an asked method does not apply.
    """
    if quant.is_none:
        raise BadSpec("nothing is quantized: there is nothing to repair", where="league", do="choose a quantizer")
    found = [Contender("plain", quant)]
    for method in METHODS[1:]:
        if asked and method not in asked:
            continue
        under = _under(method, quant)
        if under is not None:
            found.append(Contender(method, under))
        elif asked:
            raise BadSpec(f"{method} does not apply: {WHY_NOT[method]}", where="--methods", do="drop it")
    return found


def _under(method: Method, quant: QuantSpec) -> QuantSpec | None:
    """The quantizers that `method` runs under, or None where it does not apply."""
    k, weights = quant.k, quant.weights
    by_row = weights is not None and weights.scale != "tensor"
    if method == "smooth_attention":
        return quant if any(s is not None and s.scale != "channel" for s in (k, quant.qk)) else None
    if method == "per_channel":
        whole = k is not None and k.scale != "channel" and k.levels not in ("e4m3", "e5m2")
        return replace(quant, k=replace(KIVI_K, bits=k.bits)) if k is not None and whole else None
    if method == "rotation":
        turned = [spec and spec.rotated for spec in (k, quant.qk)]
        return replace(quant, k=turned[0] or k, qk=turned[1] or quant.qk) if any(turned) else None
    if method == "smoothquant":
        return quant if quant.activations is not None else None
    return quant if by_row else None  # awq, gptq
