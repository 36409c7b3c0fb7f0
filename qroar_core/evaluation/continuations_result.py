"""The same prompt continued under each condition."""

from __future__ import annotations

from typing import Annotated, Literal

from qroar_core.result import Result
from qroar_core.result_shapes import axes


class Continuation(Result):
    """One condition's greedy continuation.

    `pieces` is the text each token adds, `log_prob` ln of its probability under this condition, `departs_at`
    the first token that is not the reference's (None: none is).
    """

    model: Literal["reference", "quantized"]
    scales: Literal["identity", "tuned", "smooth_attention", "rotation"]
    tokens: Annotated[list[int], axes("token")]
    pieces: Annotated[list[str], axes("token")]
    log_prob: Annotated[list[float], axes("token")]
    departs_at: int | None

    @property
    def text(self) -> str:
        """The whole continuation."""
        return "".join(self.pieces)


class Continuations(Result):
    """`rows` begins with the reference. `actual` is how the text itself goes on, "" for a prompt of one's own."""

    prompt_tokens: int
    left_out: int  # tokens of the prompt's beginning that did not fit
    prompt_end: str  # the last part of the prompt, to show
    origin: str  # where the prompt comes from
    actual: str
    length: int  # prompt and continuation together, at most
    rows: Annotated[list[Continuation], axes("row")]
