"""Results become `Picture`s: a plotly figure, the same numbers as a table, one sentence on how to read it.

No Streamlit, no torch, no model: a result read back from a run folder draws the same pictures as one
just computed, in the dashboard and in report.html alike.
"""

from qroar_core.figures.picture import Picture

__all__ = ["Picture"]
