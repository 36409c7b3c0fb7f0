"""What a comparison of remedies says: the sentences, the figures, and what each remedy asks of the runtime."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.views.boxes import findings
from pages.views.render import findings_first, folded, heading, picture
from qroar_core.escape import literal
from qroar_core.evaluation.gap import remedy_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import loses_to_tie, under_a_tie, why_beside
from qroar_core.interpolations.tie import COUNTED, Tie
from qroar_core.remedies import figure as drawn
from qroar_core.remedies import figure_layers as layers_drawn
from qroar_core.remedies.findings import bands_help
from qroar_core.remedies.remedy import FREE
from qroar_core.remedies.result import Comparison
from qroar_core.remedies.result_layers import LayerChoice
from qroar_core.specs.labels import capital, checksum_words


def show_comparison(result: Comparison, evaluation: Evaluation | None = None, ties: Sequence[Tie] = ()) -> None:
    """The findings first, the table, then the figures.

    Args:
        evaluation: of the tuned scales under the same setting. ties: of that setting.
    """
    tied = "" if result.untied else capital(under_a_tie(ties, evaluation))
    loses = not result.untied and loses_to_tie(evaluation)
    others = [one for one in result.sentences if not tied or one != capital(COUNTED)]  # here with what was measured
    findings(bands_help(result) and not loses, [*others, *([tied] if tied else ())])
    with findings_first():
        _measured_on(result, evaluation)
        with st.container(border=True):
            heading("Perplexity and gain of each remedy", "comparison", "box")
            st.dataframe(_readable(result), hide_index=True, key="comparison", height="content")
            st.caption(
                f"The reference, unquantized, has PPL {result.reference_ppl:.3f}. Gap: the share of the NLL that "
                "quantization costs which a remedy recovers, with its interval; it may be zero where the gain is "
                "not significant."
            )
        picture(drawn.gains(result), "comparison gains")
        picture(drawn.on_top(result), "comparison on top")
        if result.layers is not None:
            _layers(result.layers)
        with folded("What does each remedy need from the runtime?") as opened:
            if opened:
                st.table(_asks(result).map(literal).set_index("remedy"))


def _layers(choice: LayerChoice) -> None:
    """Loss against memory, what each layer is worth, and how runtimes are told."""
    picture(layers_drawn.curve(choice), "loss by memory")
    if choice.flags:
        with st.container(border=True):
            heading("How runtimes keep these layers", "kept-layers", "box")
            for line in choice.flags:
                runtime, _, words = line.partition(": ")
                if words.startswith("--"):
                    command, _, beside = words.partition(", ")
                    st.markdown(literal(f"{runtime}{f', {beside}' if beside else ''}:"))
                    st.code(command, language="bash")
                else:
                    st.markdown(literal(f"{line}."))
    picture(layers_drawn.worth(choice), "layers worth")


def _measured_on(result: Comparison, evaluation: Evaluation | None) -> None:
    """On which text, and why Evaluate shows another gain of the same scales."""
    own = next((row for row in result.rows if row.key == "plain+"), None)
    if evaluation is not None and own is not None and own.gain is not None:
        said = why_beside(evaluation, own.gain, len(own.window_nll), result.length, same=False)
        if said:
            st.caption(f"{literal(said)}.")
    where = literal(checksum_words(result.measured_on))
    st.caption(f"{where}. Neither calibration nor search has read the held-out documents.")


def _readable(result: Comparison) -> pd.DataFrame:
    shares = [remedy_share(result, row) for row in result.rows]
    rows = [
        {
            "remedy": row.name,
            "PPL": f"{row.ppl:.3f}",
            "gap": share.words if share else "",
            "gain, nats": _with(row.gain, row.gain_low, row.gain_high),
            "band scales add": "exact no-op" if row.no_op else _with(row.added, row.added_low, row.added_high),
            "tie costs": _with(row.tie_cost, row.tie_cost_low, row.tie_cost_high),
            "cost at run time": row.run_time,
            "change in the runtime": row.runtime_change,
        }
        for row, share in zip(result.rows, shares, strict=True)
    ]
    table = pd.DataFrame(rows)
    return table if any(row.tie_cost is not None for row in result.rows) else table.drop(columns="tie costs")


def _asks(result: Comparison) -> pd.DataFrame:
    """What each remedy asks of the runtime; band scales like any that is free."""
    rows = [
        {
            "remedy": row.name,
            "cost at run time": row.run_time,
            "change in the runtime": row.runtime_change,
            "as published in": row.about.source,
        }
        for row in result.rows
        if not row.band_scales and row.method != "plain"
    ]
    own = [
        {
            "remedy": "band scales",
            "cost at run time": FREE,
            "change in the runtime": "nothing: inside W_Q and W_K",
            "as published in": "Q-ROAR, arXiv 2509.14391",
        }
    ]
    if any(row.angles for row in result.rows):
        own.append(
            {
                "remedy": "pair angles",
                "cost at run time": FREE,
                "change in the runtime": "nothing: inside W_Q and W_K, before those are quantized",
                "as published in": "FPTQuant, arXiv 2506.04985, its pre-RoPE transform",
            }
        )
    return pd.DataFrame([*own, *rows])


def _with(mean: float | None, low: float | None, high: float | None) -> str:
    return "" if mean is None else f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
