"""`Setup`: interpolation, quantizers, bands, context and text, as the functions of the library take them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from qroar_core.checks import at_least, of_kind, one_of, whole
from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.library.refusal_words import in_parameters
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.models.text_choice import text_label, texts_of
from qroar_core.quantizers.parse import INT_BITS, parse_activation, parse_cache_option, parse_weights
from qroar_core.quantizers.presets import WEIGHT_PRESETS
from qroar_core.quantizers.spec import QuantizerSpec, QuantSpec, ScaleAxis
from qroar_core.setting import Setting, default_setting
from qroar_core.specs import BandSpec, Bos, RopeSpec
from qroar_core.specs.stages import LEAST_DIAGNOSED

LEAST_TOKENS = 8  # of a context that any stage takes
WEIGHT_OPTIONS = {"weight_scale": "channel", "weight_group": 128}  # where nobody asks
INTEGERS = f"choose one of {', '.join(f'int{bits}' for bits in INT_BITS)}"


@dataclass(frozen=True, slots=True, repr=False)
class Setup:
    """What is measured, on any model.

    What stays None is filled in by `resolve` for a model, as the command line does.

    Args:
        rope: the interpolation. None: YaRN x4 for the demo model, the checkpoint's own RoPE for every other.
        quantization: what is quantized; see `quantization`. None: the K cache at int4, a scale per token and head.
        length: context in tokens. None: what the interpolation promises, at most 2,048 on a CPU, 16,384 on a GPU.
        bands: frequency bands, or how RoPE pairs are grouped into them. None: 8, or as many as there are pairs.
        text: an embedded collection (`messages`, `technical`, `novels`) or a text file.
        bos: whether every window starts with the BOS token; `auto`: where the tokenizer puts it before a text.
        seed: of everything that is drawn: windows, query rows, nulls, proposals of the search.
    """

    rope: RopeSpec | None = None
    quantization: QuantSpec | None = None
    length: int | None = None
    bands: BandSpec | int | None = None
    text: str | Path = "messages"
    bos: Bos = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no model could make right.

        Raises:
            BadSpec: a value of a wrong kind, an unknown word, too short a length, no band, or a seed below 0.
        """
        for name, kinds, words, do in (
            ("rope", RopeSpec, "an interpolation", 'give qroar.Rope("yarn", factor=4)'),
            ("quantization", QuantSpec, "what is quantized", 'give qroar.quantization(kv="int4")'),
            ("length", int, "a whole number of tokens", ""),
            ("bands", (int, BandSpec), "a whole number, or bands", ""),
        ):
            if getattr(self, name) is not None:
                of_kind(f"Setup({name}=...)", getattr(self, name), kinds, words, do)
        if self.length is not None and self.length < LEAST_TOKENS:
            raise too_short(self.length)
        if isinstance(self.bands, int):
            at_least("Setup(bands=...)", self.bands, 1)
        of_kind("Setup(text=...)", self.text, (str, Path), "an embedded collection or a text file")
        of_kind("Setup(seed=...)", self.seed, int, "a whole number")
        at_least("Setup(seed=...)", self.seed, 0)
        one_of("bos", self.bos, Bos)

    def __repr__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"qroar.Setup({', '.join(given)})"

    def _repr_html_(self) -> str:
        return f"<p><code>{html.escape(repr(self))}</code></p>"

    def resolve(self, model: LoadedModel) -> Setting:
        """Everything that decides a run's numbers on this model.

        Raises:
            BadSpec: a length that the interpolation does not reach, or bands that do not fit.
            BadText: a text file that cannot be read.
        """
        base = default_setting(model, self.rope, self.quantization, self.length, self.bos)
        bands = BandSpec(self.bands) if isinstance(self.bands, int) else self.bands or base.search.bands
        bands_of(model, bands)
        return replace(
            base,
            diagnosis=replace(base.diagnosis, bands=bands, seed=self.seed),
            search=replace(base.search, bands=bands, seed=self.seed),
            evaluation=replace(base.evaluation, seed=self.seed),
            text=text_label(str(self.text)),
        )

    def texts(self) -> Texts:
        """Documents of "calibration", "development" and "heldout"."""
        return texts_of(str(self.text), bos=self.bos)


def too_short(length: int) -> BadSpec:
    """What is raised of a context with too few tokens, of which any stage takes those that a diagnosis takes."""
    do = f"give at least {LEAST_DIAGNOSED}"
    return BadSpec(f"{length} tokens are too few to diagnose", where="Setup(length=...)", do=do)


