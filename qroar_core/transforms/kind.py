"""What a kind of transform says of itself: the `KIND` of its folder, which `qroar_core.transforms.registry` finds.

Nothing here costs an import of torch, so that the command line can list the kinds. How a kind is searched, put into
weights and undone is code of those stages; its folder has the figure (`figure.py`) and, of one with a switch, which
model refuses it and why (`refusal.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Switch:
    """How a kind is asked for: `--name` of the command line, a toggle on Tune, `SearchSpec.name`, `search(name=True)`.

    Args:
        option: what the help of the command line says.
        toggle: label of the toggle.
        help: what the toggle explains.
        needs: kinds that are searched with it; the command line switches them on too.
        by_gradient: only methods and objectives with a gradient search it.
        cached_only: only the cached objective searches it.
        on_remedies: a comparison of remedies can search it on top of each.
    """

    option: str
    toggle: str
    help: str
    needs: tuple[str, ...] = ()
    by_gradient: bool = False
    cached_only: bool = False
    on_remedies: bool = False


@dataclass(frozen=True, slots=True)
class TransformKind:
    """One kind of transform. Its folder's name is the field of `SearchSpec`, `Scales` and scales.json that has it.

    Args:
        label: as headings, lists and job labels have it.
        place: in lists, the lowest first.
        version: of scales.json, the first that can hold it.
        holds: what a transform with it has, for its repr.
        formula: what is done to q, k and v.
        exact: why no output changes in full precision, and where that ends.
        folded: where it goes.
        taken_by: which models take it.
        switch: None: it is always searched.
        free: False: it changes the model in full precision, as `exact` says.
    """

    label: str
    place: int
    version: int
    holds: str
    formula: str
    exact: str
    folded: str
    taken_by: str
    switch: Switch | None = None
    free: bool = True
