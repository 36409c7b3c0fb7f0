"""The verdict on a model: whether scales can act under a quantizer, from what its geometry says."""

from __future__ import annotations

from qroar_core.maths.bands import Bands
from qroar_core.maths.verdict import verdict
from qroar_core.models.geometry import Geometry
from qroar_core.results.search import Verdict
from qroar_core.specs import Mode, QuantSpec


def verdict_on(geometry: Geometry, quant: QuantSpec, mode: Mode, bands: Bands, angles: bool = False) -> Verdict:
    """`maths.verdict.verdict` for this geometry, its pairs in `bands`."""
    return verdict(quant, mode, bands=bands, head_dim=geometry.head_dim, rotary_dim=geometry.rotary_dim,
                   pairing=geometry.pairing, scaled_gain=geometry.scaled_gain, latent=geometry.latent_dim > 0,
                   angles=angles)  # fmt: skip
