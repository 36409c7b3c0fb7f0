"""Documents: texts in memory, and texts too large for that, which stay in their file and are read where needed.

Text files are UTF-8. Line ends of other systems are read as a line feed, and results say so. What holds its texts in
fields (JSON lines, CSV, parquet) is no text itself and is refused; `--dataset` reads one field of it.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field, replace
from pathlib import Path

from qroar_core.errors import BadText
from qroar_core.models.text_tables import SEPARATORS, TABLES, TABS, fields_of_csv, table_in
from qroar_core.specs import Bos

LARGE = 8 * 2**20  # bytes of a file past which only the parts that are needed are read and coded
HEAD = 2**20  # bytes of a large file that are looked at before anything else
BINARY_SHARE = 0.05  # replacement and control characters past which a file is called binary
CONTROL = bytes(c for c in range(32) if c not in b"\n\r\t\f")
ENDS = "line ends other than LF read as LF"


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its name and its text. `bos`: what windows of it start with; `note`: what results say of it."""

    name: str
    text: str
    bos: Bos = "auto"
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class LargeDocument:
    """Bytes `first` .. `last` of a large text file."""

    name: str
    path: Path
    first: int
    last: int
    bos: Bos = "auto"

    def __len__(self) -> int:
        return self.last - self.first

    def read(self, first: int, last: int) -> tuple[str, bool]:
        """The text between two bytes of the file, whole characters only, and whether line ends were changed.

        Raises:
            BadText: the file is gone, not UTF-8 there, or binary there.
        """
        raw = _bytes(self.path, first, last)
        skipped = next((i for i, byte in enumerate(raw[:4]) if byte & 0xC0 != 0x80), 0) if first else 0
        try:
            text = codecs.getincrementaldecoder("utf-8-sig" if not first else "utf-8")().decode(raw[skipped:])
        except UnicodeDecodeError as error:
            raise BadText(
                f"not UTF-8 text at byte {first + skipped + error.start}",
                where=str(self.path),
                do="give a plain text file",
            ) from error
        _refuse_binary(raw, text, self.path)
        return lines_as_lf(text), "\r" in text


AnyDocument = Document | LargeDocument


def open_text(path: Path | str) -> AnyDocument:
    """A text file of the user's; one of more than LARGE bytes stays where it is.

    Raises:
        BadText: missing, empty, binary, or a table of texts.
    """
    path = Path(path)
    head = _bytes(path, 0, HEAD)
    _refuse_table(path, head)
    size = path.stat().st_size
    if size <= LARGE:
        return read_text(path)
    large = LargeDocument(path.name, path, 0, size)
    if not large.read(0, HEAD)[0].strip():
        raise BadText(f"its first {HEAD} bytes are empty", where=str(path), do="give a text with words in it")
    return large


def read_text(path: Path | str) -> Document:
    """A text file, whole.

    Raises:
        BadText: missing, empty, or binary.
    """
    path = Path(path)
    raw = _bytes(path, 0, None)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadText("not UTF-8 text", where=str(path), do="give a plain text file") from error
    _refuse_binary(raw, text, path)
    if not text.strip():
        raise BadText("the text is empty", where=str(path), do="give a text with words in it")
    return Document(path.name, lines_as_lf(text), note=ENDS if "\r" in text else "")


def thirds(document: AnyDocument) -> dict[str, list[AnyDocument]]:
    """A user's single text cut into calibration, development and heldout parts, in reading order.

    Three eighths to diagnose and search on, two eighths for the guard and the decision whether scales are kept, three
    eighths that only evaluation and the tests beside it read.
    """
    n = len(document) if isinstance(document, LargeDocument) else len(document.text)
    cuts = {"calibration": (0, 3 * n // 8), "development": (3 * n // 8, 5 * n // 8), "heldout": (5 * n // 8, n)}
    return {name: [_part(document, a, b)] for name, (a, b) in cuts.items()}


def lines_as_lf(text: str) -> str:
    """`text` with line feeds for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _part(document: AnyDocument, a: int, b: int) -> AnyDocument:
    if isinstance(document, Document):
        return replace(document, name=f"{document.name}[{a}:{b}]", text=document.text[a:b])
    return replace(document, name=f"{document.name}[bytes {a}:{b}]", first=a, last=b)


def _bytes(path: Path, first: int, last: int | None) -> bytes:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe waits for ever, a device may never end
            raise BadText("not a file but a pipe or a device", where=str(path), do="save the text in a file first")
        with path.open("rb") as file:
            file.seek(first)
            return file.read() if last is None else file.read(last - first)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise BadText(f"cannot be read ({reason})", where=str(path), do="check the path") from error


def _refuse_binary(raw: bytes, text: str, path: Path) -> None:
    odd = len(raw) - len(raw.translate(None, CONTROL)) + text.count("\N{REPLACEMENT CHARACTER}")
    if odd > BINARY_SHARE * len(text):
        raise BadText("looks binary", where=str(path), do="give a plain text file")


def _refuse_table(path: Path, head: bytes) -> None:
    """Raises BadText for a file whose texts are fields; names the fields where they are easily known."""
    own, whole = TABLES.get(path.suffix.lower(), ""), len(head) < HEAD
    kind, named = table_in(head, whole=whole)
    if not (kind or own):
        return
    if not kind and (separator := SEPARATORS.get(path.suffix.lower())):
        named = fields_of_csv(head, separator, whole=whole)
    fields = f"; text fields: {', '.join(named)}"[:200] if named else ""
    do = f"name the field that holds the text: --dataset {{}}:{named[0] if named else 'FIELD'}"
    suffix = next((end for end, form in TABLES.items() if form == kind), "")
    if own or not kind:
        do = do.format(path)
    else:  # --dataset goes by the name
        suffix = ".tsv" if kind == TABS else suffix
        do = f"rename it to end in {suffix} and {do.format(path.with_suffix(suffix))}"
    raise BadText(f"{own or kind}, not a text{fields}", where=str(path), do=do)
