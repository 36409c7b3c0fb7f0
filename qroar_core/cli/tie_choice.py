"""`--tie auto`: the choice before a search, and what is shown of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.parse import AUTO
from qroar_core.number_of import number_of
from qroar_core.statistics.digits import shown

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Texts
    from qroar_core.scale_search.result_ties import TieChoice
    from qroar_core.setting import Setting


def with_chosen_ties(
    loaded: LoadedModel, setting: Setting, texts: Texts, options: dict[str, Any]
) -> tuple[Setting, TieChoice | None]:
    """The setting with the groups that `--tie auto` chooses, and the choice; else the setting as it is, and None."""
    if options.get("tie") != AUTO:
        return setting, None
    from qroar_core.scale_search import choose_ties
    from qroar_core.transforms.groups import groups_of

    with tables.progress() as on_step:
        choice = choose_ties.run(loaded, setting, texts, on_step).as_written()
    rope = replace(setting.rope, tie=choice.tie)
    maps = bool(groups_of(loaded.geometry, rope))
    if options["json"]:
        tables.note(choice.sentence)
    else:
        show(choice)
        if not maps:
            tables.line("searched: scales and angles, since no map commutes without a tie")
    polish = setting.search.polish and bool(choice.tie)  # without a tie it costs nothing that could be taken back
    return replace(setting, rope=rope, search=replace(setting.search, maps=maps, polish=polish)), choice


def show(choice: TieChoice) -> None:
    """The groups with cost and gain, and what the choice costs in nats."""
    if choice.groups:
        rows = [
            [
                f"{one.first}-{one.last}",
                f"{one.turn:g}" if one.turn else "still",
                f"{one.absmax_share:.0%}",
                shown(one.cost),
                f"{one.left_without:.1%}",
            ]
            for one in choice.groups
        ]
        title = (
            "Tied pairs; errors of the attention output as shares of what rounding makes without a tie, "
            f"{choice.left_untied:.1%} of which scales leave"
        )
        tables._table(title, ["pairs", "turn", "largest of K", "cost", "left without it"], rows)
        tables.line(f"all of them together leave {choice.left:.1%}, their cost included")
    for one in choice.costs:
        tables.line(
            f"cost in full precision: {one.nats:+.4f} nats [{one.low:+.4f}, {one.high:+.4f}] on "
            f"{number_of(one.windows, 'development window')} of {one.length} tokens, {one.allowed} allowed"
        )
    tables.line(choice.sentence)
    passes = choice.seconds / choice.forward_seconds
    tables.line(f"chosen in {choice.seconds:.0f} s = {passes:.1f} forward passes over {choice.text}")
