"""SmoothAttention: one scale a RoPE pair from the range of K."""

from __future__ import annotations

from qroar_core.remedies.remedy import FREE, READY, Remedy, where_channels_of_k_share_a_scale

REMEDY = Remedy(
    "SmoothAttention",
    10,
    "K cache",
    FREE,
    "nothing: one scale a RoPE pair inside W_Q and W_K",
    "QServe, arXiv 2405.04532, section 4.2, alpha 0.5",
    where_channels_of_k_share_a_scale,
    needs="a K cache or q and k activations whose channels share a scale",
    work=READY,
)
