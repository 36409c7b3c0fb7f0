"""The numbers of a model's attention that everything else needs, read once from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.interpolations.bands import Bands, band_of_channel
from qroar_core.maths.rope import Pairing
from qroar_core.specs import Granularity, QuantSpec

FULL_ATTENTION = "full_attention"  # transformers' name for layers that read the whole context
SLIDING_ATTENTION = "sliding_attention"  # ... and for layers that see the newest keys only


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes in channels and tokens. `original_context` is the native window L0 the model was trained to.

    A layer, here and in all that is measured, is one with attention, counted from 0. Hybrid models have others
    between them, without q and k (linear attention, short convolution): `decoder_layers` says which is which.
    """

    family: str
    n_layers: int  # with attention
    n_heads: int
    n_kv_heads: int
    head_dim: int  # from the config, never hidden_size // n_heads
    rotary_dim: int  # <= head_dim; later channels carry no RoPE
    pairing: Pairing
    theta: float
    original_context: int
    hidden_size: int
    vocab_size: int
    parameters: int
    finest: Granularity = "kv_head"  # finest granularity that scales can take exactly
    scaled_gain: bool = False  # the scale goes into a QK-norm's gain; W_Q and W_K stay as they are
    rope_kinds: tuple[str, ...] = ()  # each layer's block of rope_parameters, by name; empty: one block for all
    without_rope: tuple[int, ...] = ()  # layers whose q and k are never rotated: they have no bands and take no scale
    thetas: tuple[float, ...] = ()  # RoPE base of each layer; empty: `theta` for all
    v_head_dim: int | None = None  # channels of a value head; None: head_dim
    latent_dim: int = 0  # channels of the latent that K and V are made of; 0: none, the cache holds K and V
    windows: tuple[int | None, ...] = ()  # newest keys each layer sees, tokens, None for all; empty: all layers see all
    decoder_layers: tuple[int, ...] = ()  # number of each layer among all of the decoder's; empty: all have attention
    beside_softmax: str = ""  # what sees a constant on all logits of a row, so that none may be taken off K
    key_bias: str = "always"  # the config's switch for a bias of W_K, always: it has one; empty: its code reads none
    gguf_written: str = ""  # llama.cpp's architecture that a GGUF is written in, which reads that bias; empty: none is
    behind_values: str = ""  # what acts channel by channel between V and W_O, so that V takes no map; empty: nothing

    @property
    def n_pairs(self) -> int:
        """RoPE pairs per head."""
        return self.rotary_dim // 2

    @property
    def queries_per_kv(self) -> int:
        """Query heads that read one KV head (1 = MHA, n_heads = MQA)."""
        return self.n_heads // self.n_kv_heads

    @property
    def value_dim(self) -> int:
        """Channels of a value head."""
        return self.head_dim if self.v_head_dim is None else self.v_head_dim

    @property
    def interpolated_kind(self) -> str:
        """The block of rope_parameters that an interpolation changes; "" where there is one block only.

        Layers that see a short window only never meet a long distance, so theirs stays as it ships.
        """
        return FULL_ATTENTION if self.rope_kinds else ""

    def kind_of(self, layer: int) -> str:
        """Name of the block of rope_parameters that layer `layer` turns by, "" where there is one block only."""
        return self.rope_kinds[layer] if self.rope_kinds else ""

    def theta_of(self, layer: int) -> float:
        """RoPE base that layer `layer` turns by."""
        return self.thetas[layer] if self.thetas else self.theta

    def window_of(self, layer: int) -> int | None:
        """How many of the newest keys layer `layer` sees, tokens; None: all."""
        return self.windows[layer] if self.windows else None

    def decoder_layer(self, layer: int) -> int:
        """Where layer `layer` stands among all layers of the decoder."""
        return self.decoder_layers[layer] if self.decoder_layers else layer

    def attention_layer(self, decoder_layer: int) -> int:
        """Which layer the decoder's `decoder_layer`, one with attention, is."""
        return self.decoder_layers.index(decoder_layer) if self.decoder_layers else decoder_layer

    @property
    def decoder_numbers(self) -> list[int]:
        """The number of every layer among all layers of the decoder."""
        return [self.decoder_layer(layer) for layer in range(self.n_layers)]

    def quant_at(self, layer: int, quant: QuantSpec) -> QuantSpec:
        """The quantizers of layer `layer`: none of K and V where its cache is kept as it is."""
        return quant.of_layer(self.decoder_layer(layer))

    def rounding_layers(self, quant: QuantSpec) -> list[int]:
        """Layers whose cache is rounded; empty where neither K nor V is quantized, or every layer is kept."""
        if quant.k is None and quant.v is None:
            return []
        return [layer for layer in range(self.n_layers) if self.decoder_layer(layer) not in quant.keep_layers]

    def channel_band(self, bands: Bands) -> Tensor:
        """Band of each channel of a head, -1 without rotation; int64 (head_dim,)."""
        return band_of_channel(bands, self.head_dim, self.rotary_dim, self.pairing)

    def require_granularity(self, granularity: Granularity) -> None:
        """Raises BadSpec when scales this fine cannot be put into this family's weights exactly."""
        if granularity == "kv_head" and self.finest != "kv_head":
            shared = (
                f"has one rotated key for all {self.n_kv_heads} heads of a layer"
                if self.latent_dim
                else f"shares its QK-norm gain between all {self.n_kv_heads} KV heads of a layer"
            )
            raise BadSpec(
                f"{self.family} {shared}, so one scale per head cannot be exact",
                where=f"--granularity {granularity}",
                do=f"choose --granularity {self.finest}",
            )

    def require_turns(self) -> None:
        """Raises BadSpec where pairs cannot be turned: a norm's gain scales channels, it does not mix them."""
        if self.scaled_gain:
            raise BadSpec(
                f"{self.family} normalises q and k before RoPE, and the norm's gain cannot turn a pair",
                where="--angles",
                do="search scales alone",
            )

    def require_polish(self) -> None:
        """Raises BadSpec where tied pairs cannot be polished: RoPE turns no rows of each head's own."""
        why = ""
        if self.scaled_gain:
            why = "normalises q and k before RoPE, and the norm's gain cannot mix channels"
        elif self.latent_dim:
            why = "has one rotated key for all heads of a layer, made from the latent that its cache holds"
        elif len(set(self.rope_kinds)) > 1:
            why = "has layers that turn by frequencies of their own, of which a tie changes some"
        if why:
            raise BadSpec(f"{self.family} {why}", where="--polish", do="search without a polish")

    def require_value_maps(self) -> None:
        """Raises BadSpec where V's channels cannot be mixed: something between V and W_O tells them apart."""
        if self.behind_values:
            raise BadSpec(
                f"{self.family}'s {self.behind_values} between V and W_O, which a map of V's channels does not pass",
                where="--value-maps",
                do="search without value maps",
            )

    def require_k_offset(self) -> None:
        """Raises BadSpec where no constant can be taken off K: it has no place there, or the softmax would see it."""
        why = ""
        if self.scaled_gain:
            why = "normalises k between its bias and RoPE, so that a constant behind the norm cannot be folded"
        elif self.latent_dim:
            why = "makes its keys from a latent that the cache holds, so that no constant of K is rounded"
        elif self.beside_softmax:
            why = f"{self.beside_softmax}, so that its softmax sees a constant on all logits of a row"
        if why:
            raise BadSpec(f"{self.family} {why}", where="--k-offset", do="search without a K offset")

    @property
    def bare_keys(self) -> str:
        """Why no checkpoint for transformers holds a K offset; empty where one does."""
        no_bias = f"a K offset needs a bias of W_K, and transformers' code of {self.family} reads none"
        return "" if self.key_bias else no_bias

    def require_written_k_offset(self) -> None:
        """Raises BadSpec where no format of this family could hold a K offset: it would be of no use elsewhere."""
        if self.bare_keys and not self.gguf_written:
            raise BadSpec(
                f"{self.bare_keys}, nor is a GGUF of it written: it applies only inside this tool",
                where="--k-offset",
                do="search without a K offset",
            )

    def require_cache(self, quant: QuantSpec) -> None:
        """Raises BadSpec for a K or V quantizer where the cache holds no K and V to be quantized, or no such layer."""
        there = self.decoder_layers or range(self.n_layers)
        unknown = [layer for layer in quant.keep_layers if layer not in there]
        if unknown:
            known = ", ".join(map(str, there)) if self.decoder_layers else f"0 to {self.n_layers - 1}"
            raise BadSpec(
                f"layer {unknown[0]} has no K/V cache in this model", where="--keep-layers", do=f"choose from {known}"
            )
        if self.latent_dim and (quant.k is not None or quant.v is not None):
            raise BadSpec(
                f"{self.family}'s cache holds a latent and one rotated key per token, not K and V of its heads, "
                "so a K/V cache quantizer here would measure what no runtime does",
                where="--kv",
                do="quantize the weights (--weights) or the q/k activations (--qk)",
            )


class Described(Protocol):
    """What a scales file is checked against: a loaded model, or one that was only read about."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...
