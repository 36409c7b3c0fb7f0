"""A stream leaves nothing behind: weights, RoPE, attention and hooks return bit for bit, memory stays flat."""

from __future__ import annotations

import gc

import pytest
import torch

from qroar_core.errors import Cancelled, OutOfMemory
from qroar_core.models import memory
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.stream import Condition, drain, open_stream
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales
from tests.helpers.largest_tensor import LargestTensor

BANDS = ((0, 3), (4, 7))
LENGTH = 40


def scales(mode="symmetric", seed=3):
    generator = torch.Generator().manual_seed(seed)
    return Scales(mode, "kv_head", BANDS, torch.exp2(torch.randn(2, 2, 2, generator=generator, dtype=torch.float64)))


EVERYTHING = Condition(
    RopeSpec("yarn", 4.0), QuantSpec(WeightQuantSpec(4), QuantizerSpec(4, residual=8), QuantizerSpec(4)), scales()
)


class State:
    """All of a model that a stream touches, by identity and by value."""

    def __init__(self, loaded):
        self.parameters = {name: (p.data_ptr(), p.detach().clone()) for name, p in loaded.model.named_parameters()}
        rotary = loaded.model.model.rotary_emb
        self.rope = (id(rotary.inv_freq), rotary.inv_freq.clone(), rotary.attention_scaling, rotary.rope_type)
        self.buffers = sorted(name for name, _ in loaded.model.named_buffers())
        self.attention = loaded.model.config._attn_implementation
        self.hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in loaded.model.modules())
        self.free = loaded.lock.acquire(blocking=False)
        if self.free:
            loaded.lock.release()


def assert_same(before, after):
    for name, (pointer, value) in before.parameters.items():
        assert after.parameters[name][0] == pointer, name
        assert torch.equal(after.parameters[name][1], value), name
    assert before.rope[0] == after.rope[0]
    assert torch.equal(before.rope[1], after.rope[1])
    assert before.rope[2:] == after.rope[2:]
    assert (before.buffers, before.attention, before.hooks) == (after.buffers, after.attention, after.hooks)


class Nothing:
    def on_attention(self, tap):
        pass

    def on_layer(self, layer, row, start, hidden):
        pass


class Fails(Nothing):
    """Raises in the second layer of the second chunk."""

    def __init__(self, error, where):
        self.error, self.where = error, where

    def on_attention(self, tap):
        if self.where == "attention" and tap.layer == 1 and tap.start:
            raise self.error

    def on_layer(self, layer, row, start, hidden):
        if self.where == "layer" and layer == 1 and start:
            raise self.error


def to_the_end(loaded, tokens):
    with open_stream(loaded, EVERYTHING, LENGTH, chunk=8) as stream:
        inside = State(loaded)
        drain(stream.run(tokens, (Nothing(),)))
    assert inside.attention == "qroar_stream"
    assert inside.rope[2] != 1.0  # YaRN's attention factor
    assert not torch.equal(
        inside.parameters["model.layers.0.self_attn.k_proj.weight"][1],
        loaded.model.model.layers[0].self_attn.k_proj.weight,
    )


def observer_fails(where):
    def run(loaded, tokens):
        with pytest.raises(ZeroDivisionError), open_stream(loaded, EVERYTHING, LENGTH, chunk=8) as stream:
            drain(stream.run(tokens, (Fails(ZeroDivisionError(), where),)))

    return run


def cancelled(loaded, tokens):
    def job():
        with open_stream(loaded, EVERYTHING, LENGTH, chunk=8) as stream:
            for piece in stream.run(tokens, (Nothing(),)):
                if piece.start:
                    raise Cancelled("diagnose")

    with pytest.raises(Cancelled):
        job()


def broken_off(loaded, tokens):
    with open_stream(loaded, EVERYTHING, LENGTH, chunk=8) as stream:
        for _ in stream.run(tokens, (Nothing(),)):
            break


def left_hanging(loaded, tokens):
    with open_stream(loaded, EVERYTHING, LENGTH, chunk=8) as stream:
        pieces = stream.run(tokens, (Nothing(),))
        next(pieces)
    gc.collect()
    with pytest.raises(RuntimeError, match="ended"):
        next(pieces)


def refused(loaded, tokens):
    bad = Scales("symmetric", "kv_head", ((0, 7),), torch.ones(2, 3, 1, dtype=torch.float64) * 2)
    with pytest.raises(Exception, match="kv_heads"), open_stream(loaded, Condition(scales=bad), LENGTH):
        pass


ENDINGS = {
    "to the end": to_the_end,
    "an attention observer fails": observer_fails("attention"),
    "a layer observer fails": observer_fails("layer"),
    "cancelled": cancelled,
    "broken off": broken_off,
    "left hanging": left_hanging,
    "refused": refused,
}


