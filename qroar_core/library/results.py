"""What the library's stages return."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics import result as diagnosed
from qroar_core.diagnostics.band_table import BandRow, band_table
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.errors import BadScales
from qroar_core.evaluation import figure as evaluated
from qroar_core.evaluation import figure_kl
from qroar_core.evaluation import result as measured
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.figures import gallery
from qroar_core.figures.picture import Picture
from qroar_core.library.shown import Shown, titled
from qroar_core.models.loaded import LoadedModel
from qroar_core.remedies import figure as compared
from qroar_core.remedies import result as remedies
from qroar_core.retrieval import figure as retrieved
from qroar_core.retrieval import result as answers
from qroar_core.scale_search import figure as trace
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.result import SearchReport
from qroar_core.transforms import figure as scaled
from qroar_core.transforms import figure_angles, figure_maps
from qroar_core.transforms.file import scales_for, write_atomically
from qroar_core.transforms.result import ScalesFile, flat
from qroar_core.transforms.scales import Scales

Figures = Mapping[str, Callable[[], list[Picture]]]


def _there(draw: Callable[..., Picture | Sequence[Picture | None] | None], *args: object) -> list[Picture]:
    drawn = draw(*args)
    return [picture for picture in ([drawn] if isinstance(drawn, Picture) else drawn or []) if picture is not None]


class Diagnosis(diagnosed.Diagnosis, Shown):
    """What the interpolation and the quantizers do to each band; see `qroar_core.diagnostics`."""

    def _figures(self) -> Figures:
        return {name: partial(_there, draw, self) for name, draw in gallery.DIAGNOSIS.items()}

    def _headline(self) -> str:
        return f"{len(self.bands)} bands, {self.text}\n{self.verdict.reason}"

    def band_table(self, prediction: Prediction | None = None) -> list[BandRow]:
        """One row a band with what every diagnostic says of it; `prediction` adds what each costs alone in NLL."""
        return band_table(self, prediction)

    def table(self) -> pd.DataFrame:
        """One row a band: wavelength, pressure, tail ratios, outliers, error, logit noise, cost."""
        return bands.table(self).rename(columns=bands.titles())


class Evaluation(measured.Evaluation, Shown):
    """Perplexity and closeness to the reference on held-out text, by length and condition."""

    def _figures(self) -> Figures:
        draws: dict[str, Callable[..., Picture | None]] = {
            "perplexity": evaluated.perplexity_by_length,
            "cost": evaluated.cost_by_length,
            "gain": evaluated.gain_and_attribution,
            "rotation": figure_kl.rotation,
            "divergence": figure_kl.divergence,
            "by_position": evaluated.by_position,
        }
        return {name: partial(_there, draw, self) for name, draw in draws.items()}

    def _headline(self) -> str:
        share = tuned_share(self)
        recovered = [] if share is None else [f"NLL gap recovered: {share.words}"]
        return "\n".join([self.finding, *recovered, self.text])

    def table(self) -> pd.DataFrame:
        """One row a length and condition: perplexity, NLL, KL to the reference, same top 1."""
        return figure_kl.readable(figure_kl.table(self))


class Retrieval(answers.Retrieval, Shown):
    """Numbers hidden in held-out text, by task, length and depth."""

    def _figures(self) -> Figures:
        return {"retrieval": partial(_there, retrieved.gallery, self)}

    def _headline(self) -> str:
        return "\n".join([*(finding.sentence for finding in self.findings), self.text])

    def table(self) -> pd.DataFrame:
        """One row a task, length, depth and condition."""
        return pd.DataFrame([cell.model_dump() for cell in self.cells])


class Comparison(remedies.Comparison, Shown):
    """What people use already, beside band scales and with band scales on top."""

    def _figures(self) -> Figures:
        return {"gains": partial(_there, compared.gains, self), "on_top": partial(_there, compared.on_top, self)}

    def _headline(self) -> str:
        return "\n".join([*self.sentences, self.text])

    def table(self) -> pd.DataFrame:
        """One row a remedy: perplexity, gap recovered, gain, what band scales add, what it costs at run time."""
        return compared.table(self)


class Transform(ScalesFile):
    """Band scales, and pair angles where they were searched, for W_Q and W_K of one model under one setup.

    `save` writes the scales.json that every command and page takes.
    """

    @classmethod
    def of(cls, content: ScalesFile) -> Self:
        """The content of a scales file, with these methods."""
        return cls.model_construct(**{name: getattr(content, name) for name in ScalesFile.model_fields})

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a scales.json.

        Raises:
            BadScales: missing, or not a file of scales.
        """
        return cls.of(ScalesFile.from_file(Path(path).expanduser(), BadScales))

    def save(self, path: Path | str) -> Path:
        """Write scales.json, whole or not at all; returns its path.

        Raises:
            BadOutput: it cannot be written.
        """
        path = Path(path).expanduser()
        write_atomically(path, self.to_json())
        return path

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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Search:
    """What a search found, and whether it is kept.

    Attributes:
        transform: what was found where development text shows a gain, else identity.
        found: the best that was found, kept or not.
        smooth_attention, mad: scales from statistics alone, without a search, to compare with.
        report: cost, bounds, history, guard and decision.
        outcome: all of it as the stage returns it, with tensors.
    """

    transform: Transform
    found: Transform
    smooth_attention: Transform
    mad: Transform
    report: SearchReport
    outcome: SearchOutcome

    def plot(self, name: str = "candidates") -> go.Figure:
        """`candidates`: the objective by step; `scales`, `angles` and `maps`: what was found."""
        if name == "candidates":
            return titled(trace.candidates(self.report.history, self.report.objective))
        return self.found.plot(name)

    def table(self) -> pd.DataFrame:
        """What was searched, what it cost, what the guard and the decision said."""
        return trace.summary(self.report)

    def summary(self) -> str:
        """The verdict, the search's cost, the guard, and what is kept and why."""
        r = self.report
        return "\n".join(
            [
                r.verdict.reason,
                f"{r.objective} objective {r.objective_identity:.4g} -> {r.objective_found:.4g} "
                f"in {r.seconds:.1f} s = {r.forward_equivalents:.2f} forward passes over its text",
                *([] if r.value_maps is None else [f"value maps: {r.value_maps.words}"]),
                f"guard: {r.guard}",
                f"kept: {r.chosen}; {r.reason}",
                f"read: {r.text}",
            ]
        )

    def __repr__(self) -> str:
        return f"Search: kept {self.report.chosen}; {self.report.reason}\n{self.found!r}"

    def _repr_html_(self) -> str:
        return "<p>" + "<br>".join(html.escape(line) for line in self.summary().splitlines()) + "</p>"
