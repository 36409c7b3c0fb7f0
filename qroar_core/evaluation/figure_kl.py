"""How close a condition's predictions stay to the reference's, counted the way llama.cpp counts it."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.evaluation.figure import BY_RUNTIME, look, won_back
from qroar_core.evaluation.result import Evaluation, RotationFinding, Row
from qroar_core.figures.picture import GREEN, PINK, Picture, framed
from qroar_core.figures.ticks import log_ticks
from qroar_core.specs.labels import capital
from qroar_core.statistics.intervals import paired_interval

ROUNDING = 1e-6  # nats of mean KL that floating point alone makes


def table(evaluation: Evaluation) -> pd.DataFrame:
    """PPL, ln ratio with paired error, KL and top-1 agreement of every condition and length, longest first.

    Errors are standard errors over windows; llama.cpp's perplexity tool counts them over tokens.
    """
    lines = []
    for row in sorted(evaluation.rows, key=lambda row: -row.length):
        mine = evaluation.window_nll.get(f"{row.length}/{row.model}/{row.scales}")
        reference = evaluation.window_nll.get(f"{row.length}/reference/identity")
        ratio = paired_interval(mine, reference) if mine and reference else None
        lines.append(
            {
                "length": row.length,
                "condition": look(row)[0],
                "ppl": row.ppl,
                "ppl_se": row.ppl * row.nll_se,
                "ln_ratio": None if ratio is None else ratio.mean,
                "ln_ratio_se": None if ratio is None else ratio.se,
                "kl_mean": row.kl_mean,
                "kl_p99": row.kl_p99,
                "same_top1": row.same_top1,
            }
        )
    return pd.DataFrame(lines)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The counts as text, each with its error."""

    def pair(value: str, error: str, form: str) -> list[str]:
        return [
            "" if pd.isna(v) else f"{v:{form}} ± {e:{form.lstrip('+')}}"
            for v, e in zip(table[value], table[error], strict=True)
        ]

    def plain(name: str, form: str) -> list[str]:
        return ["" if pd.isna(v) else f"{v:{form}}" for v in table[name]]

    return pd.DataFrame(
        {
            "length": table["length"],
            "condition": table["condition"].str.removesuffix(BY_RUNTIME),
            "PPL": pair("ppl", "ppl_se", ".3f"),
            "ln(PPL / reference)": pair("ln_ratio", "ln_ratio_se", "+.4f"),
            "KL mean": plain("kl_mean", ".4f"),
            "KL 99 %": plain("kl_p99", ".3f"),
            "same top token": plain("same_top1", ".1%"),
        }
    )


def kl_report(evaluation: Evaluation) -> pd.DataFrame | None:
    """Every number of llama.cpp's KL report at the longest length, one column a condition. None in older results."""
    longest = max(row.length for row in evaluation.rows)
    rows = [row for row in evaluation.rows if row.length == longest and row.close is not None]
    columns = {look(row)[0]: _lines_of(row) for row in rows if (row.model, row.scales) != ("reference", "identity")}
    if not columns:
        return None
    return pd.DataFrame(columns).rename_axis("at the longest length").reset_index()


def _lines_of(row: Row) -> dict[str, float | None]:
    close = row.close
    assert close is not None
    lines: dict[str, float | None] = {
        "PPL": row.ppl,
        "ln(PPL / reference)": close.ln_ratio,
        "its standard error": close.ln_ratio_se,
        "correlation of the NLL": close.correlation,
        "KL mean, nats": close.kl_mean,
        "KL mean, standard error": close.kl_mean_se,
    }
    names = {"50": "median", "100": "maximum", "0": "minimum"}
    lines |= {f"KL {names.get(at, f'{at} %')}": value for at, value in close.kl.items()}
    lines |= {
        "Δp mean, percentage points": close.delta_p_mean,
        "Δp mean, standard error": close.delta_p_mean_se,
        "Δp RMS": close.delta_p_rms,
        "Δp RMS, standard error": close.delta_p_rms_se,
    }
    lines |= {f"Δp {names.get(at, f'{at} %')}": value for at, value in close.delta_p.items()}
    return lines | {"same top token": close.same_top1, "same top token, standard error": close.same_top1_se}


def divergence(evaluation: Evaluation) -> Picture | None:
    """Mean and 99th percentile KL of every condition at the longest length; the table has all of it."""
    longest = max(row.length for row in evaluation.rows)
    rows = [row for row in evaluation.rows if row.length == longest and (row.kl_mean or 0.0) > ROUNDING]
    if not rows:
        return None
    names = [look(row)[0] for row in rows]
    same = ["" if row.same_top1 is None else f"<br>same top token {row.same_top1:.1%}" for row in rows]
    figure = go.Figure()
    for name, which, symbol in (("mean", "kl_mean", "circle"), ("99th percentile", "kl_p99", "line-ns-open")):
        figure.add_scatter(
            x=[getattr(row, which) for row in rows],
            y=names,
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 12, "color": [look(row)[1] for row in rows], "line": {"width": 2}},
            customdata=same,
            hovertemplate=f"%{{y}}: {name} KL %{{x:.4g}} nats%{{customdata}}<extra></extra>",
        )
    framed(figure, "KL to the reference's prediction, nats per token", "", height=130 + 36 * len(rows), log_x=True)
    figure.update_yaxes(autorange="reversed", automargin=True)
    shown = [getattr(row, which) for row in rows for which in ("kl_mean", "kl_p99")]
    ticks = log_ticks([kl for kl in shown if kl is not None and kl > 0])
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    return Picture(
        "How far do the predictions move from the reference's?",
        figure,
        table(evaluation),
        f"At {longest} tokens. Perplexity depends on the true token only, KL on the whole prediction. Left is closer. "
        "ln_ratio is ln(PPL / reference PPL) with its paired standard error over windows.",
    )


def rotation(evaluation: Evaluation) -> Picture | None:
    """What a Hadamard rotation recovers, and what scales searched under it add. None where it was not measured."""
    found = evaluation.rotation
    if found is None:
        return None
    numbers, figure = won_back(_rotation_lines(found), (PINK, GREEN))
    return Picture(
        capital(found.sentence),
        figure,
        numbers,
        "A rotation of q and k before the rounding mixes every channel; the runtime has to do it for every token, "
        "scales cost nothing at run time. Paired over windows: a grey bar's interval touches 0, which is no "
        "significant gain.",
    )


def _rotation_lines(found: RotationFinding) -> list[tuple[str, float, float, float]]:
    lines = [("Hadamard rotation", found.delta_nll, found.ci_low, found.ci_high)]
    if found.added is not None and found.added_ci_low is not None and found.added_ci_high is not None:
        lines.append(("scales on top of it", found.added, found.added_ci_low, found.added_ci_high))
    return lines
