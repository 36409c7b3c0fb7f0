"""The tokenizer of an export against the source's: its files byte for byte, and the tokens it gives.

Logits on given token ids say nothing of the tokenizer, so it is asked for itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from qroar_core.errors import QRoarError
from qroar_core.exporters.older_readers import with_older_class
from qroar_core.models.checkpoint_files import table_in
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.read_tokenizer import write_tokenizer
from qroar_core.models.text import COLLECTIONS, split
from qroar_core.models.token_ids import put_around, token_ids
from qroar_core.models.tokenizer import CONFIG, LAW, read_tokenizer, tokenizer_files

CHARACTERS = 20_000  # read of each embedded collection
ODD = (  # what tokenizers cut differently: digits, capitals, contractions, marks, runs of white space, scripts
    "I'M 12 at 3.14159, it's '90s: x+=1;\n\n\tdef f(a_b):  return  [0x1F]\r\n"
    "École, ÀÉÎ 中文字符，かな カナ 한국어 हिन्दी عربى 👩‍👧 e\u0301 \u00a0 ½² ...   \n \n"
)

Answer = tuple[str, str, bool | None]  # question, answer, passed


def files(source: Path | None, folder: Path) -> Answer:
    """Every tokenizer file of the source's folder, and no other, lies in `folder`."""
    question = "tokenizer files against the source's"
    wanted = [] if source is None else tokenizer_files(source)
    if source is None or not any(path.name == LAW for path in wanted):
        return question, f"not compared: the source has no {LAW}", None
    names = {path.relative_to(source).as_posix() for path in wanted}
    names |= {path.relative_to(folder).as_posix() for path in tokenizer_files(folder)}
    other = [name for name in sorted(names) if _bytes(source / name) != _bytes(folder / name)]
    renamed = [name for name in other if name == CONFIG and _is_renamed(source / name, folder / name)]
    other = [name for name in other if name not in renamed]
    answer = f"{len(names) - len(renamed)} byte for byte" + "".join(f", {name} under older names" for name in renamed)
    return question, f"{', '.join(other)} differ" if other else answer, not other


def _is_renamed(source: Path, copy: Path) -> bool:
    """Whether a tokenizer_config.json is the source's under the names that transformers 4 knows."""
    return copy.is_file() and source.is_file() and table_in(copy) == with_older_class(table_in(source))


def keys(source: Path, copy: Path) -> Answer:
    """Every tokenizer key of two GGUF files."""
    old, new = (
        {e.key: e.raw for e in read_header(path).entries.values() if e.key.startswith("tokenizer.")}
        for path in (source, copy)
    )
    other = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    question = "tokenizer keys against the source's"
    return question, f"{', '.join(other)} differ" if other else f"{len(old)} byte for byte", not other


def tokens(source: Any, other: Any) -> Answer:
    """The same tokens from two tokenizers, on the three embedded collections and an odd text."""
    question = "tokens of the embedded texts against the source's"
    texts = {name: split("heldout", name)[0].text[:CHARACTERS] for name in COLLECTIONS} | {"odd characters": ODD}
    count = 0
    for name, text in texts.items():
        try:
            wanted, found = token_ids(source, text, where=name), token_ids(other, text, where=name)
        except QRoarError as error:
            return question, f"not compared: {error}"[:160], None
        if wanted != found:
            at = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), len(wanted))
            return question, f"{name}: they part at token {at}", False
        count += len(wanted)
    around, others = (put_around(tokenizer.backend_tokenizer) for tokenizer in (source, other))
    return question, f"{count} the same, {around[0]} before a text and {around[1]} behind it", around == others


def of_gguf(path: Path) -> Any:
    """The tokenizer that a GGUF file holds."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(read_header(path), Path(folder), path.name)
        return read_tokenizer(Path(folder), path.name)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
