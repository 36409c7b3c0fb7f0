"""One complex number a RoPE pair: all that pairs of distinct frequencies allow."""

from __future__ import annotations

from qroar_core.remedies.remedy import FREE, TURNING, Remedy, where_channels_of_k_share_a_scale

REMEDY = Remedy(
    "pair scales and angles",
    4,
    "K cache",
    FREE,
    "nothing: inside W_Q and W_K, before those are quantized",
    "this search, a band and an angle a pair; FPTQuant's pre-RoPE transform, arXiv 2506.04985",
    where_channels_of_k_share_a_scale,
    needs="a K cache or q and k activations whose channels share a scale",
    takes_scales=False,
    searches=1,
    work=TURNING,
)
