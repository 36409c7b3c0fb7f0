"""Errors a person can act on: each says what, where and what to do, in one line.

Everything the core raises on purpose descends from `QRoarError`; the command line prints it as one
line and exits 2, the dashboard shows it in a box. Anything else is an internal error (exit 1).
"""


class QRoarError(Exception):
    """What went wrong, where, and what to do about it; `str()` is one line.

    Args:
        what: went wrong.
        where: the option, file or field it is about; empty where `what` says it.
        do: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        head = f"{where}: {what}" if where else what
        super().__init__(" ".join(f"{head}; {do}".split()) if do else " ".join(head.split()))


class BadSpec(QRoarError, ValueError):
    """An option or setting outside what the software can compute."""


class BadText(QRoarError):
    """A text that is empty, binary, or too short for the windows asked of it."""


class BadCheckpoint(QRoarError):
    """A checkpoint that is missing, corrupt, of a refused format, or holds NaN."""


class UnsupportedModel(QRoarError):
    """A model whose attention layout is unknown or has no RoPE: refused, never guessed."""


class BadScales(QRoarError):
    """A scales file of another model, version or layout."""


class BadOutput(QRoarError):
    """An output path that exists, is full, or cannot be written."""


class OutOfMemory(QRoarError):
    """The asked length does not fit; `do` names the length that does."""


class NonFinite(QRoarError):
    """Logits, activations, weights or frequencies that left the number format: NaN or infinity."""


class Cancelled(QRoarError):
    """The user asked to stop; nothing half-written is left behind.

    `partial` is what a stage had found by then and is worth keeping: the search puts its best scales there.
    """

    def __init__(self, where: str = "", partial: object = None) -> None:
        self.partial = partial
        super().__init__("cancelled", where=where)
