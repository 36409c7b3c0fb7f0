"""Replication: the papers' claims, tested on one model under several settings.

Each setting comes with its diagnosis and the scales searched under it. What is measured here is NLL on held-out text,
token by token, so that one pass over the long windows serves every claim about them. Short contexts are the same
windows cut into pieces; the model's own RoPE is measured once a quantizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadSpec
from qroar_core.evidence.replication import result as results
from qroar_core.evidence.replication.claims import amplified, perplexity, pressure, short_context, tails, untestable
from qroar_core.evidence.replication.result import Claim, Name, Replication
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.stream import Condition
from qroar_core.models.text import Documents, windows
from qroar_core.models.window_losses import measure
from qroar_core.progress import OnStep, Step, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.specs import QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.specs.labels import quant_words, rope_words, setting_words
from qroar_core.specs.written import written
from qroar_core.transforms.scales import Scales

OWN_ROPE = RopeSpec()
NO_SCALES = "no scales were found to act here"
MOST_PASSES = 8  # over the held-out windows, a setting; fewer where settings share a condition


@dataclass(frozen=True, slots=True, eq=False)
class ReplicationSetting:
    """One setting: `scales` are those searched under it, `note` why there are none if there are none."""

    rope: RopeSpec
    quant: QuantSpec
    scales: Scales
    diagnosis: Diagnosis | None = None
    note: str = NO_SCALES


def measure_claims(
    loaded: LoadedModel,
    cases: Sequence[ReplicationSetting],
    spec: ReplicationSpec,
    documents: Documents,
    on_step: OnStep = no_progress,
) -> Replication:
    """Test every claim under every setting.

    Args:
        documents: held-out text.
    Raises:
        BadSpec: no setting, one that quantizes nothing, or a short context that is none.
        BadText: too little text for the windows asked.
    """
    if not cases or any(case.quant.is_none for case in cases):
        raise BadSpec("a replication needs setups that quantize something", where="replicate")
    native = loaded.geometry.original_context
    length = spec.length or max(promised_length(loaded, case.rope) for case in cases)
    short = spec.short_length or min(native, max(2, length // 4))
    if short > min(native, length - 1):
        raise BadSpec(
            f"a short context of {short} tokens must lie within the native window {native} and below {length}",
            where="replicate",
        )
    texts = windows(loaded.tokenizer, documents, length, spec.windows, spec.seed, fewer=spec.fewer, least=2)
    scorer = _Scorer(loaded, texts.ids, texts.opening, short, spec.chunk, on_step, total=MOST_PASSES * len(cases))
    tested = [_tested(scorer, case, spec) for case in cases]
    return Replication(
        spec=asdict(spec),
        length=length,
        short_length=short,
        native=native,
        windows=len(texts),
        confidence=spec.confidence,
        tolerance=spec.tolerance,
        least_cut=spec.least_cut,
        text=f"{texts.counted} of {length} tokens, digest {texts.digest}, seed {spec.seed}{texts.noted}"
        f"{''.join(dict.fromkeys(replacing(loaded, case.rope) for case in cases))}"
        f"{_reads([case.quant for case in cases])}",
        cases=tested,
    )


def _reads(quants: Sequence[QuantSpec]) -> str:
    """What a query reads under each of the quantizers, named where they differ."""
    said = {quant: what_a_query_reads(quant) for quant in quants}
    if len(set(said.values())) == 1:
        return said[quants[0]]
    return "".join(text.replace("; the", f"; under {quant_words(quant)} the", 1) for quant, text in said.items())


@dataclass(slots=True, eq=False)
class _Scorer:
    """The held-out windows and what was measured on them: NLL token by token, nats."""

    loaded: LoadedModel
    ids: Tensor  # (windows, length)
    opening: int  # tokens that stand before the text of every window
    short: int
    chunk: int
    on_step: OnStep
    total: int
    done: int = 0
    known: dict[tuple, Tensor] = field(default_factory=dict)  # of conditions without scales

    @property
    def within(self) -> bool:
        """True when the long windows fit the native window."""
        return self.ids.shape[1] <= self.loaded.geometry.original_context

    def long(self, rope: RopeSpec, quant: QuantSpec, scales: Scales | None = None) -> Tensor:
        """(windows, length - 1)."""
        return self._nll(rope, quant, scales, self.ids)

    def pieces(self, rope: RopeSpec, quant: QuantSpec, scales: Scales | None = None) -> Tensor:
        """(windows, pieces, short - 1): each window cut into short contexts; the last ends where the window ends."""
        front, text = self.ids[:, : self.opening], self.ids[:, self.opening :]
        own = self.short - self.opening  # tokens of the text in a piece
        count = text.shape[1] // own
        cut = text[:, -count * own :].reshape(-1, own)
        cut = torch.cat((front.repeat_interleave(count, 0), cut), dim=1)  # (windows * pieces, short)
        return self._nll(rope, quant, scales, cut).view(len(self.ids), count, -1)

    def _nll(self, rope: RopeSpec, quant: QuantSpec, scales: Scales | None, ids: Tensor) -> Tensor:
        key = (rope, quant, ids.shape)
        if scales is None and key in self.known:
            return self.known[key]
        what = f"{rope_words(rope)}, {ids.shape[1]} tokens"

        def renamed(step: Step) -> None:
            self.on_step(Step("replicate", step.done, step.total, what))

        condition = calibrated(self.loaded, Condition(rope, quant, scales), ids[:1], self.chunk)
        step = subprogress(renamed, self.done, self.done + 1, self.total)
        seen = measure(self.loaded, condition, ids, ids.shape[1] - 1, chunk=self.chunk, on_step=step).nll.double()
        self.done += 1
        if scales is None:
            self.known[key] = seen
        return seen


def _tested(scorer: _Scorer, case: ReplicationSetting, spec: ReplicationSpec) -> results.SettingClaims:
    """All claims of one setting."""
    sure = spec.confidence
    claims = [
        *_amplified(scorer, case, sure),
        *(_pressure(name, case, sure) for name in ("pressure", "weighted_pressure")),
        *(tails(name, case.diagnosis, sure) for name in ("tails_k", "tails_q")),
        _short(scorer, case, spec),
        _perplexity(scorer, case, spec),
    ]
    return results.SettingClaims(
        name=setting_words(case.rope, case.quant),
        rope=written(case.rope),
        quantization=asdict(case.quant),
        claims=claims,
    )


def _pressure(name: Name, case: ReplicationSetting, confidence: float) -> Claim:
    if case.rope == OWN_ROPE:
        return untestable(name, "nothing is interpolated")
    return pressure(name, case.diagnosis, confidence)


def _amplified(scorer: _Scorer, case: ReplicationSetting, confidence: float) -> list[Claim]:
    if case.rope == OWN_ROPE:
        return [untestable(name, "nothing is interpolated") for name in ("amplified", "amplified_long")]
    if scorer.within:
        length = scorer.ids.shape[1]
        here, own = (_means(_cost(scorer.long, rope, case.quant)) for rope in (case.rope, OWN_ROPE))
        why = f"{length} tokens lie within the native window of {scorer.loaded.geometry.original_context}"
        return [amplified("amplified", here, own, confidence, f"at {length} tokens"), untestable("amplified_long", why)]
    short = [_cost(scorer.pieces, rope, case.quant) for rope in (case.rope, OWN_ROPE)]
    last = scorer.short // 2  # target tokens that have at least half the short context before them
    far = _cost(scorer.long, case.rope, case.quant)[:, -last:]
    near = short[1][:, -1, -last:]
    where = f"the last {last} tokens of {scorer.ids.shape[1]} and of {scorer.short}"
    return [
        amplified("amplified", _means(short[0]), _means(short[1]), confidence, f"at {scorer.short} tokens"),
        amplified("amplified_long", _means(far), _means(near), confidence, where),
    ]


def _cost(read: Callable[[RopeSpec, QuantSpec], Tensor], rope: RopeSpec, quant: QuantSpec) -> Tensor:
    """What quantization costs every token, nats."""
    return read(rope, quant) - read(rope, QuantSpec())


def _short(scorer: _Scorer, case: ReplicationSetting, spec: ReplicationSpec) -> Claim:
    if case.scales.is_identity:
        return untestable("short_context", case.note)
    if case.scales.mode != "symmetric":
        return untestable("short_context", f"the scales are {case.scales.mode}, the claim is about symmetric ones")
    before, after = (scorer.pieces(case.rope, case.quant, scales) for scales in (None, case.scales))
    return short_context(_means(before), _means(after), spec.tolerance, spec.confidence, scorer.short)


def _perplexity(scorer: _Scorer, case: ReplicationSetting, spec: ReplicationSpec) -> Claim:
    before = _means(scorer.long(case.rope, case.quant))
    still = case.scales.is_identity  # then nothing is cut, exactly
    after = before if still else _means(scorer.long(case.rope, case.quant, case.scales))
    return perplexity(
        before, after, spec.least_cut, spec.confidence, scorer.ids.shape[1], f"{case.note}; " if still else ""
    )


def _means(nll: Tensor) -> list[float]:
    """Mean of each window."""
    return nll.flatten(1).mean(1).tolist()
