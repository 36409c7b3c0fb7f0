"""`Transform`: the scales of one model, as the library hands them from a search to an evaluation and an export."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Self

import plotly.graph_objects as go

from qroar_core.checks import path_of
from qroar_core.errors import BadScales, BadSpec
from qroar_core.library.shown import Saved, titled
from qroar_core.models.loaded import LoadedModel
from qroar_core.number_of import number_of
from qroar_core.runs.file_kinds import other_kind_named
from qroar_core.transforms.figures import figures_of
from qroar_core.transforms.file import scales_for
from qroar_core.transforms.registry import kinds
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
        value_maps: a matrix on V of each layer and KV head; None: not searched.
        k_offset: what is taken off K before RoPE, [layer][kv_head][channel]; None: not searched.
        polish: matrices on q and k of each group of tied pairs, which change the model under the tie; empty without.
        bands: inclusive [first_pair, last_pair] of each.
        granularity: `model`, `layer` or `kv_head`: what shares a set of scales.
        model: name, fingerprint and sizes of the model it was made for.
    """

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a scales.json.

        Raises:
            BadScales: missing, or not a file of scales. BadSpec: no path.
        """
        path = path_of(f"{cls.__name__}.load(...)", path, "give the path of a scales.json")
        with other_kind_named(path, "a file of scales", BadScales):
            return cls.of(ScalesFile.from_file(path, BadScales))

    def scales(self, model: LoadedModel) -> Scales:
        """The tensors, checked against `model`.

        Raises:
            BadScales: made for another model.
        """
        return scales_for(self, model, "transform")

    def figures(self) -> list[str]:
        """Names of the figures that `plot` draws of this transform."""
        return list(figures_of(self))

    def plot(self, name: str = "scales") -> go.Figure:
        """`scales` by layer and band, or what was searched beside them: `angles`, `maps`, `k_offset` and so on."""
        drawn = figures_of(self)
        if name not in drawn:
            do = f"choose one of {', '.join(drawn)}, or search another kind too"
            raise BadSpec(f"no figure {name!r} of this transform", where="plot", do=do)
        return titled(drawn[name])

    def __repr__(self) -> str:
        if self.is_identity:
            return f"Transform: identity (the model as it is) for {self.model.name}"
        low, high = min(flat(self.g)), max(flat(self.g))
        per = {"model": "model", "layer": "layer", "kv_head": "layer and KV head"}[self.granularity]
        beside = ", ".join(kinds()[name].holds for name in self.kinds)
        return (
            f"Transform for {self.model.name}: {self.mode} scales from {low:.3g} to {high:.3g}, "
            f"{number_of(len(self.bands), 'band')} per {per}{f'; with {beside}' if beside else ''}"
        )

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"
