"""Stage 4: the conditions side by side on held-out text.

{reference, quantized} x {identity, tuned} plus SmoothAttention and a Hadamard rotation without and with scales of its
own, and where pairs are tied the model without a tie, at every length on the same target tokens: each window ends at
the same place and only sees more or less of what came before.

Full windows score all targets of a text in one window of `length` tokens. Sliding ones (a `stride`) move on by
`stride` tokens and score the last `stride` of each window, so that every target sees at least length - stride
tokens. Beyond model and cache, memory holds what one chunk needs and three numbers per target.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.evaluation.findings import findings, position_curve
from qroar_core.evaluation.kl_report import kl_report
from qroar_core.evaluation.result import Evaluation, Row
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.score import Divergence
from qroar_core.models.shared_losses import SharedLosses
from qroar_core.models.stream import Condition
from qroar_core.models.text import Documents, windows
from qroar_core.models.window_losses import TokenLosses
from qroar_core.progress import OnStep, Step, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.result import exp
from qroar_core.scale_search.gain import on_held_out
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantSpec, RopeSpec
from qroar_core.specs.labels import CONDITION_WORDS
from qroar_core.statistics.intervals import mean_interval
from qroar_core.transforms.scales import Scales

CURVE_POINTS = 32  # points of the NLL-by-position curve


@dataclass(frozen=True, slots=True)
class _Named:
    model: str
    scales: str
    condition: Condition

    @property
    def key(self) -> str:
        return f"{self.model}/{self.scales}"


def run(
    loaded: LoadedModel,
    setting: Setting,
    tuned: Scales | None,
    smooth: Scales | None,
    documents: Documents,
    on_step: OnStep = no_progress,
    *,
    rotation_tuned: Scales | None = None,
    shared: SharedLosses | None = None,
) -> Evaluation:
    """Measure every condition at every length.

    Args:
        tuned, smooth: scales to compare with identity; None leaves the condition out.
        documents: held-out text.
        rotation_tuned: scales that were searched under `rotated(quant)`; measured under it, beside the rotation alone.
        shared: what evaluations before have measured on the same windows is taken from here, not measured again.
    Raises:
        BadText: too little text for the windows asked.
        BadSpec: targets or a stride that fill the shortest length, or scales for a rotation that does not apply.
    """
    rope, quant, spec = setting.rope, setting.quant, setting.evaluation
    lengths = spec.lengths or default_lengths(loaded, rope)
    targets, stride = scored(spec, lengths)
    texts = windows(
        loaded.tokenizer, documents, max(lengths) + targets - stride, spec.windows, spec.seed, fewer=spec.fewer, least=2
    )
    named = _conditions(rope, quant, tuned, smooth, spec.rotation, rotation_tuned)
    rows: list[Row] = []
    nll: dict[str, list[float]] = {}
    kl: dict[str, list[float]] = {}
    done, total = 0, len(lengths) * len(named)
    curves: dict[str, list[list[float]]] = {}
    for length in lengths:
        ids = sliding(texts.ids, length, targets, stride, texts.opening)
        with SharedLosses() if shared is None else nullcontext(shared) as losses:
            measured = losses.on(loaded, rope, ids, stride, spec.chunk)
            reference: TokenLosses | None = None
            for one in named:
                step = subprogress(_as_evaluate(on_step), done, done + 1, total)
                what = f"{CONDITION_WORDS[one.key]}, {length:,} tokens"
                seen = _by_text(measured.losses(one.condition, what, step), len(texts))
                reference = reference or seen
                rows.append(_row(length, one, seen, reference))
                nll[f"{length}/{one.key}"] = seen.per_window
                kl[f"{length}/{one.key}"] = _apart(seen).kl.double().clamp_min(0).mean(1).tolist()
                if length == max(lengths):
                    curves[one.key] = _curve(seen.nll, stride)
                done += 1
    longest = max(lengths)
    at_longest = {key.split("/", 1)[1]: v for key, v in nll.items() if key.startswith(f"{longest}/")}
    where = on_held_out(len(texts), longest, targets, spec.stride)
    slides = "" if spec.stride is None else f", windows sliding by {stride}"
    return Evaluation(
        rows=rows,
        text=f"{texts.counted}, {targets} targets each{slides}, digest {texts.digest}, seed {spec.seed}{texts.noted}"
        f"{replacing(loaded, rope)}{what_a_query_reads(quant)}",
        stride=spec.stride,
        window_nll=nll,
        window_kl=kl,
        positions=position_curve(_curve_positions(longest, stride), curves, spec.confidence),
        **findings(at_longest, longest, spec.confidence, texts.documents, where),
    )


def scored(spec: EvaluationSpec, lengths: tuple[int, ...]) -> tuple[int, int]:
    """Target tokens of a text, and how many of them one window scores: all of them unless it slides.

    Raises:
        BadSpec: they fill the shortest length.
    """
    shortest, stride = min(lengths), spec.stride
    if stride is not None and stride >= shortest:
        raise BadSpec(f"a stride of {stride} needs a length above that", where="--lengths", do="slide by fewer tokens")
    targets = spec.targets or max(1, shortest // 2 if len(lengths) > 1 else shortest - 1)
    if stride is not None:
        return spec.targets or max(1, targets // stride) * stride, stride
    if targets >= shortest:
        raise BadSpec(f"{targets} targets need a length above that", where="--lengths", do="score fewer tokens")
    return targets, targets


def sliding(ids: Tensor, length: int, targets: int, stride: int, opening: int = 0) -> Tensor:
    """The windows of `length` tokens that score the last `targets` of each text, `stride` each, in reading order.

    Args:
        ids: (texts, at least length + targets - stride). targets: a multiple of stride.
        opening: so many first tokens of each text stand before every window (BOS), whatever the window.
    Returns:
        (texts * targets / stride, length), the windows of one text together.
    """
    own = length - opening
    text = ids[:, opening:][:, -(own + targets - stride) :]
    each = text.unfold(1, own, stride)  # (texts, windows, own)
    front = ids[:, None, :opening].expand(-1, each.shape[1], -1)
    return torch.cat((front, each), dim=2).flatten(0, 1)


def default_lengths(loaded: LoadedModel, rope: RopeSpec) -> tuple[int, ...]:
    """The native window and, under a PI, the window it promises."""
    native, promised = loaded.geometry.original_context, promised_length(loaded, rope)
    return (native,) if promised == native else (native, promised)


def _conditions(
    rope: RopeSpec,
    quant: QuantSpec,
    tuned: Scales | None,
    smooth: Scales | None,
    rotation: bool,
    rotation_tuned: Scales | None,
) -> list[_Named]:
    named = [_Named("reference", "identity", Condition(rope))]
    if tuned is not None:
        named.append(_Named("reference", "tuned", Condition(rope, scales=tuned)))
    turned = rotated(quant) if rotation_tuned is None else must_rotate(quant)
    if not rotation and rotation_tuned is None:
        turned = None
    untied = replace(rope, tie=())
    if rope.tie:
        named.append(_Named("reference", "untied", Condition(untied)))
    if quant.is_none:
        return named
    named.append(_Named("quantized", "identity", Condition(rope, quant)))
    if rope.tie:
        named.append(_Named("quantized", "untied", Condition(untied, quant)))
    for label, scales in (("tuned", tuned), ("smooth_attention", smooth)):
        if scales is not None:
            named.append(_Named("quantized", label, Condition(rope, quant, scales)))
    if turned is not None:
        named.append(_Named("quantized", "rotation", Condition(rope, turned)))
        if rotation_tuned is not None:
            named.append(_Named("quantized", "rotation_tuned", Condition(rope, turned, rotation_tuned)))
    return named


def rotated(quant: QuantSpec) -> QuantSpec | None:
    """The same quantizers behind a Hadamard rotation of q and k, or None where that does not apply."""
    turned = quant.k.rotated if quant.k is not None else None
    return None if turned is None else replace(quant, k=turned)


def must_rotate(quant: QuantSpec) -> QuantSpec:
    """`rotated(quant)`.

    Raises:
        BadSpec: a rotation does not apply.
    """
    turned = rotated(quant)
    if turned is None:
        raise BadSpec(
            "a Hadamard rotation does not apply to this K quantizer, or it has one",
            where="--rotation-scales",
            do="drop it, or choose a K quantizer per token or per block of channels",
        )
    return turned


def _by_text(seen: TokenLosses, texts: int) -> TokenLosses:
    """(texts * n, stride) of the windows of a text side by side -> (texts, targets)."""
    apart = seen.apart
    if apart is not None:
        apart = Divergence(apart.kl.reshape(texts, -1), apart.same_top1.reshape(texts, -1))
    return TokenLosses(seen.nll.reshape(texts, -1), apart)


def _row(length: int, one: _Named, seen: TokenLosses, reference: TokenLosses) -> Row:
    over = mean_interval(seen.per_window)
    apart = _apart(seen)
    close = kl_report(reference.nll, seen.nll, apart.kl, apart.same_top1)
    return Row(
        length=length,
        model=one.model,  # type: ignore[arg-type]
        scales=one.scales,  # type: ignore[arg-type]
        nll=over.mean,
        nll_se=over.se,
        ppl=exp(over.mean),
        tokens=seen.nll.numel(),
        kl_mean=close.kl_mean,
        kl_p99=close.kl["99"],
        same_top1=close.same_top1,
        close=close,
    )


def _apart(seen: TokenLosses) -> Divergence:
    """From the reference, which is not apart from itself."""
    return seen.apart or Divergence(torch.zeros_like(seen.nll), torch.ones_like(seen.nll, dtype=torch.bool))


def _curve(nll: Tensor, stride: int) -> list[list[float]]:
    """(texts, targets) -> (texts, points): means by position in the window, over the windows of a text."""
    at = nll.double().reshape(nll.shape[0], -1, stride).mean(1)
    pieces = at.tensor_split(min(CURVE_POINTS, stride), dim=1)
    return torch.stack([piece.mean(1) for piece in pieces], 1).tolist()


def _curve_positions(length: int, stride: int) -> list[int]:
    at = torch.arange(length - stride, length).tensor_split(min(CURVE_POINTS, stride))
    return [int(piece.double().mean()) for piece in at]


def _as_evaluate(on_step: OnStep) -> OnStep:
    return lambda step: on_step(Step("evaluate", step.done, step.total, step.what, step.detail))
