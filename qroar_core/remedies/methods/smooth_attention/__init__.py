"""SmoothAttention: one scale a RoPE pair from the range of K."""

from __future__ import annotations

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import FREE, Remedy


def _under(quant: QuantSpec) -> QuantSpec | None:
    return quant if any(s is not None and s.scale != "channel" for s in (quant.k, quant.qk)) else None


REMEDY = Remedy(
    "SmoothAttention",
    10,
    "K cache",
    FREE,
    "nothing: one scale a RoPE pair inside W_Q and W_K",
    "QServe, arXiv 2405.04532, section 4.2, alpha 0.5",
    _under,
    needs="a K cache or q and k activations whose channels share a scale",
)
