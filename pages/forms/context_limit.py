"""How long a context may be here, and what ends it: the free memory, or the documents of the text."""

from __future__ import annotations

from dataclasses import dataclass

from pages.views.labels import size_words
from qroar_core.errors import BadText
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import length_that_fits
from qroar_core.models.text import SPLITS, longest_in_all, split
from qroar_core.specs import Bos
from qroar_core.specs.labels import capital


@dataclass(frozen=True, slots=True)
class Room:
    """Tokens that the free memory holds a K/V cache for, and of the longest document of every split; None: unknown."""

    memory: int
    text: int | None

    @property
    def tokens(self) -> int:
        """The longest context."""
        return self.memory if self.text is None else min(self.memory, self.text)

    @property
    def words(self) -> str:
        """Both numbers, the one that ends it first."""
        cache = f"the free memory holds a K/V cache for {size_words(self.memory)} tokens"
        if self.text is None:
            return capital(cache)
        if self.text < self.memory:
            return f"The text sets the limit: its longest document has {self.text:,} tokens, while {cache}"
        return f"The memory sets the limit: {cache}, while the longest document of the text has {self.text:,}"


def room(loaded: LoadedModel, text: str, bos: Bos) -> Room:
    """What a context of this model can have with this text; a text that is no embedded collection is not known here."""
    try:
        found = longest_in_all(loaded.tokenizer, [split(name, text, bos) for name in SPLITS])
    except BadText:
        return Room(length_that_fits(loaded), None)
    return Room(length_that_fits(loaded), found)
