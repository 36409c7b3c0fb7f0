"""Which GGUF architectures are read, and which take scales in place: a file of every kind of the zoo is tried."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qroar_core.errors import QRoarError
from qroar_core.models.formats.gguf.architectures import ARCHITECTURES
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.formats.gguf.model import hugging_face_names, understood
from qroar_core.models.formats.gguf.opened import open_gguf


def loads(path: Path) -> str:
    """ "yes", or the reason of the refusal."""
    try:
        return "yes" if open_gguf(path).tensors else "no tensors"
    except QRoarError as error:
        return f"no: {error.what}"


def in_place(path: Path) -> str:
    """ "yes", or the reason why scales cannot be put into this file's own blocks."""
    header = read_header(path)
    architecture = ARCHITECTURES[str(header.get("general.architecture"))]
    try:
        hugging_face_names(understood(path, header))
        return "yes"
    except QRoarError as error:
        return f"no: {architecture.no_scales or error.what}"


def main() -> None:
    """Print one row a kind."""
    from tests.models.gguf_zoo import KINDS, write

    print("| general.architecture | written from | loads | scales in place |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        for name, kind in KINDS.items():
            path.unlink(missing_ok=True)
            write(name, path)
            variant = name.partition(", ")[2]
            written = f"{kind.stem}ForCausalLM" + (f", {variant}" if variant else "")
            print(f"| {kind.architecture} | {written} | {loads(path)} | {in_place(path)} |", flush=True)


if __name__ == "__main__":
    main()