@pytest.mark.parametrize("applied", [False, True], ids=["plain", "applied"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_everything_returns_bit_for_bit(tiny, ids, ending, applied):
    loaded, tokens = tiny("qwen2"), ids(LENGTH)
    if applied:
        apply_scales(loaded, scales("shared"))
    before = State(loaded)
    ENDINGS[ending](loaded, tokens)
    assert_same(before, State(loaded))
    assert (loaded.applied is not None) == applied
    with torch.inference_mode():
        loaded.model(tokens[None])  # plain transformers attention works again


@pytest.mark.parametrize("native", ["dynamic", "longrope"])
def test_a_native_rope_that_depends_on_length_stays_out_and_returns(tiny, ids, native):
    """Past its window transformers would put its own frequencies back, in the middle of a stream."""
    block = {"rope_type": native, "rope_theta": 1e4, "factor": 2.0}
    if native == "longrope":
        block |= {"long_factor": [3.0] * 8, "short_factor": [1.0] * 8, "original_max_position_embeddings": 32}
    loaded, tokens = tiny(rope_parameters=block), ids(1, 100)
    with torch.inference_mode():
        expected = loaded.model(tokens).logits
    before, linear = State(loaded), Condition(RopeSpec("linear", 2.0))
    got = []
    for model in (loaded, tiny()):  # the same weights with a RoPE that never moves
        with open_stream(model, linear, 100, chunk=30) as stream:
            got.append(torch.cat([piece.hidden for piece in stream.run(tokens)], 1))
    assert torch.equal(*got)
    assert_same(before, State(loaded))
    with torch.inference_mode():
        assert torch.equal(loaded.model(tokens).logits, expected)


def test_a_second_run_ends_the_first(tiny, ids):
    loaded, tokens = tiny(), ids(LENGTH)
    with open_stream(loaded, Condition(), LENGTH, chunk=8) as stream:
        expected = torch.cat([piece.hidden for piece in stream.run(tokens)], 1)
        first = stream.run(tokens)
        next(first)
        second = stream.run(tokens)
        got = [next(second).hidden]
        with pytest.raises(RuntimeError, match="another run"):
            next(first)
        got += [piece.hidden for piece in second]
    assert torch.equal(torch.cat(got, 1), expected)


def test_applied_scales_are_lifted_and_never_applied_twice(tiny, ids):
    loaded, tokens = tiny("qwen2"), ids(LENGTH)

    def hidden(condition):
        with open_stream(loaded, condition, LENGTH) as stream:
            return torch.cat([piece.hidden for piece in stream.run(tokens)], 1)

    conditions = [Condition(), Condition(scales=scales("shared")), EVERYTHING]
    expected = [hidden(condition) for condition in conditions]
    apply_scales(loaded, scales("shared", seed=5))
    assert all(torch.equal(hidden(c), e) for c, e in zip(conditions, expected))
    undo_scales(loaded)
    assert not torch.equal(expected[0], expected[1])


FLAT = {
    "plain": Condition(),
    "k int4": Condition(RopeSpec("yarn", 4.0), QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))),
    "before rope": Condition(quant=QuantSpec(k=QuantizerSpec(4, before_rope=True))),
    "kivi": Condition(quant=QuantSpec(k=QuantizerSpec(4, "channel", group_size=8, residual=16))),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FLAT)
def test_no_tensor_but_the_cache_grows_with_the_length(tiny, ids, monkeypatch, case):
    monkeypatch.setattr("qroar_core.models.attention.MASK_ENTRIES", 16 * 256)
    loaded, largest, ops = tiny(), {}, {}
    for length in (256, 1024):
        tokens = ids(length)
        with LargestTensor(length) as mode, open_stream(loaded, FLAT[case], length, chunk=32) as stream:
            mode.caches.add(tokens.untyped_storage().data_ptr())  # the caller's own
            drain(stream.run(tokens, (Nothing(),)))
        assert len(mode.caches) == 2
        largest[length], ops[length] = mode.largest, mode.op
    assert largest[1024] <= 1.1 * largest[256], (largest, ops)


def test_a_length_past_memory_names_the_one_that_fits(tiny, monkeypatch):
    loaded = tiny()
    per_token = 2 * 2 * 2 * 16 * 4  # K and V, layers, KV heads, head_dim, bytes
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(1000 * per_token / memory.HEADROOM) + 8)
    with pytest.raises(OutOfMemory, match=r"1001 tokens.*; choose a length of at most 1000 tokens") as caught:
        open_stream(loaded, Condition(), 1001).__enter__()
    assert "\n" not in str(caught.value)
    with open_stream(loaded, Condition(), 1000):
        pass
    with pytest.raises(OutOfMemory, match="at most 500 tokens"), open_stream(loaded, Condition(), 501, batch=2):
        pass
    with pytest.raises(OutOfMemory), open_stream(loaded, Condition(quant=QuantSpec(WeightQuantSpec(4))), 1000):
        pass
