"""The losses that formats of the K/V cache are compared by."""

from __future__ import annotations

from typing import Literal

Loss = Literal["nll", "kl", "needles"]
Axis = Literal["bytes", "gb"]  # of a token, or of the whole cache
MAX_LOSS = 0.05  # nats a token, or a share of hidden numbers
LOSSES: dict[Loss, str] = {
    "nll": "loss, nats per token",
    "kl": "KL to the unquantized model, nats per token",
    "needles": "share of hidden numbers not found",
}
UNIT: dict[Loss, str] = {"nll": "nats", "kl": "nats", "needles": "of the numbers"}
