"""Final hidden states of one condition in a scratch file, for another condition to be compared with.

A KL needs the reference's prediction at every target again, once per condition. Logits are too many to keep and
hidden states grow with the length, so they wait on disk: memory stays what one chunk needs. The file lies in
TMPDIR (/tmp where that is not set) and takes windows x targets x hidden_size values; on Linux it never has a name,
so nothing is left behind, however the process ends.
"""

from __future__ import annotations

import tempfile
from io import FileIO
from types import TracebackType

import torch
from torch import Tensor

from qroar_core.errors import BadOutput

HELD_BYTES = 64 * 2**20  # states that wait on an accelerator, to be copied to the host all at once
AT_ONCE = {"cpu": 0}  # device type -> another number of bytes


class HiddenStateFile:
    """States (windows, targets, hidden_size): written chunk by chunk in any order, then read the same way."""

    def __init__(self, targets: int) -> None:
        self._targets = targets
        try:
            self._file: FileIO = tempfile.TemporaryFile(prefix="qroar-states-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _no_room(error) from error
        self._like = torch.empty(0, 0)  # dtype and hidden_size, known at the first write
        self._held: list[tuple[int, int, Tensor]] = []

    def __enter__(self) -> HiddenStateFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = []
        self._file.close()

    def write(self, window: int, target: int, hidden: Tensor) -> None:
        """Keep the states (B, t, hidden_size) of windows `window`.. at targets `target`..

        Raises:
            BadOutput: the disk is full.
        """
        self._held += [(window + row, target, states) for row, states in enumerate(hidden)]
        if sum(states.nbytes for _, _, states in self._held) > AT_ONCE.get(hidden.device.type, HELD_BYTES):
            self._spill()

    def read(self, window: int, target: int, shape: tuple[int, int], device: torch.device) -> Tensor:
        """The states (B, t, hidden_size) that were written at this place; shape (B, t)."""
        self._spill()
        out = self._like.new_empty(*shape, self._like.shape[-1])
        for row, states in enumerate(out):
            left = self._at(window + row, target, states)
            while left:
                got = self._file.readinto(left)
                if not got:
                    raise RuntimeError(f"nothing was written at window {window + row}, target {target}")
                left = left[got:]
        return out.to(device, non_blocking=True)

    def _spill(self) -> None:
        for window, target, states in self._held:
            here = states.detach().cpu().contiguous()
            self._like = here.new_empty(0, here.shape[-1])
            left = self._at(window, target, here)
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                raise _no_room(error) from error
        self._held = []

    def _at(self, window: int, target: int, states: Tensor) -> memoryview:
        """Put the file at a place; the bytes of contiguous states (t, hidden_size) that belong there."""
        row = states.shape[-1] * states.element_size()
        self._file.seek((window * self._targets + target) * row)
        return states.view(torch.uint8).numpy().data.cast("B")


def _no_room(error: OSError) -> BadOutput:
    try:
        where = tempfile.gettempdir()
    except OSError:  # none can be written
        where = "TMPDIR"
    why = error.strerror or str(error)
    return BadOutput(
        f"no room for the reference's hidden states ({why})", where=where, do="set TMPDIR to a folder with room"
    )
