"""Which number format a checkpoint is stored in, and which one an export of it is written in.

On a CPU everything is loaded as float32. Numbers that came from bfloat16 go back to it without loss, so an export
keeps the format that the checkpoint's files hold unless another one was asked for, and says what it writes.
"""

from __future__ import annotations

import torch

from qroar_core.models.formats.quantized_folder import SAFETENSORS_DTYPES, SAFETENSORS_FLOATS
from qroar_core.models.loaded import LoadedModel

DTYPES = {  # number formats by the name that a command line and config.json give them
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def own_dtype(loaded: LoadedModel) -> torch.dtype | None:
    """The format that holds every number of the checkpoint's files; None where they hold codes, or there are none.

    What config.json says is the format to compute in. It adds no digits to the files, and may say another.
    """
    stored = _stored(loaded)
    return _holding(stored) if stored else None


def kept_dtype(loaded: LoadedModel) -> torch.dtype | None:
    """The format that an export keeps: the files' own, as `own_dtype`.

    Float16 files whose config.json says a wider format are written in that one: float16 ends at 65504 and loses digits
    below 6e-5, which a scaled weight may reach. Bfloat16 has the range of float32.
    """
    own, named = own_dtype(loaded), config_dtype(loaded)
    return named if own == torch.float16 and named in (torch.float32, torch.float64) else own


def own_words(loaded: LoadedModel) -> str:
    """`bfloat16`, or `bfloat16; its config.json says float32`: what the files hold; "" where `own_dtype` is None."""
    stored, named = _stored(loaded), config_dtype(loaded)
    if not stored:
        return ""
    held = " and ".join(sorted(map(word, stored)))
    return held if named in (None, *stored) else f"{held}; its config.json says {word(named)}"


def config_dtype(loaded: LoadedModel) -> torch.dtype | None:
    """The format that config.json says; None where it says none."""
    config = loaded.config or {}
    named = config.get("dtype") or config.get("torch_dtype")
    return DTYPES.get(named) if isinstance(named, str) else None


def written_dtype(loaded: LoadedModel, asked: torch.dtype | None = None) -> tuple[torch.dtype, str]:
    """The format an export is written in, and a phrase that says why.

    Args:
        asked: the format a person asked to load and write in; None where nobody did.
    """
    own, mine, held = kept_dtype(loaded), loaded.dtype, own_words(loaded)
    if asked is not None:
        return asked, f"{word(asked)}, as asked" + ("" if held in ("", word(asked)) else f"; the checkpoint has {held}")
    if own is None:
        return mine, f"{word(mine)}, as loaded: the checkpoint holds no plain numbers of its own"
    if _holding({own, mine}) != mine:
        return mine, f"{word(mine)}, as loaded; the checkpoint has {held}"
    if own != own_dtype(loaded):
        return own, f"{word(own)}, as its config.json says; the checkpoint's files have {word(own_dtype(loaded))}"
    if len(_stored(loaded)) > 1:
        return own, f"{word(own)}, which holds all that the checkpoint has: {held}"
    return own, held.replace(word(own), f"{word(own)}, as the checkpoint has them", 1)


def noted_dtype(phrase: str) -> tuple[torch.dtype | None, bool]:
    """What a phrase of `written_dtype` is about, and whether somebody asked for it; None of a phrase that is none."""
    return DTYPES.get(phrase.split(",")[0]), ", as asked" in phrase


def announced_dtype(loaded: LoadedModel, written: torch.dtype, asked: torch.dtype | None) -> torch.dtype:
    """What an export's config.json says: as its source's does where the weights are written as the source's files.

    Readers compute in it: they are to treat the export as they treat its source.
    """
    kept = asked is None and written == kept_dtype(loaded)
    return (config_dtype(loaded) if kept else None) or written


def word(dtype: torch.dtype | None) -> str:
    """`bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _stored(loaded: LoadedModel) -> set[torch.dtype]:
    """The float formats of the checkpoint's files; none where they hold codes."""
    if (loaded.config or {}).get("quantization_config"):
        return set()
    return {SAFETENSORS_DTYPES[name] for name in loaded.stored.intersection(SAFETENSORS_FLOATS)}


def _holding(kinds: set[torch.dtype]) -> torch.dtype:
    """The narrowest format that holds every number of these."""
    widest, *others = kinds
    for other in others:
        widest = torch.promote_types(widest, other)  # of float16 and bfloat16: float32
    return widest
