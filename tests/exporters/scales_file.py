"""A scales.json for a model."""

from __future__ import annotations

import torch

from qroar_core.exporters import gguf_copy
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.model import understood
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales
from tests.models.gguf_files import KV, LAYERS

BANDS = ((0, 4), (5, 20), (21, 31))  # of 32 pairs


def write_scales(path, source, mode="symmetric", g=None, rope=None):
    """scales.json for a GGUF file; returns (path, g)."""
    model = understood(source, read_header(source))
    if g is None:
        generator = torch.Generator().manual_seed(7)
        g = (torch.rand(LAYERS, KV, len(BANDS), generator=generator, dtype=torch.float64) * 3 - 1.5).exp2()
    described = gguf_copy._Described("model", min(model.fingerprints()), model.geometry)
    path.write_text(to_file(described, rope or RopeSpec(), QuantSpec(), Scales(mode, "kv_head", BANDS, g)).to_json())
    return path, g.numpy()
