"""What a family must tell: where q and k rows live, where a scale goes, and where the decoder's parts are.

A family is data. `Family` covers every model with separate q_proj / k_proj under
`model.layers.N.self_attn`, with or without a norm on q and k before RoPE; a family that differs
overrides the few methods that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qroar_core.errors import UnsupportedModel
from qroar_core.maths.rope import Pairing
from qroar_core.models.families.slot import QKSlot
from qroar_core.models.geometry import SLIDING_ATTENTION, Geometry

ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Family:
    """One attention layout, registered by architecture name.

    Methods that speak of a layer mean the decoder's own numbers; `geometry` counts those with attention.
    """

    name: str
    architectures: tuple[str, ...]
    pairing: Pairing = "half"
    layers_at: str = "model.layers"  # state-dict prefix of the decoder layers
    attention: str = "self_attn"
    output: str = "o_proj"
    norms: tuple[str, str] | None = None  # q and k norm between projection and RoPE; its gain takes the scale
    gain_offset: float = 0.0  # 1.0 where that norm multiplies by (1 + w)
    gain_shared: bool = False  # one gain per channel for all heads of a layer
    partial: bool = False  # this family's code can leave the last channels of a head unrotated
    sliding: Literal["never", "all", "by type"] = "never"  # which layers the config's sliding_window holds for
    key_bias: str = "attention_bias"  # the config's switch that brings a bias of W_K; ALWAYS: it has one
    gguf_written: str = ""  # llama.cpp's architecture that a GGUF is written in, which reads that bias; empty: none is
    gguf_permutes: bool = False  # llama.cpp's converter reorders the rows of each head of q and k (undo_permute)
    implementation: str = "sdpa"  # transformers' own attention that computes all this family does
    source: str = ""  # the file of transformers this was read from

    def geometry(self, config: Any, parameters: int) -> Geometry:
        """Read the sizes from a config.

        Raises:
            UnsupportedModel: odd rotary_dim, query heads that do not divide by KV heads, or an option
                of this family that changes its attention in a way not known here.
        """
        self.check(config)
        attending = self.attention_layers(config)
        blocks, kinds = self.rope_blocks(config), _of(attending, self.rope_kinds(config))
        rope = blocks[next(iter(blocks))]
        head_dim, n_kv = self.head_dim(config), self.n_kv_heads(config)
        latent = self.latent_dim(config)
        dims = {self._rotary_dim(block, self.rotating(config)) for block in blocks.values()}
        if len(dims) > 1:
            raise UnsupportedModel(
                f"its layers rotate {sorted(dims)} channels, all must alike",
                where=self.name,
                do="check partial_rotary_factor",
            )
        if config.num_attention_heads % n_kv:
            raise UnsupportedModel(
                f"{config.num_attention_heads} query heads over {n_kv} KV heads do not divide",
                where="config.json",
                do="check num_attention_heads and num_key_value_heads",
            )
        unturned = self.without_rope(config)
        still = tuple(i for i, layer in enumerate(attending) if layer in unturned)
        if len(still) == len(attending):
            raise UnsupportedModel("no layer carries RoPE", where=self.name, do="choose a model with rotary positions")
        native = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        return Geometry(
            family=self.name,
            n_layers=len(attending),
            n_heads=config.num_attention_heads,
            n_kv_heads=n_kv,
            head_dim=head_dim,
            rotary_dim=dims.pop(),
            pairing=self.rope_pairing_of(config),
            theta=float(rope["rope_theta"]),
            original_context=int(native),
            hidden_size=config.hidden_size,
            vocab_size=config.vocab_size,
            parameters=parameters,
            finest="layer" if (self.gain_shared or latent) and n_kv > 1 else "kv_head",
            scaled_gain=self.has_qk_norm(config),
            rope_kinds=kinds,
            without_rope=still,
            thetas=tuple(float(blocks[kind]["rope_theta"]) for kind in kinds),
            windows=_of(attending, self.windows(config)),
            decoder_layers=attending if len(attending) < config.num_hidden_layers else (),
            v_head_dim=self.value_dim(config),
            latent_dim=latent,
            behind_values=self.behind_values(config),
            beside_softmax=self.beside_softmax(config),
            key_bias=self.key_bias if self._reads_key_bias(config) else "",
            gguf_written=self.gguf_written,
        )

    def _reads_key_bias(self, config: Any) -> bool:
        return self.key_bias == ALWAYS or hasattr(config, self.key_bias)

    def check(self, config: Any) -> None:
        """Raises UnsupportedModel when the config asks for an option of this family not known here."""

    def attention_layers(self, config: Any) -> tuple[int, ...]:
        """Decoder layers that have q and k, in order."""
        return tuple(range(config.num_hidden_layers))

    def layer_state(self, config: Any) -> Cache | None:
        """Empty state of the layers that carry one from chunk to chunk instead of K and V; None without such layers."""
        return None

    def head_dim(self, config: Any) -> int:
        """Channels of one head."""
        return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def rotating(self, config: Any) -> int:
        """Channels of a head that its rotary_dim is a share of."""
        return self.head_dim(config)

    def value_dim(self, config: Any) -> int | None:
        """Channels of a value head, None where q, k and v are alike."""
        return None

    def behind_values(self, config: Any) -> str:
        """What acts channel by channel between V and W_O, as the end of "the family's ..."; empty: nothing."""
        return ""

    def beside_softmax(self, config: Any) -> str:
        """What sees a constant on all logits of an attention row, as the end of "the family ..."; empty: nothing."""
        return "caps its attention logits" if getattr(config, "attn_logit_softcapping", None) else ""

    def key_factor(self, config: Any) -> float:
        """What k is multiplied by between the key projection, with its bias, and RoPE."""
        return 1.0

    def latent_dim(self, config: Any) -> int:
        """Channels of the latent that K and V are made of, 0 where they are projected directly."""
        return 0

    def rope_pairing_of(self, config: Any) -> Pairing:
        """Which channels make a RoPE pair."""
        return self.pairing

    def n_kv_heads(self, config: Any) -> int:
        """Heads of K and V."""
        return getattr(config, "num_key_value_heads", None) or config.num_attention_heads

    def rope_blocks(self, config: Any) -> dict[str, dict[str, Any]]:
        """The blocks of rope_parameters by kind of layer, the one that an interpolation changes first."""
        return {"": getattr(config, "rope_parameters", None) or {}}

    def rope_kinds(self, config: Any) -> tuple[str, ...]:
        """The kind of every layer, or () where one block serves all."""
        return ()

    def without_rope(self, config: Any) -> tuple[int, ...]:
        """Layers whose q and k are not rotated."""
        return ()

    def windows(self, config: Any) -> tuple[int | None, ...]:
        """How many of the newest keys each layer sees, None for all of them; () where no layer slides."""
        window = None if self.sliding == "never" else getattr(config, "sliding_window", None)
        if window is None:
            return ()
        if self.sliding == "all":
            return (window,) * config.num_hidden_layers
        return tuple(window if kind == SLIDING_ATTENTION else None for kind in config.layer_types)

    def decoder(self, model: nn.Module) -> Any:
        """The module that maps ids to final hidden states and owns the layers and `rotary_emb`."""
        return model.get_submodule(self.layers_at.rsplit(".", 1)[0])

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Decoder layers in order."""
        return list(model.get_submodule(self.layers_at).children())

    def rotary(self, model: nn.Module) -> Any:
        """The module that turns position_ids into cos and sin."""
        return self.decoder(model).rotary_emb

    def rotated_channels(self, model: nn.Module) -> set[int]:
        """How many channels of a head the model's own rotary module turns; one number, unless layers differ."""
        names = [f"{kind}_inv_freq" for kind in self.rope_kinds(model.config)] or ["inv_freq"]
        return {2 * getattr(self.rotary(model), name).numel() for name in names}

    def channel_order_in(self, geometry: Geometry) -> Tensor | None:
        """Where each channel of q and k, rotated ones first, stands when the attention function gets them, int64
        (head_dim,); None where they come that way."""
        return None

    def output_gates(self, geometry: Geometry) -> Callable[[Tensor], Tensor] | None:
        """From what the query projection gives, (B, t, rows), what the attention output is multiplied by before W_O,
        (B, t, n_heads, head_dim); None where nothing is."""
        return None

    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Vocabulary logits of final hidden states (n, hidden_size), with this family's scale or cap on them."""
        return model.get_output_embeddings()(hidden)

    @contextmanager
    def intercept_attention(self, model: nn.Module) -> Iterator[None]:
        """Run with every attention asking transformers' attention interface; most families always do."""
        yield

    def output_projection(self, layer: int) -> str:
        """State-dict key of W_O, (hidden, n_heads * head_dim)."""
        return f"{self._stem(layer)}.{self.output}.weight"

    def query(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Where layer `layer` keeps its queries."""
        rows = torch.arange(geometry.n_heads * geometry.head_dim)
        return self._slot(layer, "q_proj", rows, geometry, names, self.norms and self.norms[0])

    def key(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Where layer `layer` keeps its keys."""
        rows = torch.arange(geometry.n_kv_heads * geometry.head_dim)
        return self._slot(layer, "k_proj", rows, geometry, names, self.norms and self.norms[1])

    def value(self, layer: int, geometry: Geometry, names: set[str]) -> QKSlot:
        """Where layer `layer` keeps its values."""
        rows = torch.arange(geometry.n_kv_heads * geometry.value_dim)
        return self._slot(layer, "v_proj", rows, geometry, names)

    def has_qk_norm(self, config: Any) -> bool:
        """Whether q and k are normed between projection and RoPE; an option in a few families."""
        return self.norms is not None

    def _stem(self, layer: int) -> str:
        return f"{self.layers_at}.{layer}.{self.attention}"

    def _slot(
        self, layer: int, projection: str, rows: Tensor, geometry: Geometry, names: set[str], norm: str | None = None
    ) -> QKSlot:
        """The slot made of `rows` of one projection, its bias, and the gain of the norm behind it."""
        stem = f"{self._stem(layer)}.{projection}"
        gain = f"{self._stem(layer)}.{norm}.weight" if norm and geometry.scaled_gain else None
        for name in filter(None, (f"{stem}.weight", gain)):
            if name not in names:
                raise UnsupportedModel(
                    f"expected parameter {name} is missing", where=self.name, do="this layout is not known; refused"
                )
        bias = f"{stem}.bias" if f"{stem}.bias" in names else None
        return QKSlot(f"{stem}.weight", bias, rows, gain, self.gain_offset)

    def _rotary_dim(self, block: dict[str, Any], head_dim: int) -> int:
        if "rope_theta" not in block:
            raise UnsupportedModel("its config names no rope_theta", where=self.name, do="add rope_parameters to it")
        kind = block.get("rope_type", "default")
        if kind not in ("default", *ROPE_INIT_FUNCTIONS):
            raise UnsupportedModel(f"unknown rope_type {kind!r}", where="config.json", do="see its rope_parameters")
        rotary_dim = int(head_dim * (block.get("partial_rotary_factor") or 1.0))
        if rotary_dim % 2 or rotary_dim < 4:
            raise UnsupportedModel(
                f"rotary_dim {rotary_dim} must be even and at least 4",
                where="config.json",
                do="check head_dim and partial_rotary_factor",
            )
        if rotary_dim != head_dim and not self.partial:
            raise UnsupportedModel(
                f"its config asks for {rotary_dim} rotated channels, {self.name} turns {head_dim}",
                where="config.json",
                do="remove partial_rotary_factor, or check that the architecture is right",
            )
        return rotary_dim


def _of(layers: tuple[int, ...], values: tuple) -> tuple:
    """The values of some layers out of one for each; () where there are none."""
    return tuple(values[layer] for layer in layers) if values else ()
