"""A written GGUF against the source model: its numbers, its interpolation, and what llama.cpp computes of it.

A file of quantized weights is another model than its source, so llama.cpp is held against the file's own weights,
dequantized; that these are the source's, rounded, is asked apart. A file of 16 bits is held against the source itself.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from qroar_core.errors import QRoarError
from qroar_core.exporters import gguf_write, verify_tokenizer
from qroar_core.exporters.check import Check
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.forward_pass import SCORED, scored
from qroar_core.exporters.gguf_codes import farthest
from qroar_core.exporters.verify_rope import interpolation
from qroar_core.models import load
from qroar_core.models.llama_cpp import LlamaCpp, available
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import Condition
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

UNBLOCKED_FORMATS = ("gguf-bf16", "gguf-f16")  # no block of weights shares a step there


def checks(
    source: LoadedModel, rope: RopeSpec, scales: Scales | None, path: Path, format: str, factor: float, ids: Tensor
) -> list[Check]:
    """Questions about the file at `path`.

    Args:
        factor: what q and k were multiplied by beside the scales (exporters.written_rope.WrittenRope).
        ids: int64 (1, tokens), whose last SCORED are scored.
    """
    tokens = verify_tokenizer.tokens(source.tokenizer, verify_tokenizer.of_gguf(path))
    far, where = farthest(path, gguf_write.wanted(source, rope, scales))
    said = f"at most {far:.3f} of what rounding explains" + (f", in {where}" if far > 1 else "")
    codes = Check("weights against the source's", said if far < float("inf") else where, far <= 1)
    try:
        again = load.run(str(path), device="cpu", dtype="float32")
    except QRoarError as error:
        _, wanted = scored(source, Condition(rope, scales=scales), ids)
        unread = Check("the file is read again", str(error)[:160], False)
        return [Check(*tokens), codes, unread, _in_llama_cpp(path, format, ids, wanted)]
    if format in UNBLOCKED_FORMATS:
        _, wanted = scored(source, Condition(rope, scales=scales), ids)
    else:
        _, wanted = scored(again, Condition(RopeSpec()), ids)
    return [Check(*tokens), codes, interpolation(source, rope, again, factor), _in_llama_cpp(path, format, ids, wanted)]


def _in_llama_cpp(path: Path, format: str, ids: Tensor, wanted: Tensor) -> Check:
    question = "log-probabilities in llama.cpp"
    if not available():
        return Check(question, "not compared: pip install xllamacpp", None)
    found = LlamaCpp(path, ids.shape[1] + 8).log_probabilities(ids[0].tolist(), ids.shape[1] - SCORED)
    apart = (torch.tensor(found).double() + wanted[0].double()).abs()
    bad = int((~apart.isfinite()).sum())
    if bad:
        others = " or ".join(name for name in UNBLOCKED_FORMATS if name != format)
        do = f"export it in another format: --format {others}"  # the same export again would give the same
        return Check(question, f"llama.cpp gives no finite number for {bad} of {SCORED} tokens", False, do)
    answer = f"mean |d ln p| {float(apart.mean()):.4f}, largest {float(apart.max()):.4f} nats over {SCORED} tokens"
    return Check(question, answer, bool(apart.mean() <= FORMATS[format].llama_cpp_bound))
