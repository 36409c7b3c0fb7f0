"""One way to run a model: a condition, a length, and ids in chunks through a cache of our own.

A `Condition` says which RoPE, which quantizers and which scales. `open_stream` puts all of it on the
model for the length of a `with` block and takes it off again bit for bit, also on error or cancel.
Observers see every layer's q, k, v and output as they pass and keep what they need; nothing of
length L x L ever exists.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import Module
from transformers import Cache

from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import Rope, layer_ropes, rope_set, ropes_of
from qroar_core.maths.meters import onto
from qroar_core.maths.softmax_rule import SoftmaxRule
from qroar_core.models.attention import attention_by, causal_block, rows_at_once
from qroar_core.models.condition import Condition
from qroar_core.models.finite import Watch
from qroar_core.models.kv_store import QuantizedCache, allocate, block_of, followed_by, on_channels, rounder
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import require_room
from qroar_core.models.observer import AttentionTap, Observer
from qroar_core.models.patch import parameters_under, replaced_parameters, rounded_inputs
from qroar_core.quantizers.exact_keys import next_rounding
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.transforms.groups import require_alike


@dataclass(frozen=True, slots=True, eq=False)
class HiddenChunk:
    """Final hidden states (after the last norm) of one chunk: (B, t, hidden_size)."""

    start: int
    hidden: Tensor


@dataclass(slots=True, eq=False)
class Stream:
    """An open stream; see `open_stream`."""

    loaded: LoadedModel
    condition: Condition
    ropes: list[Rope]  # of each layer
    length: int
    chunk: int
    observers: Sequence[Observer] = ()
    halves: list[tuple[QuantizedCache, QuantizedCache]] = field(default_factory=list)
    hooks: list = field(default_factory=list)
    state: Cache | None = None  # of layers that carry one instead of K and V
    start: int = 0  # position of the chunk under way
    fed: int = 0  # tokens the run has seen
    turns: dict[tuple, tuple[Tensor, Tensor]] = field(default_factory=dict)  # cos and sin of the chunk, for observers
    watch: Watch = field(init=False)  # of the run under way

    def __post_init__(self) -> None:
        self.watch = Watch(self.condition, self.loaded.dtype)

    @property
    def rope(self) -> Rope:
        """The one RoPE of all layers; of layers that differ, that which an interpolation changes."""
        geo = self.loaded.geometry
        turning = [i for i in range(geo.n_layers) if i not in geo.without_rope]
        return self.ropes[next((i for i in turning if geo.kind_of(i) == geo.interpolated_kind), turning[0])]

    def run(self, ids: Tensor, observers: Sequence[Observer] = ()) -> Iterator[HiddenChunk]:
        """Feed ids (B, T) or (T,), T <= length, from position 0, chunk by chunk; ends the run before it.

        Raises NonFinite behind the last piece where something overflowed.
        """
        ids = onto(ids[None] if ids.ndim == 1 else ids, self.loaded.device)
        if ids.shape[1] > self.length:
            raise BadSpec(f"{ids.shape[1]} tokens in a stream opened for {self.length}")
        halves = self.begin(ids.shape[0], observers)
        try:
            for piece in ids.split(self.chunk, dim=1):
                if self.halves is not halves:
                    raise RuntimeError("this run ended: its stream was closed, or another run began")
                yield self.feed(piece)
            self.watch.ask()
        finally:
            if self.halves is halves:
                self.close()

    def begin(
        self, batch: int = 1, observers: Sequence[Observer] = (), *, room: int | None = None
    ) -> list[tuple[QuantizedCache, QuantizedCache]]:
        """Start a run at position 0 with an empty cache, which is returned; `feed` gives it tokens.

        Args:
            room: tokens that the cache can hold; None: the whole length. Frequencies are those of the length anyway.
        """
        self.close()
        self.halves = self._allocate(batch, min(room or self.length, self.length))
        self.state = self.loaded.family.layer_state(self.loaded.model.config)
        self.observers = tuple(observers)
        self.hooks = self._hooks() if self.observers else []
        return self.halves

    def feed(self, ids: Tensor) -> HiddenChunk:
        """Run ids (B, t) behind everything this run was fed so far."""
        self.start, self.fed, self.turns = self.fed, self.fed + ids.shape[1], {}
        at = torch.arange(self.start, self.fed, device=ids.device)[None]
        with torch.no_grad(), self.watch.asked_first():  # not inference mode: observers' tensors may meet autograd
            decoder = self.loaded.family.decoder(self.loaded.model)
            state = {} if self.state is None else {_state_name(decoder): self.state}
            out = decoder(input_ids=ids, position_ids=at, use_cache=self.state is not None, **state)
        self.watch.look("the final hidden state", self.start, out.last_hidden_state)
        return HiddenChunk(self.start, out.last_hidden_state)

    def close(self) -> None:
        """End the run, if one is under way: its hooks come off the model and its cache and state are freed."""
        for hook in self.hooks:
            hook.remove()
        self.halves, self.observers, self.hooks, self.turns, self.fed, self.state = [], (), [], {}, 0, None
        self.watch = Watch(self.condition, self.loaded.dtype)

    def cos_sin(self, start: int, stop: int, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """cos and sin of positions start .. stop - 1, (stop - start, rotary_dim // 2); no table of all lengths."""
        if layer is None:
            return self.rope.cos_sin(start, stop, self.loaded.device)
        return self.ropes[layer].cos_sin(start, stop, self.loaded.device_of(layer))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, rule: SoftmaxRule) -> Tensor:
        """Called by transformers through models.attention."""
        kept_k, kept_v = self.halves[layer]
        self.watch.look(f"q of layer {layer}", self.start, q)
        self.watch.look(f"k of layer {layer}", self.start, k)
        end = self.start + k.shape[-2]
        kept_k.write(k, self.start)
        kept_v.write(v, self.start)
        asked = self._round_active(q, layer, "q")
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        blocks = [half.block for half in (kept_k, kept_v) if half.block > 1]
        at = self.start
        while at < end:
            rows = rows_at_once(q, kept_k.store, kept_v.store, end, rule)
            stop = min([end, at + rows] + [next_rounding(block, at) for block in blocks])
            here, seen = slice(at - self.start, stop - self.start), kept_k.store[:, :, :stop]
            if kept_k.block > 1:  # with blocks of one token the cache holds K rounded for the product already
                seen = self._round_active(seen, layer, "k_active")
            out[:, :, here] = causal_block(asked[:, :, here], seen, kept_v.store[:, :, :stop], at, scaling, rule)
            kept_k.flush_blocks(stop)
            kept_v.flush_blocks(stop)
            at = stop
        self.watch.look(f"the attention output of layer {layer}", self.start, out)
        turning = (self.ropes[layer], q.device)
        if self.observers and turning not in self.turns:
            self.turns[turning] = self.cos_sin(self.start, end, layer)
        for observer in self.observers:
            for row in range(q.shape[0]):
                observer.on_attention(
                    AttentionTap(
                        layer,
                        row,
                        self.start,
                        q[row],
                        k[row],
                        v[row],
                        kept_k.store[row, :, :end],
                        kept_v.store[row, :, :end],
                        out[row],
                        *self.turns[turning],
                        scaling,
                        rule,
                    )
                )
        return out

    def _round_active(self, x: Tensor, layer: int, which: str) -> Tensor:
        spec, only = self.condition.quant.qk, self.condition.quantized_channels
        if spec is None:
            return x
        static = getattr(self.condition.static, which, None)
        rounded = fake_quantize(x, spec, absmax=None if static is None else static[layer])
        return rounded if only is None else torch.where(onto(only[layer], x.device), rounded, x)

    def _allocate(self, batch: int, room: int) -> list[tuple[QuantizedCache, QuantizedCache]]:
        loaded, quant, static = self.loaded, self.condition.quant, self.condition.static
        k_range, v_range = (static.k, static.v) if static is not None else (None, None)
        clip = self.condition.clip
        halves = []
        for layer, (k, v) in enumerate(allocate(loaded.geometry, batch, room, loaded.dtype, loaded.devices())):
            ranges, shares = (
                [None if r is None else r[layer] for r in both] for both in ((k_range, v_range), (clip.k, clip.v))
            )
            mine = loaded.geometry.quant_at(layer, quant)
            k_round, v_round = (
                rounder(spec, loaded.geometry, partial(self.cos_sin, layer=layer), at, share)
                for spec, at, share in zip((mine.k, mine.v), ranges, shares)
            )
            if quant.qk is not None and block_of(mine.k) == 1:
                k_round = followed_by(k_round, partial(self._round_active, layer=layer, which="k_active"))
            k_round = on_channels(k_round, self.condition.quantized_channels, layer)
            halves.append((QuantizedCache(k, k_round, block_of(mine.k)), QuantizedCache(v, v_round, block_of(mine.v))))
        return halves

    def _hooks(self) -> list:
        def hook_for(layer: int) -> Callable[..., None]:
            def hook(module: Module, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                for observer in self.observers:
                    for row in range(hidden.shape[0]):
                        observer.on_layer(layer, row, self.start, hidden[row])

            return hook

        geo, modules = self.loaded.geometry, self.loaded.family.layers(self.loaded.model)
        return [modules[geo.decoder_layer(i)].register_forward_hook(hook_for(i)) for i in range(geo.n_layers)]


@contextmanager
def open_stream(
    loaded: LoadedModel, condition: Condition, length: int, *, chunk: int = 512, batch: int = 1
) -> Iterator[Stream]:
    """Put `condition` on the model and run texts of up to `length` tokens under it.

    Scales that a person applied to the loaded weights are lifted for the while: a condition always
    starts from the checkpoint's own weights.

    Args:
        length: tokens; fixes length-dependent frequencies (dynamic, LongRoPE) and the cache's size.
        chunk: tokens per forward pass, rounded up to whole quantizer blocks.
    Raises:
        OutOfMemory: the cache would not fit; names the length that does.
        BadSpec: a per-tensor quantizer without calibrated range.
    """
    quant = condition.quant
    loaded.geometry.require_cache(quant)
    require_alike(loaded.geometry, condition.rope, condition.scales)
    if condition.static is None and any(s and s.needs_calibration for s in (quant.k, quant.v, quant.qk)):
        raise BadSpec("a per-tensor cache scale must be calibrated first", where="--kv-scale tensor")
    block = quant.block_tokens
    chunk = -(-min(chunk, length) // block) * block
    require_room(loaded, length, batch, quant.weights is not None)
    with loaded.lock, ExitStack() as stack:
        stack.enter_context(
            replaced_parameters(loaded.model, parameters_under(loaded, condition.scales, quant.weights))
        )
        stack.enter_context(rounded_inputs(loaded, quant.activations))
        ropes = ropes_of(loaded, condition.rope, length)
        stack.enter_context(rope_set(loaded, ropes))
        stream = Stream(loaded, condition, layer_ropes(loaded.geometry, ropes), length, chunk)
        stack.callback(stream.close)
        stack.enter_context(attention_by(stream, *loaded.routing))
        stack.enter_context(loaded.family.intercept_attention(loaded.model))
        yield stream


def drain(pieces: Iterable[HiddenChunk]) -> None:
    """Run a stream for its observers only."""
    for _ in pieces:
        pass


def _state_name(decoder: Module) -> str:
    """What the decoder calls its cache: transformers 5.24 took `cache` for what was `past_key_values`."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
