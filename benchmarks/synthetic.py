"""A diagnosis of any size without a model of that size: for what figures and pages cost."""

from __future__ import annotations

import numpy as np

from qroar_core.diagnostics.anisotropy.result import AngleBlindNoise, Anisotropy
from qroar_core.diagnostics.dilation.result import Dilation
from qroar_core.diagnostics.logit_noise.result import LogitNoise
from qroar_core.diagnostics.pair_error.result import PairErrors
from qroar_core.diagnostics.rounding.result import RoundedTensor, Roundings
from qroar_core.diagnostics.similarity.result import HiddenSimilarity
from qroar_core.diagnostics.tails.result import Survival, TailTable
from qroar_core.results import Diagnosis


def inflated(small: Diagnosis, length: int, layers: int, kv_heads: int, head_dim: int, bands: int, bins: int = 16,
             rows: int = 48, seed: int = 0) -> Diagnosis:  # fmt: skip
    """`small` blown up to a real model's size, every number random; for its size alone, so not validated."""
    draw = np.random.default_rng(seed)

    def some(*shape: int) -> list:
        return draw.lognormal(size=shape).tolist()

    pairs, sides = head_dim // 2, ("q/pre", "q/post", "k/pre", "k/post")
    each = pairs // bands
    cells = (layers, kv_heads, bands)
    distances = [2**i - 1 for i in range(length.bit_length())]
    return small.model_copy(
        update={
            "bands": [small.bands[0].model_copy(update={"index": b, "first_pair": b * each,
                                                        "last_pair": (b + 1) * each - 1}) for b in range(bands)],
            "tail_inflation": {side: {x: some(layers, bands) for x in ("q", "k")} for side in ("pre", "post")},
            "tails": {s: TailTable(**{f: some(*cells) for f in ("ratio", "low", "high", "long", "short", "native")})
                      for s in sides},
            "survival": {s: Survival(share=[0.9, 0.5, 0.1, 0.01, 1e-3], long=some(*cells, 5), short=some(*cells, 5),
                                     body_bound=0.015625) for s in sides},
            "dilation": Dilation(absmax=some(layers, bands, bins), rms=some(layers, bands, bins),
                                 bits_lost=some(layers, bands, bins), quantiles={"0.999": some(layers, bands, bins)}),
            "outliers": small.outliers.model_copy(
                update={
                    "maps": dict.fromkeys(sides, some(layers, kv_heads, head_dim, bins)),
                    "jaccard": {s: some(layers, kv_heads) for s in sides},
                    "mass_moved": {s: some(layers, kv_heads) for s in sides},
                    "error_share": {b: some(layers, bands) for b in ("int8", "int4")},
                    "entry_share": some(layers, bands), "entry_limit": some(layers, kv_heads),
                    "stand_out": {s: some(layers, kv_heads) for s in sides},
                    "jaccard_null": {s: some(layers, kv_heads) for s in sides},
                    "share_null": {s: some(3) for s in sides},
                    "count": {s: some(layers, bands) for s in sides},
                    "magnitude": {s: some(layers, bands) for s in sides},
                    "error_by_channel": {b: some(layers, head_dim) for b in ("int8", "int4")},
                    "others": [], "matrices": {}, "matrix_maps": {}, "no_matrices": "made up",
                }
            ),
            "logit_noise": LogitNoise(
                position=sorted(draw.integers(1, length, rows).tolist()), rms=some(rows), attention_kl=some(rows),
                distance=distances, rms_by_distance=some(len(distances)), by_layer=some(layers, rows),
                kl_by_layer=some(layers, rows), by_band=some(layers, bands), by_band_position=some(bands, rows),
                by_band_distance=some(bands, len(distances)), kind="local",
            ),
            "pair_error": PairErrors(**{f: some(bands, bins) for f in ("amplitude", "phase", "length_share")}),
            "anisotropy": Anisotropy(
                angle=some(16), error=some(bands, 16), ratio=some(layers, bands), over="step",
                null=AngleBlindNoise(error=some(bands, 16), ratio=some(layers, bands), largest=some(1)),
            ),
            "rounding": Roundings(k=RoundedTensor(**{
                f: some(layers) if f.startswith("rest") else some(layers, bands if f.startswith("band") else kv_heads)
                for f in RoundedTensor.model_fields
            })),
            "hidden": HiddenSimilarity(cosine=some(layers, bins), sqnr_db=some(layers, bins)),
            "position_edges": [i * length // bins for i in range(bins + 1)],
            "length": length, "rotary_dim": head_dim, "head_dim": head_dim, "n_kv_heads": kv_heads,
        }
    )  # fmt: skip
