"""KIVI's row against a cache made by hand, one token at a time, inside transformers' own forward pass."""

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from qroar_core.models.condition import Condition
from qroar_core.models.window_losses import measure
from qroar_core.progress import no_progress
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.prepare import prepare
from qroar_core.remedies.prepared import RemedyInputs
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

GROUP, RESIDUAL, LENGTH = 32, 128, 300


def nearest(values, bits):
    """A list of numbers on 2^bits even levels from its least to its largest; every level tried."""
    low, high = values.min(), values.max()
    levels = low + (high - low) / (2**bits - 1) * torch.arange(2**bits, dtype=values.dtype)
    return levels[(values[:, None] - levels).abs().argmin(1)]


def rounded(k, v, bits):
    """All whole groups of 32 tokens of a channel of K, and of 32 channels of a token of V; (tokens, channels)."""
    k_hat, v_hat = k.clone(), v.clone()
    for first in range(0, len(k) - GROUP + 1, GROUP):
        for channel in range(k.shape[1]):
            k_hat[first : first + GROUP, channel] = nearest(k[first : first + GROUP, channel], bits)
    for token in range(len(v)):
        for first in range(0, v.shape[1], GROUP):
            v_hat[token, first : first + GROUP] = nearest(v[token, first : first + GROUP], bits)
    return k_hat, v_hat


def cache_by_hand(bits, round_v):
    def attention(module, query, key, value, mask, scaling, **rest):
        out = torch.zeros_like(query).transpose(1, 2)  # (batch, tokens, heads, channels)
        for kv in range(key.shape[1]):
            k, v = key[0, kv], value[0, kv]
            k_hat, v_hat = rounded(k, v, bits)
            v_hat = v_hat if round_v else v
            for head in range(kv * 2, kv * 2 + 2):
                for t in range(len(k)):
                    old = t // RESIDUAL * RESIDUAL  # what is full is rounded; the newest tokens are still exact
                    keys = torch.cat((k_hat[:old], k[old : t + 1]))
                    values = torch.cat((v_hat[:old], v[old : t + 1]))
                    out[0, t, head] = torch.softmax(keys @ query[0, head, t] * scaling, 0) @ values
        return out, None

    return attention


@pytest.mark.parametrize("round_v", [True, False], ids=["K and V", "K"])
def test_it_is_the_cache_of_its_paper(tiny, ids, monkeypatch, round_v):
    loaded, text = tiny(dtype=torch.float64, layers=1, head_dim=32), ids(1, LENGTH)
    asked = QuantSpec(k=QuantizerSpec(2), v=QuantizerSpec(2) if round_v else None)
    quant = BY_NAME["kivi"].under(asked)
    made = prepare("kivi", RemedyInputs(loaded, RopeSpec(), quant, text, 32, no_progress))
    found = measure(loaded, Condition(RopeSpec(), made.quant), text, LENGTH - 1).per_window
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "by_hand", cache_by_hand(2, round_v))
    loaded.model.set_attn_implementation("by_hand")
    with torch.no_grad():
        logits = loaded.model(text, use_cache=False).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, text[0, 1:])
    loaded.model.set_attn_implementation("sdpa")
    assert found == pytest.approx([float(expected)], abs=1e-9)
    plain = measure(loaded, Condition(RopeSpec(), asked), text, LENGTH - 1).per_window
    assert plain != pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize(
    ("quant", "applies"),
    [
        (QuantSpec(k=QuantizerSpec(3)), False),  # its kernels pack 2, 4 and 8 bits
        (QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(3)), False),
        (QuantSpec(k=QuantizerSpec(8, levels="e4m3")), False),
        (QuantSpec(k=QuantizerSpec(4, "channel", group_size=32)), False),
        (QuantSpec(v=QuantizerSpec(4)), False),
        (QuantSpec(k=QuantizerSpec(8), v=QuantizerSpec(4)), True),
    ],
    ids=str,
)
def test_where_it_applies(quant, applies):
    assert (BY_NAME["kivi"].under(quant) is not None) == applies
