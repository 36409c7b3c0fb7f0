"""GGUF files: dequantized once by transformers, kept as a safetensors folder in the user's cache.

transformers undoes llama.cpp's row permutation of W_Q and W_K while it reads, so the folder has the
usual half pairing. The conversion is cached under the file's hash because it takes half a minute.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.models.quiet import quiet_transformers
from qroar_core.progress import OnStep, Step, patiently

ARCHITECTURES = ("llama", "mistral", "qwen2")  # general.architecture of the supported families


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> tuple[str, str]:
    """(general.architecture, most common quantized tensor type) of a GGUF file.

    Raises:
        BadCheckpoint: not a readable GGUF file.
        UnsupportedModel: it scales its own RoPE, which transformers' reader drops without a word.
    """
    from collections import Counter

    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        field = reader.get_field("general.architecture")
        kinds = Counter(t.tensor_type.name for t in reader.tensors)
        if field is None or not kinds:
            raise ValueError("no architecture or no tensors")
        scaling = reader.get_field(f"{field.contents()}.rope.scaling.type")
        scaled = scaling is not None and scaling.contents() != "none"
        if scaled or any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors):
            raise UnsupportedModel(
                "it carries its own RoPE scaling, which cannot be read from a GGUF yet",
                where=str(path),
                do="give the Hugging Face checkpoint of this model",
            )
        quantized = Counter({kind: n for kind, n in kinds.items() if kind not in ("F32", "F16", "BF16")}) or kinds
        return str(field.contents()), quantized.most_common(1)[0][0]
    except (ValueError, OSError, IndexError, KeyError, AssertionError) as error:
        message = (str(error).splitlines() or ["unreadable"])[0][:120]
        raise BadCheckpoint(f"not a readable GGUF file ({message})", where=str(path), do="fetch it again") from error


def converted(path: Path, on_step: OnStep) -> tuple[Path, str]:
    """The safetensors folder of a GGUF file, made on first use, and the file's quantization type."""
    from qroar_core.models.sources import cache_dir

    architecture, kind = describe(path)
    if architecture not in ARCHITECTURES:
        raise UnsupportedModel(
            f"GGUF architecture {architecture} is not known",
            where=str(path),
            do=f"known are {', '.join(ARCHITECTURES)}",
        )
    folder = cache_dir() / "converted" / sha256(path)[:16]
    if not any(folder.glob("*.safetensors")):  # large models are sharded
        patiently(lambda: _convert(path, folder), on_step, Step("load", 0, 4, f"convert {path.name} (once)"))
    return folder, kind


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, **_unread(path)
            )
        for owner in (model, model.config):  # transformers' mark of a quantized model: it refuses to save with it
            for mark in ("hf_quantizer", "quantization_config", "quantization_method", "is_quantized"):
                if hasattr(owner, mark):
                    try:
                        delattr(owner, mark)
                    except AttributeError:
                        pass
        with quiet_transformers():
            model.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(scratch)
        try:
            os.replace(scratch, folder)
        except OSError:  # a cancelled load that went on got there first
            if not any(folder.glob("*.safetensors")):
                raise
    except Exception as error:  # the readers under transformers raise anything, tokenizers a bare Exception
        message = " ".join(str(error).split())[:120] or "unreadable"
        raise BadCheckpoint(f"GGUF cannot be converted ({message})", where=str(path)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unread(path: Path) -> dict[str, bool]:
    """Config options that follow from the tensors and that transformers' reader does not see.

    A GGUF of the Llama family has no key for attention biases: without this they would be dropped without a word.
    """
    from qroar_core.models.formats.gguf_header import read_header

    header = read_header(path)
    biased = any(".attn_" in name and name.endswith(".bias") for name in header.tensors)
    return {"attention_bias": True} if biased and header.get("general.architecture") == "llama" else {}