@in_parameters
def quantization(
    k: str | None = None,
    v: str | None = None,
    kv: str | None = None,
    weights: str | None = None,
    qk: str | None = None,
    activations: str | None = None,
    *,
    kv_scale: ScaleAxis | None = None,
    group_size: int | None = None,
    kv_rotation: bool = False,
    k_before_rope: bool = False,
    weight_scale: str = "channel",
    weight_group: int = 128,
    keep_layers: Sequence[int] = (),
) -> QuantSpec:
    """What is quantized, in the words of the command line: `quantization(kv="int4")`, `quantization(kv="q4_0")`.

    Args:
        k, v: `int2` to `int8`, or a runtime's cache by name (`quantizers.presets.KV_PRESETS`). None: full precision.
        kv: the same for both.
        weights: `int2` to `int8`, or a weight format (`quantizers.presets.WEIGHT_PRESETS`).
        qk: `int2` to `int8` for q and k where they enter the logits.
        activations: `int2` to `int8` for what every linear layer reads, one scale a token.
        kv_scale: what shares a scale in an intN cache: `token` (and head), `block` of channels, `channel` of a group of
            tokens, `tensor`.
        group_size: channels of a block, or tokens of a channel's group; 32 where it is not given.
        kv_rotation: a Hadamard rotation of each head before rounding, undone after.
        k_before_rope: K is quantized before its rotation by RoPE.
        weight_scale: `tensor`, `channel` (a row) or `group` of inputs of a row.
        weight_group: inputs of a row that share a scale, of `group` alone.
        keep_layers: layers of the decoder whose K and V are not quantized, counted from 0.
    Raises:
        BadSpec: an unknown word, or options that exclude each other; the message lists what there is.
    """
    given = {"k": k, "v": v, "kv": kv, "weights": weights, "qk": qk, "activations": activations}
    for name, word in given.items():
        if word is not None:
            do = f'give for example quantization({name}="int4")'
            of_kind(f"quantization({name}=...)", word, str, "a word", do)
    if group_size is not None:
        whole("quantization(group_size=...)", group_size, 2)
    whole("quantization(weight_group=...)", weight_group, 2)
    _require_heard("weight_scale", weight_scale, weights)
    _require_heard("weight_group", weight_group, weights)
    if kv is not None and (k is not None or v is not None):
        raise BadSpec("kv names K and V together", where="quantization(kv=...)", do="give kv, or k and v")
    k, v = (kv, kv) if kv is not None else (k, v)
    rotation = "hadamard" if kv_rotation else None

    def cache(text: str | None, tensor: str) -> QuantizerSpec | None:
        return parse_cache_option(
            text or "none",
            tensor,  # type: ignore[arg-type]
            kv_scale=kv_scale,
            group_size=group_size,
            kv_rotation=rotation,  # type: ignore[arg-type]
            where=f"quantization({tensor if kv is None else 'kv'}=...)",
        )

    given_to_cache = kv_scale or group_size or kv_rotation or k_before_rope or keep_layers
    if k in (None, "none") and v in (None, "none") and given_to_cache:
        raise BadSpec("nothing in the cache is quantized", where="quantization", do='add kv="int4"')
    key, value = cache(k, "k"), cache(v, "v")
    if k_before_rope:
        if key is None:
            raise BadSpec("needs a K quantizer", where="quantization(k_before_rope=...)", do='add k="int4"')
        key = replace(key, before_rope=True)
    return QuantSpec(
        weights=parse_weights(
            weights or "none",
            weight_scale,
            weight_group,
            where="quantization(weights=...)",
            do=f"{INTEGERS}, {', '.join(WEIGHT_PRESETS)}",
        ),
        k=key,
        v=value,
        qk=parse_activation(qk or "none", where="quantization(qk=...)", do=INTEGERS),
        activations=parse_activation(activations or "none", where="quantization(activations=...)", do=INTEGERS),
        keep_layers=keep_layers,  # type: ignore[arg-type]
        name=k if k is not None and k == v else "",
    )


def _require_heard(option: str, value: object, weights: str | None) -> None:
    """Raises BadSpec where an option of the weights would change nothing: none are quantized, or by a preset."""
    if value == WEIGHT_OPTIONS[option]:
        return
    if weights in (None, "none"):
        do = 'add weights="int4"'
        raise BadSpec("no weights are quantized", where=f"quantization({option}=...)", do=do)
    if weights in WEIGHT_PRESETS:
        where = "quantization(weights=...)"
        raise BadSpec(f"preset {weights} brings its own scales", where=where, do=f"drop {option}")
