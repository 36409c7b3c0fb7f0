"""The table of docs/families.md is what the command prints."""

from itertools import takewhile
from pathlib import Path

import pytest

from benchmarks import families
from qroar_core.models.families import FAMILIES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "families.md").read_text()


def table(text):
    """The lines of the table of families, its head left out, and the sentence below that counts them."""
    _, _, *lines = text[text.index("| family | pairing |") :].splitlines()
    rows = list(takewhile(lambda line: line.startswith("|"), lines))
    return rows, [line for line in lines if line.endswith("families pass.")]


def test_every_family_stands_in_the_document_as_it_is():
    """Without the checks, which take a minute."""
    rows = [f"| {' | '.join(families.described(families.small(family)))} |" for family in FAMILIES]
    assert len(rows) > 30
    assert [line.rpartition(" | ")[0] + " |" for line in table(DOCUMENT)[0]] == rows


@pytest.mark.slow
def test_the_document_repeats_what_the_command_prints(capsys):
    families.main()
    rows, passed = table(capsys.readouterr().out)
    assert len(rows) == len(FAMILIES)
    assert table(DOCUMENT) == (rows, passed)
