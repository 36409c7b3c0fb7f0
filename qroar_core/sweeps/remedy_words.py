"""The words for remedies in a sweep: what is measured with each, and which file of its run folder has the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from qroar_core.remedies.applicable import PLAIN, ROTATION
from qroar_core.specs import REMEDIES
from qroar_core.transforms.registry import kinds, switches

NONE = "none"


@dataclass(frozen=True, slots=True)
class RemedyWord:
    """What a word asks for.

    Args:
        about: in a sentence, for documents.
        kinds: kinds of transform searched beside band scales; None: nothing is searched.
        where_taken: leave out kinds that the model or its setup does not take.
        condition: of the evaluation, `model/scales`; empty: the remedy's row of a comparison.
    """

    about: str
    kinds: tuple[str, ...] | None = None
    where_taken: bool = False
    condition: str = ""


WORDS: dict[str, RemedyWord] = {
    NONE: RemedyWord("the quantizer as it is", condition="quantized/identity"),
    "scales": RemedyWord("band scales, searched as `run` does", (), condition="quantized/tuned"),
    "scales+angles": RemedyWord("band scales and pair angles", ("angles",), condition="quantized/tuned"),
    "transforms": RemedyWord(
        "band scales with every other kind of transform that the model takes under this setup",
        tuple(name for name in switches() if kinds()[name].free),
        where_taken=True,
        condition="quantized/tuned",
    ),
    ROTATION: RemedyWord("a Hadamard rotation of q and k at run time", condition="quantized/rotation"),
    **{name: RemedyWord(f"`{name}` of `compare`, alone") for name in REMEDIES if name not in (PLAIN, ROTATION)},
}
