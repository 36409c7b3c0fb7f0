"""What a diagnostic was counted on: every figure says it in one sentence."""

from __future__ import annotations

from typing import Any, TypeVar

from qroar_core.result import Result
from qroar_core.specs import DiagnosisSpec
from qroar_core.statistics.chance import ENOUGH

# which error logit noise, amplitude, phase and anisotropy show
PROPAGATED = "that include those of earlier layers"
LOCAL = "of each layer measured alone, errors of earlier layers not included"
ROW_ERRORS = "standard errors over the sampled rows"  # what bars are, for `Sample.error` and captions


class Sample(Result):
    """The tokens, rows and windows behind one figure; None stands where the word does not apply to it."""

    tokens: int  # positions of text whose q, k or hidden states were read
    windows: int = 1  # independent stretches of text
    rows: int | None = None  # sampled rows; None: all, or no rows are meant
    rows_of: str = "query rows"  # what a row is
    keys: int | None = None  # sampled keys a row; None: all that it sees
    seed: int | None = None  # of what was drawn at random; None: nothing was
    of_unquantized: bool = False  # said where anything is quantized: q and k shown are those of the model without it
    still_exact: int = 0  # newest keys that the cache still holds exactly at the end and that are left out
    exact_counted: int = 0  # such keys that count: with quantized weights they have errors all the same
    compares: str = ""  # which error is shown: of each layer's own q and k, or through the model
    error: str = ""  # what the interval or standard error shown is, and over what; empty: no estimate is shown

    @property
    def sentence(self) -> str:
        """For example: Counted on 4,096 tokens, 48 sampled query rows; the band is a 95 % bootstrap (seed 0)."""
        parts = [f"{self.tokens:,} tokens{' read by the unquantized model' * self.of_unquantized}"]
        if self.still_exact:
            parts.append(f"without the newest {self.still_exact:,}, whose keys the cache still holds exactly")
        if self.windows > 1:
            parts.append(f"{self.windows:,} windows")
        if self.rows is not None:
            parts.append(f"{self.rows:,} sampled {self.rows_of}")
        if self.keys is not None:
            parts.append(f"{self.keys:,} sampled keys a row")
        seed = "" if self.seed is None else f" (seed {self.seed})"
        error = f"; {self.error}" if self.error else ""
        compares = f"; errors {which_errors(self.compares)}" if self.compares else ""
        if self.exact_counted:
            compares += (
                f" (the newest {self.exact_counted:,} keys, which the cache still holds exactly, have no others)"
            )
        return f"Counted on {', '.join(parts)}{compares}{error}{seed}."


def answered_by(spec: DiagnosisSpec) -> int:
    """Draws of a null that a title answers yes or no by: as many as that takes, whatever the others have."""
    return max(spec.null_draws, ENOUGH)


def null_drawn(draws: int) -> str:
    """How often, for `Sample.error`."""
    return f"the null was drawn {'once' if draws == 1 else f'{draws} times'}"


AnyResult = TypeVar("AnyResult", bound=Result)


EARLIER = {  # words of older files: plainer ones
    "local to each layer's own q and k": LOCAL,
    "propagated through the model": PROPAGATED,
}


def which_errors(compares: str) -> str:
    """Which errors were compared, in the words of today."""
    return EARLIER.get(compares, compares)


def briefly(compares: str) -> str:
    """The same in a few words, for a row of a table; empty where a file does not say it."""
    return {LOCAL: "each layer measured alone", PROPAGATED: "with errors of earlier layers"}.get(
        which_errors(compares), ""
    )


def about_errors(found: AnyResult, compares: str, still_exact: int) -> AnyResult:
    """`found` whose sample, if it has one, says which error it is and what of keys that the cache holds exactly."""
    exact = "exact_counted" if compares == PROPAGATED else "still_exact"
    return _saying(found, {"compares": compares, exact: still_exact})


def of_unquantized(found: AnyResult) -> AnyResult:
    """`found` whose sample, if it has one, says that q and k are those of the unquantized model."""
    return _saying(found, {"of_unquantized": True})


def _saying(found: AnyResult, update: dict[str, Any]) -> AnyResult:
    sample = getattr(found, "sample", None)
    if not isinstance(sample, Sample):
        return found
    return found.model_copy(update={"sample": sample.model_copy(update=update)})
