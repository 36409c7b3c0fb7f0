"""What Plotly reads as HTML in a figure, reduced to the tags that our figures use.

Plotly makes links and styles of `<a href>` and `<span style>` wherever text is drawn: names, ticks, hover, notes. A
figure holds strings of result files in all of these, and one that was overlooked must not become a link.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from qroar_core.escape import without_tags


def harmless(figure: go.Figure) -> None:
    """Turn every tag in `figure` that is not ours into text, in place."""
    for trace in figure.data:
        _clean(trace)
    _clean(figure.layout)
    for frame in figure.frames:
        _clean(frame)


def _clean(part: Any) -> None:
    said = part.to_plotly_json()
    changed = {key: cleaned for key, value in said.items() if (cleaned := _cleaned(value)) is not value}
    if changed:
        part.update(changed, overwrite=True)


def _cleaned(value: Any) -> Any:
    """`value` without foreign tags; the very same object where it has none."""
    if isinstance(value, str):
        words = without_tags(value) if "<" in value else value
        return value if words == value else words
    if isinstance(value, dict):
        inner = {key: _cleaned(one) for key, one in value.items()}
        return inner if any(inner[key] is not value[key] for key in value) else value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "OU":
            return value
        listed = value.tolist()
        cleaned = _cleaned(listed)
        return value if cleaned is listed else cleaned
    if isinstance(value, list | tuple):
        if not value or isinstance(value[0], float | int):
            return value if all(isinstance(one, float | int | None) for one in value) else _each(value)
        return _each(value)
    return value


def _each(value: list | tuple) -> Any:
    inner = [_cleaned(one) for one in value]
    return inner if any(new is not old for new, old in zip(inner, value)) else value
