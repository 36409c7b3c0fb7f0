"""`Transform`: the scales of one model, as the library hands them from a search to an evaluation and an export."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Self

import plotly.graph_objects as go

from qroar_core.errors import BadScales
from qroar_core.library.shown import Saved, titled
from qroar_core.models.loaded import LoadedModel
from qroar_core.transforms import figure as scaled
from qroar_core.transforms import figure_angles, figure_maps
from qroar_core.transforms.file import scales_for
from qroar_core.transforms.result import ScalesFile, flat
from qroar_core.transforms.scales import Scales


class Transform(ScalesFile, Saved):
    """Band scales, and pair angles where they were searched, for W_Q and W_K of one model under one setup.

    `save` writes the scales.json that every command and page takes.

    Attributes:
        g: what q is multiplied with, and k divided by where `mode` is `symmetric`; above 0, nested to the granularity:
            [band], [layer][band] or [layer][kv_head][band].
        angles: rad, one a RoPE pair, nested likewise: by how much q and k are turned; None: not searched.
        maps: a matrix for each group of channels that turn alike; empty without any.
        bands: inclusive [first_pair, last_pair] of each.
        granularity: `model`, `layer` or `kv_head`: what shares a set of scales.
        model: name, fingerprint and sizes of the model it was made for.
    """

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a scales.json.

        Raises:
            BadScales: missing, or not a file of scales.
        """
        return cls.of(ScalesFile.from_file(Path(path).expanduser(), BadScales))

    def scales(self, model: LoadedModel) -> Scales:
        """The tensors, checked against `model`.

        Raises:
            BadScales: made for another model.
        """
        return scales_for(self, model, "transform")

    def plot(self, name: str = "scales") -> go.Figure:
        """`scales` by layer and band, `angles` by layer and pair, or `maps` by layer and group."""
        draw = {
            "scales": scaled.by_layer_and_band,
            "angles": figure_angles.by_layer_and_pair,
            "maps": figure_maps.by_layer_and_group,
        }.get(name)
        picture = None if draw is None else draw(self)
        if picture is None:
            do = "choose scales, or search angles or maps"
            raise BadScales(f"no figure {name!r} of this transform", where="plot", do=do)
        return titled(picture)

    def __repr__(self) -> str:
        if self.is_identity:
            return f"Transform: identity (the model as it is) for {self.model.name}"
        low, high = min(flat(self.g)), max(flat(self.g))
        per = {"model": "model", "layer": "layer", "kv_head": "layer and KV head"}[self.granularity]
        turned = "" if self.angles is None else ", with an angle per RoPE pair"
        turned += f" and {len(self.maps)} maps" if self.maps else ""
        turned += ", and a map of V per layer and KV head" if self.value_maps is not None else ""
        return (
            f"Transform for {self.model.name}: {self.mode} scales from {low:.3g} to {high:.3g}, "
            f"{len(self.bands)} bands per {per}{turned}"
        )

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"
