"""Whether a file holds its texts in fields (JSON lines, a JSON array, CSV, parquet), whatever it is called.

Prose, verse, code and tables that are drawn in a text are none of these: a file counts as a table where all of what was
read of it is one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

TABLES = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "parquet",
}
TABS = "CSV with tabs"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
FIELDS, ROWS = 2, 20  # of a table that is not called one, at least
NAME = re.compile(r"[^\W\d][\w .()/-]{0,39}")  # of a column
NAME_OF_TWO = re.compile(r"[^\W\d][\w.-]{0,39}")  # no space: "Love is,death is" begins a verse
BEHIND = 0.1  # of the rows of two columns, at most: a space behind the separator, as prose has it
SPACED = 0.5  # of the rows of two columns, at least: spaces inside the longer column, so that it holds texts


def table_in(head: bytes, *, whole: bool) -> tuple[str, list[str]]:
    """Which table of texts a file begins as, and its text fields; "" for none.

    Args:
        head: the file's first bytes. whole: there are no more.
    """
    if head[:4] == b"PAR1":
        return "parquet", []
    text = head.decode("utf-8-sig", errors="ignore")
    start = text.lstrip()
    try:
        row = json.loads(start.split("\n", 1)[0]) if start.startswith("{") else None
    except (ValueError, RecursionError):
        row = None
    if isinstance(row, dict):
        return "JSON lines", _worded(row)
    if (row := _first_of_array(start, whole=whole)) is not None:
        return "JSON", _worded(row)
    for kind, separator in ((TABS, "\t"), ("CSV", ",")):
        rows = _rows(text, separator, whole=whole)
        if rows:
            return kind, _text_fields(rows)
    return "", []


def fields_of_csv(head: bytes, separator: str, *, whole: bool) -> list[str]:
    """The text fields of what is called CSV, however few its rows; none where its first line names no columns."""
    rows = _parsed(head.decode("utf-8-sig", errors="ignore"), separator, whole=whole)
    if len(rows) < 2 or not _are_names(rows[0]):
        return []
    return _text_fields([row for row in rows if len(row) == len(rows[0])])


def _first_of_array(text: str, *, whole: bool) -> dict[str, Any] | None:
    """The first object of a JSON array of objects; None where the text is no such array to its end, or to its cut."""
    if not re.match(r"\[\s*\{", text):
        return None
    if whole:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return found[0] if all(isinstance(entry, dict) for entry in found) else None
    try:
        first, end = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):  # one object longer than what was read, or none
        return None
    return first if re.match(r"\s*(,\s*(\{|$)|$)", text[end:]) else None


def _rows(text: str, separator: str, *, whole: bool) -> list[list[str]]:
    """The rows of separated values, a line of names first; [] for prose.

    Prose has no ROWS lines in a row that all hold equally many separators below a line of short names without a number
    among them, nor a space before one: prose has it behind its commas. One separator a line is little: there, names
    have no space, few values begin with one, and one column reads as texts.
    """
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    if separator not in first or not any(map(_are_names, _parsed(first, separator, whole=True))):
        return []
    rows = _parsed(text, separator, whole=whole)
    names, values = rows[0] if len(rows) > ROWS else [], rows[1:]
    if not _are_names(names) or any(len(row) != len(names) for row in values):
        return []
    if names[0] == "" and len({row[0] for row in values}) < len(values):  # the row's own number or name
        return []
    return rows if len(names) > FIELDS or (names and _two_columns(names, values)) else []


def _two_columns(names: list[str], values: list[list[str]]) -> bool:
    """Are rows with one separator each a table?"""
    behind = sum(second[:1].isspace() for _, second in values)
    longer = max(([row[at] for row in values] for at in (0, 1)), key=lambda column: sum(map(len, column)))
    spaced = sum(" " in value.strip() for value in longer)
    fine = all(name == "" or NAME_OF_TWO.fullmatch(name) for name in names)
    return fine and behind <= BEHIND * len(values) and spaced >= SPACED * len(values)


def _are_names(row: list[str]) -> bool:
    """Does this row name columns? The first may have none: there pandas writes the number of a row."""
    named = row[1:] if len(row) > 1 and row[0] == "" else row
    return bool(named) and len(set(row)) == len(row) and all(NAME.fullmatch(name) for name in named)


def _parsed(text: str, separator: str, *, whole: bool) -> list[list[str]]:
    """Every row that is not empty; [] where the text cannot be read so."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv.Error:
        return []
    return rows if whole else rows[:-1]  # the last is cut off somewhere


def _text_fields(rows: list[list[str]]) -> list[str]:
    """Names of the columns that hold words, the longest texts first."""
    columns = {name: values for name, *values in zip(*rows, strict=True) if name}
    worded = {n: sum(map(len, v)) for n, v in columns.items() if any(c.isalpha() for c in "".join(v))}
    return sorted(worded, key=lambda name: -worded[name])


def _worded(row: dict[str, Any]) -> list[str]:
    return [str(name) for name, value in row.items() if isinstance(value, str)]
