"""What `controls` and `replicate` print: a table and its sentences, or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.cli.tables import _print, _table, line

if TYPE_CHECKING:
    from qroar_core.evidence.controls.result import Controls, Estimate
    from qroar_core.evidence.replication.result import Replication


def controls(result: Controls, as_json: bool) -> None:
    """One row a control, one a number format, and every finding."""
    if as_json:
        _print(result.model_dump(mode="json", exclude={"window_nll"}))
        return
    from qroar_core.evidence.controls.findings import measured  # scipy behind it: not at every command's start

    rows = [
        [one.name, f"{one.draws}", measured(one.gain), f"{one.least:+.4f}", f"{one.most:+.4f}", _known(one.lost)]
        for one in result.controls
    ]
    _table(
        f"{result.measured_on}, intervals over windows",
        ["scales", "draws", "nats gained", "least", "most", "less than tuned"],
        rows,
    )
    if result.precisions:
        formats = [
            [one.dtype, *map(_known, (one.reference, one.cost, one.above)), one.problem] for one in result.precisions
        ]
        header = ["number format", "reference above loaded", "quantized above reference", "with scales", "problem"]
        _table("Number formats", header, formats)
    for finding in result.findings:
        line(finding.sentence)


def replication(result: Replication, as_json: bool) -> None:
    """One table a setting, one row a claim."""
    from qroar_core.evidence.replication.claims import CLAIMS
    from qroar_core.evidence.replication.figure import value_words

    if as_json:
        _print(result.model_dump(mode="json"))
        return
    for case in result.cases:
        rows = [[CLAIMS[one.name].statement, one.verdict, value_words(one), one.detail] for one in case.claims]
        _table(f"{case.name}; {result.measured_on}", ["claim", "verdict", "figure", "detail"], rows)


def _known(found: Estimate | None) -> str:
    from qroar_core.evidence.controls.findings import measured

    return measured(found) if found else ""
