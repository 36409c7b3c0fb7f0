"""Numbers and the word for what they count."""

import re
from pathlib import Path

import pytest

from qroar_core.number_of import number_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (number_of(1, "window"), "1 window"),
        (number_of(0, "window"), "0 windows"),
        (number_of(2048, "token"), "2,048 tokens"),
        (number_of(1, "pass", "passes"), "1 pass"),
        (number_of(3, "pass", "passes"), "3 passes"),
    ],
)
def test_one_is_singular(said, words):
    assert said == words


def test_no_file_makes_a_plural_of_its_own():
    """`{"s" * (n != 1)}` behind a word: there is a function for it."""
    own = re.compile(r"""(['"])s\1 (\* \(|if )""")
    # an s of a verb, one word before a list, and what results keep and other files read again, without commas
    verbs = ("interpolations.py", "tables_of_model.py", "text.py")
    files = [path for folder in ("qroar_core", "pages") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in files if own.search(path.read_text(encoding="utf-8"))]
    assert sorted({*found} - {*verbs}) == []
