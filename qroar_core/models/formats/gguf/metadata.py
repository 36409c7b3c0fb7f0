"""The keys of one GGUF model, each asked for by name: what nobody asked for is refused in the end.

A key under the architecture's own prefix may change what is computed. So reading is also understanding: `refuse_unread`
names the first key that neither the architecture's description nor the list of harmless ones knows.
Source: ggml-org/llama.cpp src/llama-model.cpp (load_hparams): what a key means, and its constant where it is absent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.formats.gguf.header_entries import Header

HARMLESS = {  # keys that change no number of next-token prediction, and why
    "vocab_size": "the rows of token_embd say it",
    "pooling_type": "how the embedding of a whole text is pooled",
    "tensor_data_layout": "the name of the row order that this architecture always has",
}
NEUTRAL = {  # values by which a key says that there is no such thing; llama.cpp writes them in some files
    "attention.sliding_window": 0,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "expert_count": 0,
    "expert_used_count": 0,
    "expert_shared_count": 0,
    "nextn_predict_layers": 0,
}
LARGEST_REAL = float(np.finfo(np.float32).max)
LARGEST = 1 << 31  # of any size
REQUIRED: Any = object()  # no constant stands in for the key


class Metadata:
    """Typed reading of `{architecture}.KEY`.

    Raises in every method: BadCheckpoint where a key is missing or holds a value of the wrong kind.
    """

    def __init__(self, header: Header, architecture: str, where: str) -> None:
        self.header, self.architecture, self.where = header, architecture, where
        self._asked: set[str] = set()

    def full(self, key: str) -> str:
        """The key as the file spells it."""
        return f"{self.architecture}.{key}"

    def has(self, key: str) -> bool:
        """Whether the file has the key."""
        return self.full(key) in self.header.entries

    def _value(self, key: str, default: Any) -> Any:
        self._asked.add(self.full(key))
        if self.has(key):
            return self.header.get(self.full(key))
        if default is REQUIRED:
            raise BadCheckpoint(f"key {self.full(key)} is missing", where=self.where, do="fetch the file again")
        return default

    def wrong(self, key: str, value: Any) -> BadCheckpoint:
        """What is raised for a value of the wrong kind."""
        said = repr(value) if isinstance(value, str) else str(value)
        return BadCheckpoint(f"{self.full(key)} is {said[:60]}", where=self.where, do="fetch the file again")

    def size(self, key: str, default: Any = REQUIRED, least: int = 1) -> int:
        """A whole number; a list of equal ones, one a layer, counts as that number."""
        value = self._value(key, default)
        if isinstance(value, list) and value and all(x == value[0] for x in value):
            value = value[0]
        if type(value) is not int or not least <= value < LARGEST:
            raise self.wrong(key, value)
        return value

    def sizes(self, key: str, count: int) -> list[int]:
        """One whole number a layer, zeros allowed."""
        value = self._value(key, REQUIRED)
        whole = value if isinstance(value, list) else [value] * count
        if len(whole) != count or not all(type(x) is int and 0 <= x < LARGEST for x in whole):
            raise self.wrong(key, value)
        return whole

    def real(self, key: str, default: Any = REQUIRED, least: float = 0.0) -> float:
        """A finite number, as the shortest decimal that is the stored float32."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LARGEST_REAL:
            raise self.wrong(key, value)
        return float(str(np.float32(value)))

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        """True or false."""
        value = self._value(key, default)
        if type(value) is not bool:
            raise self.wrong(key, value)
        return value

    def word(self, key: str, default: Any = REQUIRED) -> str:
        """A text."""
        value = self._value(key, default)
        if type(value) is not str:
            raise self.wrong(key, value)
        return value

    def only(self, key: str, allowed: Any, why: str = "") -> None:
        """The key is absent or says `allowed`.

        Raises:
            UnsupportedModel: it says something else.
        """
        value = self._value(key, allowed)
        if isinstance(value, list) and value and all(x == value[0] for x in value):
            value = value[0]
        if value != allowed:
            raise UnsupportedModel(
                f"{self.full(key)} is {str(value)[:40]}, only {allowed} is known here" + (f" ({why})" if why else ""),
                where=self.where,
                do="give the Hugging Face checkpoint of this model",
            )

    def refuse_unread(self) -> None:
        """Raises UnsupportedModel for the first key of the architecture that nothing here understands."""
        known = self._asked | {self.full(key) for key in HARMLESS}
        known |= {self.full(key) for key, off in NEUTRAL.items() if self.header.get(self.full(key)) == off}
        for key in sorted(self.header.entries):
            if key.startswith(f"{self.architecture}.") and key not in known:
                raise UnsupportedModel(
                    f"key {key[:100]} is not understood for this architecture",
                    where=self.where,
                    do="give the Hugging Face checkpoint of this model",
                )

    def special_ids(self, rows: int) -> dict[str, int | None]:
        """bos, eos and padding ids that the embedding has a row for, as a config names them."""
        found: dict[str, int | None] = {}
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
            value = self.header.get(f"tokenizer.ggml.{key}_token_id")
            found[f"{name}_token_id"] = value if type(value) is int and 0 <= value < rows else None
        return found
