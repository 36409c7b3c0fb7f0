"""The verdict on a model: whether scales can act under a quantizer, from its geometry and the length of text."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.interpolations.bands import Bands
from qroar_core.models.geometry import Geometry
from qroar_core.quantizers.applicability import verdict
from qroar_core.quantizers.exact_keys import first_rounded_row
from qroar_core.scale_search.result import Verdict
from qroar_core.specs import Mode, QuantSpec


def applicability_on(
    geometry: Geometry, quant: QuantSpec, mode: Mode, bands: Bands, angles: bool = False, length: int | None = None
) -> Verdict:
    """`quantizers.applicability.verdict` for this geometry, its pairs in `bands`.

    Args:
        length: tokens of a window, in which a cache may never come to round K; None: a longer one than that.
    """

    def on(quant: QuantSpec) -> Verdict:
        return verdict(
            quant,
            mode,
            bands=bands,
            head_dim=geometry.head_dim,
            rotary_dim=geometry.rotary_dim,
            pairing=geometry.pairing,
            scaled_gain=geometry.scaled_gain,
            latent=geometry.latent_dim > 0,
            angles=angles,
        )

    if not geometry.rounding_layers(quant):  # every layer's cache is kept as it is
        quant = replace(quant, k=None, v=None) if quant.k or quant.v else quant
    found = on(quant)
    if length is None or found.acts == "no" or not reads_all_exactly(quant, length):
        return found
    without_k = on(replace(quant, k=None))
    if without_k.acts == "yes":
        return without_k
    return Verdict(acts="no", reason=f"Scales can repair nothing here: {why_exact(quant, length)}.")


def reads_all_exactly(quant: QuantSpec, length: int) -> bool:
    """True when K is quantized, but in blocks so long that no query of `length` tokens reads any key rounded."""
    return first_rounded_row(quant) >= length


def why_exact(quant: QuantSpec, length: int) -> str:
    """What `reads_all_exactly` means, without a full stop."""
    return (
        f"in {length} tokens every query reads all keys exactly, for the cache rounds blocks of "
        f"{first_rounded_row(quant)} tokens and each once its last query has read it"
    )
