"""Maps under tied pairs: neighbouring pairs at one frequency may be mixed by any matrix."""

from __future__ import annotations

from qroar_core.remedies.remedy import FREE, TURNING, Remedy, where_channels_of_k_share_a_scale

CHOICE = 3  # work of choosing which pairs to tie

REMEDY = Remedy(
    "tied maps",
    5,
    "K cache",
    FREE,
    "an interpolation by a list of frequencies (LongRoPE's factors, rope_freqs.weight); maps are inside W_Q and W_K",
    "this search, scales, angles and maps under `--tie`; the setup's tie, or the one that `--tie auto` chooses",
    where_channels_of_k_share_a_scale,
    needs="a K cache or q and k activations whose channels share a scale",
    takes_scales=False,
    searches=1,
    work=TURNING + CHOICE,
    retunes=True,
)
