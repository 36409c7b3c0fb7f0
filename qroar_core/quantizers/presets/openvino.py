"""OpenVINO on a CPU: KEY_CACHE_PRECISION, VALUE_CACHE_PRECISION u8 and u4, K by token or by channel.

Minimum to maximum in float32, a scale and a zero point for each set. By token, as by default: all channels of a token
and KV head. By channel (KEY_CACHE_QUANT_MODE): 128 tokens of a channel in stateful models, for K alone.
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

TOKENS = 128  # of a group by channel
_SOURCE = (
    "openvinotoolkit/openvino src/plugins/intel_cpu/src/nodes/kernels/scaled_attn/attn_quant.cpp quant_u8, quant_u4 "
    "(00262eae); read back from openvino 2026.4.1"
)
_GROUPS = "KEY_CACHE_GROUP_SIZE and VALUE_CACHE_GROUP_SIZE are 0 (all of a head), as by default on a CPU. "
_OPEN = (
    "OpenVINO rounds a group again whenever tokens enter it, up to a step more; here its tokens are exact until it is "
    "full, and rounded once. Paged attention (GenAI) has groups of 32 tokens, its block. "
)
_CRASH = (
    "Read from the source alone: 2026.4.1 corrupts its memory and ends when a stateful model's K is u4 by channel. "
)


def _by_token(bits: int) -> QuantizerSpec:
    return QuantizerSpec(bits, levels="affine")


def _by_channel(bits: int) -> QuantizerSpec:
    return QuantizerSpec(bits, "channel", "affine", TOKENS)


def _preset(bits: int, by_channel: bool) -> KVPreset:
    k, v = _by_channel(bits) if by_channel else _by_token(bits), _by_token(bits)
    note = ((_CRASH if bits == 4 else "") + _OPEN if by_channel else "") + _GROUPS.strip()
    asked = f"OpenVINO `KEY_CACHE_PRECISION` and `VALUE_CACHE_PRECISION` `u{bits}`"
    where = f"{TOKENS} tokens of a channel for K, of a token for V" if by_channel else "a token and KV head"
    more = ", `KEY_CACHE_QUANT_MODE` `BY_CHANNEL`" if by_channel else ""
    return KVPreset(k, v, _SOURCE, note, asked + more, f"u{bits} from minimum to maximum of {where}, float32 scales")


RUNTIME = Runtime(
    45,
    {
        f"ov_u{bits}{'_channel' if by_channel else ''}": _preset(bits, by_channel)
        for bits in (8, 4)
        for by_channel in (False, True)
    },
)
