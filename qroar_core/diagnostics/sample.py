"""What a diagnostic was counted on: every figure says it in one sentence."""

from __future__ import annotations

from qroar_core.result import Result


class Sample(Result):
    """The tokens, rows and windows behind one figure; None stands where the word does not apply to it."""

    tokens: int  # positions of text whose q, k or hidden states were read
    windows: int = 1  # independent stretches of text
    rows: int | None = None  # sampled query rows; None: all, or no rows are meant
    keys: int | None = None  # sampled keys a row; None: all that it sees
    seed: int | None = None  # of what was drawn at random; None: nothing was
    error: str = ""  # what the interval or standard error shown is, and over what; empty: no estimate is shown

    @property
    def sentence(self) -> str:
        """For example: Counted on 4,096 tokens, 48 sampled query rows; the band is a 95 % bootstrap (seed 0)."""
        parts = [f"{self.tokens:,} tokens"]
        if self.windows > 1:
            parts.append(f"{self.windows:,} windows")
        if self.rows is not None:
            parts.append(f"{self.rows:,} sampled query rows")
        if self.keys is not None:
            parts.append(f"{self.keys:,} sampled keys a row")
        seed = "" if self.seed is None else f" (seed {self.seed})"
        error = f"; {self.error}" if self.error else ""
        return f"Counted on {', '.join(parts)}{error}{seed}."
