"""`Search`: what a search found, kept or not, as the library returns it and keeps it in a folder."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pandas as pd
import plotly.graph_objects as go

from qroar_core.checks import path_of
from qroar_core.errors import BadOutput
from qroar_core.library.shown import titled
from qroar_core.library.transform import Transform
from qroar_core.runs.agreement import MANIFEST_FILE, SEARCH_FILE
from qroar_core.runs.agreement_scales import found_against
from qroar_core.runs.file_kinds import kind_of_file
from qroar_core.runs.folder import SEARCHED, has
from qroar_core.runs.pipeline import load_search
from qroar_core.runs.run_files import scales_in
from qroar_core.scale_search import figure as trace
from qroar_core.scale_search.contradictions import contradictions_of
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.result import SearchReport
from qroar_core.transforms.file import tables_of, write_atomically
from qroar_core.transforms.registry import switches
from qroar_core.transforms.result import ScalesFile


@dataclass(frozen=True, slots=True, repr=False)
class Search:
    """What a search found, and whether it is kept.

    Attributes:
        transform: what was found where development text shows a gain, else identity.
        found: the best that was found, kept or not.
        smooth_attention, mad: scales from statistics alone, without a search, to compare with.
        report: cost, bounds, history, guard and decision.
        outcome: all of it as the stage returns it, with tensors.

    `save` and `load` take a folder with the search's files of a run. Two searches are equal where those files are.
    """

    transform: Transform
    found: Transform
    smooth_attention: Transform
    mad: Transform
    report: SearchReport
    outcome: SearchOutcome = field(compare=False)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote, or the search of a run that `qroar run` wrote; held-out text decides nothing here.

        Raises:
            BadOutput: a file is missing, not of this kind, or does not belong to the others.
            BadScales: a file of scales cannot be read. BadSpec: no path.
        """
        folder = path_of(f"{cls.__name__}.load(...)", folder, "give the folder that save wrote, or that of a run")
        if folder.is_file():
            kind = kind_of_file(folder)
            what, do = (kind.words, kind.do) if kind else ("a file", "give the folder that save wrote")
            raise BadOutput(f"is {what}, not the folder of a search", where=str(folder), do=do)
        missing = [name for name in (SEARCH_FILE, *SEARCHED) if not has(folder, name)]
        if missing:
            raise BadOutput("no such file: not a search", where=str(folder / missing[0]), do="give what save wrote")
        read = {what: Transform.load(folder / name) for name, what in SEARCHED.items()}
        outcome = load_search(folder, scales_in)
        assert outcome is not None  # its files are there
        report, found = outcome.report, read["found"]
        for problem in _contradictions(read, report):
            raise BadOutput(problem, where=str(folder), do="search again")
        kept = outcome.kept
        none = {name: ScalesFile.model_fields[name].get_default() for name in ("version", *switches())}
        identity = none | {"g": kept.nested()} | tables_of(kept)
        transform = found if report.chosen == "found" else found.model_copy(update=identity)
        return cls(transform, found, read["smooth"], read["mad"], report, outcome)

    def save(self, folder: Path | str) -> Path:
        """Write search.json, the scales under the names they have in a run, and scales.json; returns the folder.

        scales.json is `transform`: what every command takes as `--scales`. search.json comes last: without it the
        folder holds no search.

        Raises:
            BadOutput: the folder holds a run, or cannot be written. BadSpec: no path.
        """
        folder = path_of(f"{type(self).__name__}.save(...)", folder, "give a folder to write to")
        if has(folder, MANIFEST_FILE):
            raise BadOutput("holds a run, with a search of its own", where=str(folder), do="choose another folder")
        with suppress(FileNotFoundError, NotADirectoryError):  # the latter is refused where the first file is written
            (folder / SEARCH_FILE).unlink()
        for name, what in SEARCHED.items():
            getattr(self, "smooth_attention" if what == "smooth" else what).save(folder / name)
        self.transform.save(folder / "scales.json")
        write_atomically(folder / SEARCH_FILE, self.report.to_json())
        return folder

    def figures(self) -> list[str]:
        """Names of the figures that `plot` draws of this search."""
        return ["candidates", *self.found.figures()]

    def plot(self, name: str = "candidates") -> go.Figure:
        """`candidates`: the objective by step; `scales`, `angles`, `maps` and so on: what was found."""
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
                *([] if r.polish is None else [f"polish: {r.polish.words}"]),
                f"guard: {r.guard}",
                f"kept: {r.chosen}; {r.reason}",
                f"read: {r.text}",
            ]
        )

    def __repr__(self) -> str:
        found = "" if self.report.chosen == "found" else "found and not kept: "
        return f"Search: kept {self.report.chosen}; {self.report.reason}\n{found}{self.found!r}"

    def _repr_html_(self) -> str:
        return "<p>" + "<br>".join(html.escape(line) for line in self.summary().splitlines()) + "</p>"


def _contradictions(read: Mapping[str, Transform], report: SearchReport) -> Iterator[str]:
    """What cannot be of one search: files of several models, scales outside the bounds that the report names."""
    yield from contradictions_of(report)
    models = {one.model.fingerprint: one.model.name for one in read.values()}
    if len(models) > 1:
        yield f"its files are of several models: {', '.join(sorted(models.values()))}"
    if report.method != "none":  # where scales cannot act, nothing is searched
        yield from found_against(read["found"], report)
