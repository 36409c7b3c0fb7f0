"""Can band scales act under this quantizer at all? Answered before any search (docs/method.md section 4).

A quantizer whose channels each have their own scale commutes with a channel scale: Q(g x) = g Q(x).
There `symmetric` is an exact no-op and `shared` only a logit temperature, which acts on the
unquantized model just the same. Scales repair only where channels of different bands share a scale;
pair angles act wherever K, or q and k, are rounded.
"""

from __future__ import annotations

import torch

from qroar_core.interpolations.bands import Bands, band_of_channel
from qroar_core.maths.rope import Pairing, pair_index
from qroar_core.quantizers.grids import GRIDS
from qroar_core.scale_search.result import Verdict
from qroar_core.specs import Mode, QuantizerSpec, QuantSpec

LATENT = (
    "Scales cannot act here: this model's cache holds a latent and one rotated key per token, no K and V of its heads, "
    "so a K/V cache quantizer has nothing to round and is refused; quantize the weights or the q/k activations."
)


def verdict(
    quant: QuantSpec,
    mode: Mode,
    *,
    bands: Bands,
    head_dim: int,
    rotary_dim: int,
    pairing: Pairing,
    scaled_gain: bool = False,
    latent: bool = False,
    angles: bool = False,
) -> Verdict:
    """What rescaling can do under `quant`, and why, in one sentence.

    Args:
        scaled_gain: the scales go into a QK-norm's gain, which no weight quantizer rounds.
        latent: the cache holds a latent and one rotated key (MLA): a quantizer of K and V has nothing to round.
        angles: pairs are turned too, which no quantizer of K or of q and k commutes with.
    """
    if latent and (quant.k is not None or quant.v is not None):
        return Verdict(acts="no", reason=LATENT)
    if quant.is_none:
        return _without(mode, "nothing is quantized, so there is nothing to repair")
    band = band_of_channel(bands, head_dim, rotary_dim, pairing)
    reasons = []
    if quant.weights is not None and quant.weights.scale == "tensor" and not scaled_gain:
        reasons.append("weights share one scale a matrix, so rows of different bands share it")
    for what, spec in (("the K cache", quant.k), ("q and k activations", quant.qk)):
        if spec is not None and _mixes_bands(spec, band, rotary_dim, pairing):
            reasons.append(_why(what, spec))
    if reasons:
        return Verdict(acts="yes", reason="Scales can act: " + "; ".join(reasons) + ".")
    parts = []
    if quant.weights is not None and scaled_gain:
        parts.append("scales go into the gain of the QK-norm, which is not quantized")
    elif quant.weights is not None:
        parts.append("weights have a scale per output row, so Q(g w) = g Q(w)")
    for what, spec in (("the K cache", quant.k), ("q and k activations", quant.qk)):
        if spec is not None:
            own = "every channel has its own scale" if spec.scale == "channel" else "every scale covers one band only"
            parts.append(f"in {what} {own}")
    if quant.activations is not None and not parts:
        parts.append("only what linear layers read is rounded, and band scales come after it")
    if quant.v is not None and not parts:
        parts.append("only V is quantized, and band scales never touch V")
    found = _without(mode, "; ".join(parts))
    if angles and (quant.k is not None or quant.qk is not None):
        turning = "Angles can act: the two channels of a turned pair have other ranges."
        return Verdict(acts="yes", reason=f"{found.reason} {turning}")
    return found


def _mixes_bands(spec: QuantizerSpec, band: torch.Tensor, rotary_dim: int, pairing: Pairing) -> bool:
    """Do channels of different bands share one quantizer scale?"""
    if spec.scale == "channel":
        return False
    if spec.rotation == "hadamard" or spec.scale in ("token", "tensor"):
        return len(band.unique()) > 1
    order = torch.arange(band.numel())
    if spec.channel_order == "interleaved" and pairing == "half":
        order = torch.argsort(pair_index(band.numel(), rotary_dim, pairing), stable=True)
    return any(len(block.unique()) > 1 for block in band[order].split(spec.group_size or band.numel()))


def _why(what: str, spec: QuantizerSpec) -> str:
    blocks = f"blocks of {spec.group_size} channels"
    shared = {"token": "all channels of a token", "tensor": "all channels", "block": blocks}
    text = f"in {what} {shared[spec.scale]} share one scale"
    if spec.rotation == "hadamard":
        text += " after the Hadamard rotation mixed them, which leaves less to repair"
    if GRIDS[spec.levels].floating and spec.bits >= 8:
        text += ", though a float's relative error hardly depends on its scale: expect little"
    return text


def _without(mode: Mode, why: str) -> Verdict:
    if mode == "shared":
        return Verdict(
            acts="temperature",
            reason=f"Shared scales only make the logits larger or smaller here, without a quantizer too: {why}.",
        )
    return Verdict(acts="no", reason=f"Symmetric scales are an exact no-op here: {why}.")
