"""Retrieval by depth and length: a number hidden in held-out text, asked for under each condition.

Each prompt is read once a condition, through the same stream and cache as everything else. Behind it the true answer
and the other choices are scored, teacher-forced, and then the model answers greedily; the cache is taken back to the
prompt in between. The trials are the same under every condition, so that differences are paired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.bos import opening
from qroar_core.models.cache_snapshot import forced_log_prob
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.decode import decode_from, end_tokens, read
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.stream import Stream, open_stream
from qroar_core.models.text import Documents, bos_of
from qroar_core.number_of import number_of
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.retrieval.answers import outcome_of
from qroar_core.retrieval.findings import QUANTIZED, REFERENCE, TUNED, findings
from qroar_core.retrieval.prompts import Prompt, chat_template, prompts
from qroar_core.retrieval.result import Retrieval, Trial
from qroar_core.setting import Setting
from qroar_core.specs import RetrievalSpec, RopeSpec
from qroar_core.specs.labels import CONDITION_WORDS
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True, eq=False)
class _Named:
    who: tuple[str, str]  # model, scales
    condition: Condition

    @property
    def key(self) -> str:
        return "/".join(self.who)


def run(
    loaded: LoadedModel,
    setting: Setting,
    scales: Scales | None,
    spec: RetrievalSpec,
    documents: Documents,
    on_step: OnStep = no_progress,
) -> Retrieval:
    """Ask every trial of the reference, of the quantizers, and of the quantizers with the scales.

    Static ranges of per-tensor quantizers are calibrated on the first prompt of each length.

    Args:
        scales: None leaves the condition out.
        documents: held-out text to hide the numbers in.
    Raises:
        BadText: documents shorter than a length, or a chat template that cannot be applied.
    """
    rope, quant = setting.rope, setting.quant
    lengths = spec.lengths or default_lengths(loaded, rope)
    named = [_Named(REFERENCE, Condition(rope))]
    if not quant.is_none:
        named.append(_Named(QUANTIZED, Condition(rope, quant)))
        if scales is not None:
            named.append(_Named(TUNED, Condition(rope, quant, scales)))
    asked = {n: list(prompts(loaded.tokenizer, documents, spec, n)) for n in lengths}
    every = [p for of_length in asked.values() for p in of_length]
    unfit = Counter((p.task, p.length, p.depth) for p in every if p.ids is None)
    total = len(named) * sum(len(p.ids) + p.budget for p in every if p.ids is not None)
    trials: list[Trial] = []
    done = 0
    for length, of_length in asked.items():
        fitting = [p for p in of_length if p.ids is not None]
        for one in named if fitting else ():
            assert fitting[0].ids is not None  # they fit
            condition = calibrated(loaded, one.condition, fitting[0].ids, spec.chunk)
            with open_stream(loaded, condition, length, chunk=spec.chunk) as stream:
                for p in fitting:
                    what = f"{CONDITION_WORDS[one.key]}, {length:,} tokens, {p.task} {p.depth:.0%} deep"

                    def on_token(fed: int, before: int = done, what: str = what) -> None:
                        on_step(Step("retrieve", before + fed, total, what))

                    trials.append(_trial(loaded, stream, one.who, p, on_token))
                    done += len(p.ids) + p.budget  # type: ignore[arg-type]
    said = _start_said(loaded, documents, every)
    places = [(length, depth) for length in lengths for depth in spec.depths]
    return Retrieval(
        spec=asdict(spec),
        lengths=list(lengths),
        depths=list(spec.depths),
        choices=spec.choices,
        slack=spec.slack,
        chat=spec.chat and chat_template(loaded.tokenizer),
        confidence=spec.confidence,
        text=f"{number_of(spec.trials, 'trial')} per task, length and depth "
        f"in {number_of(len(documents), 'document')}, "
        f"seed {spec.seed}{f', {said}' * bool(said)}{replacing(loaded, rope)}{what_a_query_reads(quant)}",
        trials=trials,
        **findings(spec.tasks, places, trials, unfit, spec.choices, spec.confidence),
    )


def default_lengths(loaded: LoadedModel, rope: RopeSpec) -> tuple[int, ...]:
    """The native window and, under a PI, the window it promises."""
    native, promised = loaded.geometry.original_context, promised_length(loaded, rope)
    return (native,) if promised == native else (native, promised)


def _start_said(loaded: LoadedModel, documents: Documents, every: list[Prompt]) -> str:
    """What the prompts start with: what every window does, or BOS where only the chat template writes it."""
    start, tokenizer = opening(loaded.tokenizer, bos_of(documents)), loaded.tokenizer
    firsts = {int(p.ids[0]) for p in every if p.ids is not None}
    if not start.ids and firsts and firsts == {tokenizer.bos_token_id}:
        return f"each prompt starts with {tokenizer.bos_token}, which the chat template writes"
    return start.said("prompt")


def _trial(
    loaded: LoadedModel, stream: Stream, who: tuple[str, str], p: Prompt, on_token: Callable[[int], None]
) -> Trial:
    """One prompt: read, every candidate scored, one answer generated."""
    assert p.ids is not None
    hidden = read(loaded, stream, p.ids, on_token)
    scored = [float(forced_log_prob(loaded, stream, hidden, choice).double().mean()) for choice in p.choices]
    chosen = decode_from(loaded, stream, hidden, p.budget, on_token)
    said = loaded.tokenizer.decode(chosen.tokens, skip_special_tokens=True)
    return Trial(
        task=p.task,
        length=p.length,
        depth=p.depth,
        trial=p.trial,
        model=who[0],  # type: ignore[arg-type]
        scales=who[1],  # type: ignore[arg-type]
        prompt_tokens=len(p.ids),
        answer_at=p.answer_at,
        answer=p.answer,
        said=said,
        outcome=outcome_of(said, p.answer, chosen.tokens[-1] in end_tokens(loaded)),
        log_prob=scored[0],
        rank=1 + sum(other >= scored[0] for other in scored[1:]),
        margin=scored[0] - sum(scored[1:]) / len(scored[1:]),
    )
