"""What the retrieval tasks say: preface, needle, question and the answer's beginning.

The answer is always a five-digit number behind the same words in the needle and at the prompt's end, so that its
tokens are the same in both places and a base model can be asked as well as a chat model.
Source: passkey, Landmark Attention, arXiv 2305.16300, section 4.2; needles by key and the answer's beginning,
RULER, arXiv 2404.06654, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from qroar_core.specs import RetrievalTask

SMALLEST, LARGEST = 10_000, 99_999  # the numbers hidden
KEYS = (
    *("river", "bridge", "harbor", "forest", "mountain", "garden", "market", "tower"),
    *("castle", "valley", "desert", "ocean", "window", "candle", "mirror", "hammer"),
    *("piano", "violin", "rabbit", "falcon", "tiger", "dolphin", "camel", "spider"),
    *("apple", "lemon", "carrot", "butter", "coffee", "sugar", "silver", "copper"),
)


@dataclass(frozen=True, slots=True)
class Wording:
    """One task's sentences; `{key}` stands for a needle's name."""

    preface: str
    needle: str  # up to the number
    after: str  # what ends the needle's sentence
    question: str
    lead: str  # the answer's beginning, up to the number


WORDINGS: dict[RetrievalTask, Wording] = {
    "passkey": Wording(
        "A pass key is hidden in the following text. Find it and remember it. I will ask you for it afterwards.",
        "The pass key is",
        ". Remember it.",
        "What is the pass key in the text above?",
        "The pass key is",
    ),
    "needles": Wording(
        "Several numbers are hidden in the following text, each with a name. Find them and remember them. "
        "I will ask you for one of them afterwards.",
        "The number of the {key} is",
        ".",
        "What is the number of the {key} in the text above?",
        "The number of the {key} is",
    ),
}
