"""A condition that rounds some channels only: those as the full quantizer rounds them, the others bit for bit exact."""

import pytest
import torch

from qroar_core.models.condition import Condition
from qroar_core.models.stream import drain, open_stream
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

LENGTH, CHUNK = 40, 24
YARN = RopeSpec("yarn", 2.0)
K4, K3 = QuantizerSpec(4), QuantizerSpec(3)


class Kept:
    """K as it came and as the cache holds it, q, V, by layer."""

    def __init__(self):
        self.k, self.seen, self.v, self.v_seen = {}, {}, {}, {}

    def on_attention(self, tap):
        self.k.setdefault(tap.layer, []).append(tap.k.clone())
        self.v.setdefault(tap.layer, []).append(tap.v.clone())
        self.seen[tap.layer], self.v_seen[tap.layer] = tap.k_seen.clone(), tap.v_seen.clone()

    def on_layer(self, layer, row, start, hidden):
        pass


def read(loaded, condition, tokens):
    kept = Kept()
    with open_stream(loaded, condition, LENGTH, chunk=CHUNK) as stream:
        drain(stream.run(tokens, (kept,)))
    return {layer: (torch.cat(kept.k[layer], 1), kept.seen[layer]) for layer in kept.k}, kept


def some(loaded, layer, channels):
    only = torch.zeros(loaded.geometry.n_layers, loaded.geometry.head_dim, dtype=torch.bool)
    only[layer, channels] = True
    return only


@pytest.mark.parametrize("layer", [0, 1])
def test_the_cache_holds_rounded_channels_among_exact_ones(tiny, ids, layer):
    loaded, channels = tiny(), [1, 2, 9, 10]
    found, kept = read(
        loaded, Condition(YARN, QuantSpec(k=K4, v=K3), quantized_channels=some(loaded, layer, channels)), ids(LENGTH)
    )
    for at, (k, seen) in found.items():
        whole = fake_quantize(k, K4)
        for channel in range(16):
            rounded = at == layer and channel in channels
            assert torch.equal(seen[..., channel], (whole if rounded else k)[..., channel])
        assert float((whole - k)[..., channels].abs().max()) > 1e-3
        v = torch.cat(kept.v[at], 1)
        assert torch.equal(kept.v_seen[at], fake_quantize(v, K3))  # V is none of its business


def test_a_band_is_closed_under_rope_so_k_before_rope_works_too(tiny, ids):
    """Pair 3 of half pairing is the channels 3 and 11; the others of that token stay bit for bit."""
    loaded, pair = tiny(dtype=torch.float64), [3, 11]
    before = QuantSpec(k=QuantizerSpec(4, before_rope=True))
    alone, _ = read(loaded, Condition(YARN, before, quantized_channels=some(loaded, 0, pair)), ids(LENGTH))
    whole, _ = read(loaded, Condition(YARN, before), ids(LENGTH))
    others = [c for c in range(16) if c not in pair]
    assert torch.equal(alone[0][1][..., others], alone[0][0][..., others])
    assert torch.equal(alone[0][1][..., pair], whole[0][1][..., pair])
    assert not torch.equal(alone[0][1][..., pair], alone[0][0][..., pair])


def test_blocks_that_are_rounded_late_are_masked_too(tiny, ids):
    loaded, channels = tiny(), [0, 8]
    kivi = QuantSpec(k=QuantizerSpec(2, scale="channel", group_size=8, residual=8))
    alone, _ = read(loaded, Condition(YARN, kivi, quantized_channels=some(loaded, 0, channels)), ids(LENGTH))
    k, seen = alone[0]
    others = [c for c in range(16) if c not in channels]
    assert torch.equal(seen[..., others], k[..., others])
    assert not torch.equal(seen[..., channels], k[..., channels])


def test_activations_are_masked_and_all_channels_are_the_full_quantizer(tiny, ids):
    loaded, tokens = tiny(), ids(LENGTH)
    for quant in (QuantSpec(qk=K4), QuantSpec(k=K4, qk=K3)):

        def out(only, quant=quant):
            with open_stream(loaded, Condition(YARN, quant, quantized_channels=only), LENGTH, chunk=CHUNK) as stream:
                return torch.cat([piece.hidden for piece in stream.run(tokens)], 1)

        everything = torch.ones(2, 16, dtype=torch.bool)
        none = out(~everything)
        with open_stream(loaded, Condition(YARN), LENGTH, chunk=CHUNK) as stream:
            exact = torch.cat([piece.hidden for piece in stream.run(tokens)], 1)
        assert torch.equal(out(everything), out(None))
        assert torch.equal(none, exact)
        halves = [out(some(loaded, slice(None), c)) for c in (slice(0, 8), slice(8, 16))]
        assert all(not torch.equal(half, exact) and not torch.equal(half, out(None)) for half in halves)
