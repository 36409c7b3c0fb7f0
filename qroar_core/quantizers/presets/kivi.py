"""KIVI at 2 bits.

K after RoPE, transposed, min..max over 32 tokens of a channel, quantized 128 tokens at a time; V over 32 channels of a
token, the newest 128 tokens in full precision.
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

_KIVI_K = QuantizerSpec(2, scale="channel", levels="affine", group_size=32, scale_dtype="input", residual=128)
_KIVI_V = QuantizerSpec(2, scale="block", levels="affine", group_size=32, scale_dtype="input", residual=128)

RUNTIME = Runtime(
    50,
    {
        "kivi2": KVPreset(
            _KIVI_K,
            _KIVI_V,
            "jy-yuan/KIVI models/llama_kivi.py, quant/new_pack.py; arXiv 2402.02750 (G 32, R 128)",
            "A prompt is read in full precision and rounded behind its last query; here as if its tokens came one at a "
            "time. KIVI keeps V's newest 128 tokens as a sliding window; here in aligned blocks of 128, as its K.",
            asked="KIVI at 2 bits",
            what="K by channel in groups of 32 tokens, V by groups of 32 channels of a token; the newest tokens exact",
        ),
    },
)
