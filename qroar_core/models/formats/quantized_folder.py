"""Folders of safetensors whose linear layers are quantized already: read as a dequantized reference.

The reference is kept in the user's cache under the hash of the weights, as for GGUF files, so that loading,
diagnosis and search see an ordinary checkpoint, with a note that says what it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qroar_core.errors import BadCheckpoint
from qroar_core.models.formats.packed_weights import Packing, packing_of
from qroar_core.progress import OnStep, Step

KEPT = ("*.json", "*.txt", "*.model", "*.jinja")  # tokenizer and generation files that go along
INDEX = "model.safetensors.index.json"


def quantization_of(folder: Path) -> Any:
    """`quantization_config` of a folder's config.json; None where it has none or cannot be read."""
    try:
        raw = json.loads((folder / "config.json").read_text())
        return raw.get("quantization_config") if isinstance(raw, dict) else None
    except (OSError, ValueError):
        return None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that lie in the folder; an index that names others is not believed."""
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not files:
        raise BadCheckpoint("no .safetensors file", where=str(folder), do="fetch the checkpoint again")
    return files


def layers(folder: Path, packing: Packing) -> dict[str, dict[str, Path]]:
    """Stem of every quantized layer -> its parts by suffix -> the file each lies in.

    Raises:
        BadCheckpoint: files that cannot be read, or a layer without its scales.
    """
    where: dict[str, Path] = {}
    for path in weight_files(folder):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                if name in where:
                    raise BadCheckpoint(f"{name} lies in two files", where=str(folder), do="fetch it again")
                where[name] = path
    found = {}
    for name in where:
        stem, suffix = _layer_of(name, packing)
        if suffix == packing.scales:
            names = {p: f"{stem}{packing.joint}{p}" for p in packing.parts}
            parts = {p: where[name] for p, name in names.items() if name in where}
            if packing.codes not in parts:
                raise BadCheckpoint(f"{stem} has scales but no {packing.codes}", where=str(folder), do="fetch it again")
            found[stem] = parts
        elif suffix == packing.codes != "weight" and f"{stem}{packing.joint}{packing.scales}" not in where:
            raise BadCheckpoint(f"{stem} has no {packing.scales}", where=str(folder), do="fetch it again")
    if not found:
        raise BadCheckpoint(f"it holds no {packing.label} layer", where=str(folder), do="fetch it again")
    return found


def _layer_of(name: str, packing: Packing) -> tuple[str, str]:
    """(stem, suffix) of a tensor's name; a suffix of two words, `weight.absmax`, is one of the format's."""
    if name.endswith(f"{packing.joint}{packing.scales}"):
        return name.removesuffix(f"{packing.joint}{packing.scales}"), packing.scales
    stem, _, suffix = name.rpartition(packing.joint)
    return stem, suffix


class _opened:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file: Any = safe_open(self.path, "pt")
            return self.file.__enter__()
        except (SafetensorError, OSError) as error:
            raise BadCheckpoint(
                f"cannot be read ({' '.join(str(error).split())[:120]})", where=str(self.path), do="fetch it again"
            ) from error

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)


def tensor(path: Path, name: str) -> Tensor:
    """One tensor of a file."""
    with _opened(path) as file:
        return file.get_tensor(name)


def dequantized(folder: Path, packing: Packing, stem: str, parts: dict[str, Path]) -> Tensor:
    """A layer's weight as the model holds it, float32 unless bfloat16 holds it exactly.

    Raises:
        BadCheckpoint: parts whose shapes or types do not belong together.
    """
    try:
        found = {suffix: tensor(path, f"{stem}{packing.joint}{suffix}") for suffix, path in parts.items()}
        return packing.dequantize(found)
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        message = " ".join(str(error).split())[:120]
        raise BadCheckpoint(f"{stem} is no {packing.label} layer ({message})", where=str(folder)) from error


def converted(folder: Path, on_step: OnStep) -> tuple[Path, str]:
    """The dequantized folder, made on first use, and what the weights were.

    Raises:
        UnsupportedModel: a format not known here.
        BadCheckpoint: files that cannot be read or contradict the config.
    """
    from qroar_core.models.families import family_of
    from qroar_core.models.sources import cache_dir

    packing = packing_of(quantization_of(folder), str(folder))
    names = json.loads((folder / "config.json").read_text()).get("architectures")
    if names is not None and not isinstance(names, list):
        raise BadCheckpoint("architectures in config.json is no list", where=str(folder), do="fetch it again")
    family_of(names, folder.name)
    target = cache_dir() / "converted" / _digest(folder)
    if not any(target.glob("*.safetensors")):
        on_step(Step("load", 0, 4, f"dequantize {folder.name} (once)"))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
        try:
            _convert(folder, packing, scratch)
            os.replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target, packing.label


def _digest(folder: Path) -> str:
    from qroar_core.models.formats.digest import sha256

    names = [folder / "config.json", *weight_files(folder)]
    return hashlib.sha256("".join(f"{path.name}{sha256(path)}" for path in names).encode()).hexdigest()[:16]


def _convert(folder: Path, packing: Packing, scratch: Path) -> None:
    found = layers(folder, packing)
    inside = {f"{stem}{packing.joint}{suffix}" for stem, parts in found.items() for suffix in parts}
    for number, path in enumerate(weight_files(folder)):
        plain = dict(_plain(path, inside))
        for stem, parts in found.items():
            if parts[packing.codes] == path:
                plain[f"{stem}{packing.weight}"] = dequantized(folder, packing, stem, parts).contiguous()
        if plain:
            save_file(plain, scratch / f"weights-{number:05d}.safetensors", metadata={"format": "pt"})
    _write_index(scratch)
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    for pattern in KEPT:
        for path in folder.glob(pattern):
            if path.name not in ("config.json", INDEX):
                shutil.copyfile(path, scratch / path.name)
    (scratch / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=1))


def _plain(path: Path, inside: set[str]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a file that belong to no quantized layer."""
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            if name not in inside:
                yield name, file.get_tensor(name)


def _write_index(scratch: Path) -> None:
    places: dict[str, str] = {}
    for path in sorted(scratch.glob("*.safetensors")):
        with _opened(path) as file:
            places |= dict.fromkeys(file.keys(), path.name)
    (scratch / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
