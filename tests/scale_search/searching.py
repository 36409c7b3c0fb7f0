"""A search on a model with a planted outlier band, small enough for every test."""

import torch

from qroar_core.models.text import Document
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

INT4 = QuantSpec(k=QuantizerSpec(4))
BAND = 2
METHODS = ("gradient", "coordinate", "optuna")


def document(a, b):
    return [Document(f"{a}", "".join(chr(97 + (i * i * a + b * i + i // 5) % 26) for i in range(900)))]


TEXTS = {"calibration": document(1, 3), "development": document(2, 7), "heldout": document(3, 5)}


def asked(**options):
    """Small and quick, with a guard that lets everything pass."""
    small = {
        "bands": BandSpec(4),
        "length": 64,
        "windows": 2,
        "query_rows": 16,
        "max_log2_scale": 6.0,
        "guard_tau": 100.0,
    }
    return SearchSpec(**(small | options))


def run(loaded, spec, quant=INT4, texts=TEXTS, **more):
    return search.run(loaded, Setting(RopeSpec(), quant, search=spec), texts, **more)


def plant(loaded, places, factor=32.0):
    """K of `BAND` times `factor`, q divided by it, in (layer, kv head) `places`; repaired by symmetric g = factor."""
    geo = loaded.geometry
    pairs = torch.arange(BAND * geo.n_pairs // 4, (BAND + 1) * geo.n_pairs // 4)
    channels = torch.cat((pairs, pairs + geo.n_pairs))
    for layer, head in places:
        attention = loaded.model.model.layers[layer].self_attn
        attention.k_proj.weight.data[head * geo.head_dim + channels] *= factor
        for j in range(geo.queries_per_kv):
            attention.q_proj.weight.data[(head * geo.queries_per_kv + j) * geo.head_dim + channels] /= factor
    return loaded
