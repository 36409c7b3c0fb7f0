"""Conditions measured on the same windows: each once, whoever asks, and each but the first against the reference.

One evaluation measures a handful of conditions. Evaluations of many quantizers and remedies on the same windows share
the reference, whose hidden states wait in a scratch file, and every condition that more than one of them asks for.
Only the windows asked for last are kept: who evaluates many orders them by what they share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from types import TracebackType

from torch import Tensor

from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.window_losses import TokenLosses, measure
from qroar_core.progress import OnStep
from qroar_core.shared import Shared
from qroar_core.specs import QuantSpec, RopeSpec


class MeasuredWindows:
    """Windows of text with what conditions lose on their targets; the reference is measured first."""

    def __init__(
        self,
        loaded: LoadedModel,
        rope: RopeSpec,
        ids: Tensor,
        targets: int,
        chunk: int,
        key: tuple[Hashable, ...],
        seen: Shared[TokenLosses],
    ) -> None:
        self._loaded, self._rope, self._ids, self._targets, self._chunk = loaded, rope, ids, targets, chunk
        self._states, self._seen = HiddenStateFile(targets), seen
        self._key = key
        self._reference: TokenLosses | None = None

    def losses(self, condition: Condition, what: str, on_step: OnStep) -> TokenLosses:
        """Losses of every target under `condition`, with the divergence from the reference unless it is that.

        Args:
            condition: a RoPE, quantizers and scales, nothing else: static ranges are calibrated on the first window.
        Raises:
            NonFinite: an activation or a score that is no number. Cancelled: raised by `on_step`.
        """
        scales = None if condition.scales is None else condition.scales.digest
        key = (self._key, condition.rope, condition.quant, scales)
        first = (condition.rope, condition.quant, scales) == (self._rope, QuantSpec(), None)
        if first and self._reference is not None:
            self._seen.taken += 1
            return self._reference

        def made() -> TokenLosses:
            return measure(
                self._loaded,
                calibrated(self._loaded, condition, self._ids[:1], self._chunk),
                self._ids,
                self._targets,
                chunk=self._chunk,
                what=what,
                on_step=on_step,
                keep=self._states if first else None,
                against=None if first else self._states,
            )

        if not first:
            return self._seen.of(key, made)
        self._reference = made()
        self._seen.made += 1
        return self._reference

    def of_this_model(self, condition: Condition, what: str, on_step: OnStep) -> TokenLosses:
        """Losses under a condition of the model as it stands now, with other parameters maybe: nothing is remembered.

        Args:
            condition: with its static ranges, where it needs some. The reference must have been measured before.
        Raises:
            NonFinite, Cancelled: as `losses`.
        """
        return measure(
            self._loaded,
            condition,
            self._ids,
            self._targets,
            chunk=self._chunk,
            what=what,
            on_step=on_step,
            against=self._states,
        )

    def close(self) -> None:
        """Drop the reference's hidden states."""
        self._states.__exit__(None, None, None)


class SharedLosses:
    """The windows that were asked for last, with what was measured on them. One thread at a time.

    `conditions` counts what was measured and what was taken again, references among them.
    """

    def __init__(self) -> None:
        self.conditions: Shared[TokenLosses] = Shared(most=256)
        self.windows: Shared[MeasuredWindows] = Shared(close=MeasuredWindows.close)

    def on(self, loaded: LoadedModel, rope: RopeSpec, ids: Tensor, targets: int, chunk: int) -> MeasuredWindows:
        """These windows (count, length), of which the last `targets` tokens are scored, under this reference."""
        key = (_digest(ids), targets, chunk, rope, loaded.checksum, str(loaded.dtype), str(loaded.device))

        def fresh() -> MeasuredWindows:
            self.conditions.clear()
            return MeasuredWindows(loaded, rope, ids, targets, chunk, key, self.conditions)

        return self.windows.of(key, fresh)

    def __enter__(self) -> SharedLosses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.windows.clear()
        self.conditions.clear()


def _digest(ids: Tensor) -> str:
    return hashlib.sha256(f"{tuple(ids.shape)}".encode() + ids.cpu().numpy().tobytes()).hexdigest()
