"""How texts are read, as words of a setting."""

from __future__ import annotations

from typing import Literal

Bos = Literal["auto", "on", "off"]  # does a window start with BOS? auto: where the tokenizer puts it before a text
