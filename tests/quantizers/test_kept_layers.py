"""A cache of which some layers are kept: what each of them stores, against rounding by hand."""

from dataclasses import replace

import pytest
import torch

import qroar_core as qroar
from qroar_core.errors import BadSpec
from qroar_core.models.condition import Condition
from qroar_core.models.differentiable import open_trainable
from qroar_core.models.stream import drain, open_stream
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.specs.labels import quant_words
from qroar_core.specs.written import written

INT4 = QuantizerSpec(4)
CACHES = {
    "int4": QuantSpec(k=INT4, v=INT4),
    "kivi2": QuantSpec(k=KV_PRESETS["kivi2"].k, v=KV_PRESETS["kivi2"].v),
    "int4 and q, k int8": QuantSpec(k=INT4, v=INT4, qk=QuantizerSpec(8)),
}


class Stored:
    """What each layer is given, and what its cache holds of it once the last chunk has passed."""

    def __init__(self):
        self.given, self.k, self.v = {}, {}, {}

    def on_attention(self, tap):
        self.given.setdefault(tap.layer, []).append((tap.k.clone(), tap.v.clone()))
        self.k[tap.layer], self.v[tap.layer] = tap.k_seen.clone(), tap.v_seen.clone()

    def on_layer(self, layer, row, start, hidden):
        pass


def stored(loaded, quant, text):
    found = Stored()
    with open_stream(loaded, Condition(RopeSpec("yarn", 2.0), quant), text.shape[1], chunk=128) as stream:
        drain(stream.run(text[0], (found,)))
    return found


def absmax_int4(x):
    """Oracle: symmetric int4, one step a token and head."""
    step = x.abs().amax(-1, keepdim=True) / 7
    return (x / step).round().clamp(-7, 7) * step


@pytest.mark.parametrize("kind", ["int4", "kivi2"])
def test_a_kept_layer_stores_what_it_is_given_and_others_do_not(tiny, ids, kind):
    loaded, text = tiny(layers=3, head_dim=32), ids(1, 256)
    layers = loaded.geometry.n_layers
    found = stored(loaded, replace(CACHES[kind], keep_layers=(layers - 1,)), text)
    reference = stored(loaded, QuantSpec(), text)
    for layer in range(layers):
        k, v = (torch.cat(parts, 1) for parts in zip(*found.given[layer]))
        kept = layer == layers - 1
        assert torch.equal(found.k[layer], k) == torch.equal(found.v[layer], v) == kept
        if kind == "int4" and not kept:
            assert torch.allclose(found.k[layer], absmax_int4(k), atol=1e-6)
    first = stored(loaded, replace(CACHES[kind], keep_layers=(0,)), text)
    assert torch.equal(first.k[0], reference.k[0])  # nothing before it is rounded: the reference's, bit for bit
    assert torch.equal(first.v[0], reference.v[0])
    assert not torch.equal(first.k[layers - 1], reference.k[layers - 1])


@pytest.mark.parametrize("kind", CACHES)
def test_with_every_layer_kept_the_model_is_the_one_without_a_cache_quantizer(tiny, ids, kind):
    loaded, text = tiny(head_dim=32), ids(1, 200)
    every = tuple(range(loaded.geometry.n_layers))
    quant = CACHES[kind]
    hidden = []
    for one in (replace(quant, keep_layers=every), replace(quant, k=None, v=None), quant):
        with open_stream(loaded, Condition(RopeSpec(), one), 200, chunk=128) as stream:
            hidden.append(torch.cat([piece.hidden for piece in stream.run(text)], 1))
    assert torch.equal(hidden[0], hidden[1])
    assert not torch.equal(hidden[0], hidden[2])


@pytest.mark.parametrize("kind", CACHES)
def test_the_differentiable_model_keeps_the_same_layers_as_the_stream(tiny, ids, kind):
    loaded, text = tiny(dtype=torch.float64, head_dim=32), ids(1, 160)
    condition = Condition(RopeSpec(), replace(CACHES[kind], keep_layers=(1,)))
    geo = loaded.geometry
    with open_stream(loaded, condition, 160, chunk=128) as stream:
        wanted = torch.cat([piece.hidden for piece in stream.run(text)], 1)[0]
    band = torch.zeros(geo.head_dim, dtype=torch.int64)
    with open_trainable(loaded, condition, 160, band, "symmetric") as model, torch.no_grad():
        found = model.hidden(text[0], torch.zeros(geo.n_layers, geo.n_kv_heads, 1))
    assert torch.allclose(found, wanted, atol=1e-9)


def test_layers_that_are_not_there_are_refused(tiny):
    loaded = tiny()
    with pytest.raises(BadSpec, match="layer 9 has no K/V cache in this model"):
        qroar.Setup(quantization=qroar.quantization(k="int4", keep_layers=[0, 9])).resolve(loaded)
    with pytest.raises(BadSpec, match="layers are counted from 0, got -1"):
        qroar.quantization(k="int4", keep_layers=[-1])
    with pytest.raises(BadSpec, match="keep_layers must be a list of whole numbers, got '0,1'"):
        qroar.quantization(k="int4", keep_layers="0,1")
    with pytest.raises(BadSpec, match="nothing in the cache is quantized"):
        qroar.quantization(weights="int4", keep_layers=[0])


def test_a_quantizer_says_which_layers_it_keeps():
    quant = qroar.quantization(kv="int4", keep_layers=[3, 0, 3])
    assert quant.keep_layers == (0, 3)
    assert repr(quant) == "qroar.quantization(kv='int4', keep_layers=(0, 3))"
    assert quant_words(quant) == "K and V int4 per token; cache of layers 0, 3 kept"
    assert written(quant)["keep_layers"] == (0, 3)
    assert "keep_layers" not in written(QuantSpec(k=INT4))  # keys and digests of older runs stay


def test_numbers_are_those_of_the_decoder_where_others_have_no_attention(tiny):
    geometry = replace(tiny().geometry, decoder_layers=(2, 5))
    quant = QuantSpec(k=INT4, keep_layers=(5,))
    assert [geometry.quant_at(layer, quant).k for layer in (0, 1)] == [INT4, None]
    assert geometry.rounding_layers(quant) == [0]
    with pytest.raises(BadSpec, match="layer 1 has no K/V cache in this model; choose from 2, 5"):
        geometry.require_cache(replace(quant, keep_layers=(1,)))
