"""How results show themselves: figures by name, a table, a summary, a file."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import pandas as pd
import plotly.graph_objects as go

from qroar_core.checks import path_of
from qroar_core.errors import BadOutput, BadSpec, QRoarError
from qroar_core.figures.picture import Picture
from qroar_core.result import Result
from qroar_core.runs.file_kinds import other_kind_named
from qroar_core.transforms.file import write_atomically

Figures = Mapping[str, Callable[[], list[Picture]]]
LINE = 160  # characters of a line of a summary


def there(draw: Callable[..., Picture | Sequence[Picture | None] | None], *args: object) -> list[Picture]:
    """The pictures that `draw` gives, one or several, without those that are not there."""
    drawn = draw(*args)
    return [picture for picture in ([drawn] if isinstance(drawn, Picture) else drawn or []) if picture is not None]


class Saved(Result):
    """A result that the library hands on, and that is written as the file which the pages and commands read."""

    @classmethod
    def of(cls, result: Result) -> Self:
        """`result`, of the class that this one extends, with these methods."""
        return cls.model_construct(**{name: getattr(result, name) for name in type(result).model_fields})

    def save(self, path: Path | str) -> Path:
        """Write the JSON file that the dashboard and the command line read; whole or not at all. Returns its path.

        A file of the same kind is replaced, anything else that lies there is not.

        Raises:
            BadOutput: it cannot be written, or something else lies there. BadSpec: no path.
        """
        path = path_of(f"{type(self).__name__}.save(...)", path, "give a path to write to")
        if path.exists() and not self._is_of_this_kind(path):
            raise BadOutput("something else lies there", where=str(path), do="choose another name, or delete it first")
        write_atomically(path, self.to_json())
        return path

    @classmethod
    def _is_of_this_kind(cls, path: Path) -> bool:
        try:
            cls.from_file(path)
        except QRoarError:
            return False
        return True


class Shown(Saved):
    """A result with `plot`, `table`, `summary`, `save` and `load`. Figures carry titles, units and how to read them."""

    FILE: ClassVar[str]  # what its file is called, in the words of `runs.file_kinds`

    def _figures(self) -> Mapping[str, Callable[[], list[Picture]]]:
        """Every figure by name, drawn when it is called; [] where this result has nothing to show in it."""
        raise NotImplementedError

    def _headline(self) -> str:
        """One or two lines: what was measured and what came out."""
        raise NotImplementedError

    def table(self) -> pd.DataFrame:
        """The numbers that matter first, one row a band or condition, with units in the column names."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a file that `save` or a run wrote.

        Raises:
            BadOutput: missing, not of this kind, or with contents that contradict each other. BadSpec: no path.
        """
        path = path_of(f"{cls.__name__}.load(...)", path, "give the path of a file that save or a run wrote")
        with other_kind_named(path, cls.FILE, BadOutput):
            return cls.from_file(path, BadOutput)

    def figures(self) -> list[str]:
        """Names of the figures that `plot` draws of this result."""
        return [name for name, draw in self._figures().items() if draw()]

    def plot(self, name: str | None = None) -> go.Figure:
        """The figure `name`, its title and how to read it above it; without a name the first one.

        Raises:
            BadSpec: no figure of this name, or nothing to show in it here.
        """
        return titled(self.pictures(name)[0])

    def pictures(self, name: str | None = None) -> list[Picture]:
        """The figure `name` with its title, reading, sample and table; several where there is one a tensor or layer.

        Raises:
            BadSpec: no figure of this name, or nothing to show in it here.
        """
        known = self._figures()
        name = name or next(iter(known))
        if name not in known:
            raise BadSpec(f"no figure {name!r}", where="plot", do=f"choose one of {', '.join(known)}")
        drawn = known[name]()
        if not drawn:
            raise BadSpec(f"{name}: nothing to show in this result", where="plot", do="see figures()")
        return drawn

    def summary(self) -> str:
        """The headline and the table, as text."""
        return f"{self._headline()}\n\n{self.table().to_string(index=False)}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self._headline()}"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self._headline().splitlines())
        return f"<p>{lines}</p>{self.table().to_html(index=False, escape=True)}"


def titled(picture: Picture) -> go.Figure:
    """The figure with its title above it: outside the dashboard nothing else says it."""
    figure = go.Figure(picture.figure)
    figure.update_layout(title={"text": html.escape(picture.title), "x": 0, "font": {"size": 15}})
    figure.layout.margin.t = (figure.layout.margin.t or 40) + 50
    figure.layout.height = (figure.layout.height or 380) + 50
    figure.update_layout(template="plotly_white", meta={"how_to_read": picture.how_to_read, "sample": picture.sample})
    return figure
