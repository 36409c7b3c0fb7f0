"""The same prompt continued by the models side by side, greedily, so that every difference is the condition's.

By default the prompt is the start of a held-out window of the whole length, so that the long context
matters and the text's own continuation is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qroar_core.errors import BadText
from qroar_core.evaluation.continuations_result import Continuation, Continuations
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.bos import opening
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.decode import added_text, decode
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Document, Documents, bos_of, encode, windows
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.setting import Setting
from qroar_core.specs import ContinuationSpec
from qroar_core.specs.labels import CONDITION_WORDS
from qroar_core.transforms.scales import Scales

SHOWN_TOKENS = 120  # of the prompt's end
TOKEN_COST = 24  # reading this many prompt tokens takes about as long as taking one new token


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    ids: Tensor  # int64 (n,)
    left_out: int
    origin: str
    actual: str


def run(
    loaded: LoadedModel,
    setting: Setting,
    tuned: Scales | None,
    smooth: Scales | None,
    spec: ContinuationSpec,
    documents: Documents,
    on_step: OnStep = no_progress,
) -> Continuations:
    """Continue one prompt under the reference, the quantizers, and the quantizers with each of the scales.

    Static ranges of per-tensor quantizers are calibrated on the prompt.

    Args:
        tuned, smooth: scales to compare with identity; None leaves the condition out.
        documents: held-out text, for a spec without a prompt of its own.
    Raises:
        BadText: a prompt without a token, or documents shorter than the length.
    """
    rope, quant = setting.rope, setting.quant
    window = spec.length or promised_length(loaded, rope)
    prompt = _prompt(loaded, spec, window, documents)
    named = [("reference", "identity", Condition(rope))]
    if not quant.is_none:
        named.append(("quantized", "identity", Condition(rope, quant)))
        for label, scales in (("tuned", tuned), ("smooth_attention", smooth)):
            if scales is not None:
                named.append(("quantized", label, Condition(rope, quant, scales)))
    rows: list[Continuation] = []
    read = len(prompt.ids)
    length = read + spec.tokens
    each = read + TOKEN_COST * spec.tokens
    for i, (model, scales_name, asked) in enumerate(named):

        def on_token(fed: int, i: int = i, what: str = CONDITION_WORDS[f"{model}/{scales_name}"]) -> None:
            done = fed if fed < read else read + TOKEN_COST * (fed - read)
            on_step(Step("continuations", i * each + done, len(named) * each, what))

        condition = calibrated(loaded, asked, prompt.ids, spec.chunk)
        chosen = decode(loaded, condition, prompt.ids, spec.tokens, length=length, chunk=spec.chunk, on_token=on_token)
        rows.append(
            Continuation(
                model=model,  # type: ignore[arg-type]
                scales=scales_name,  # type: ignore[arg-type]
                tokens=chosen.tokens,
                pieces=added_text(loaded.tokenizer, prompt.ids.tolist()[-SHOWN_TOKENS:], chosen.tokens),
                log_prob=chosen.log_prob,
                departs_at=_departure(rows[0].tokens if rows else chosen.tokens, chosen.tokens),
            )
        )
    return Continuations(
        prompt_tokens=read,
        left_out=prompt.left_out,
        prompt_end=loaded.tokenizer.decode(prompt.ids[-SHOWN_TOKENS:].tolist()),
        origin=prompt.origin + what_a_query_reads(quant),
        actual=prompt.actual,
        length=length,
        rows=rows,
    )


def _prompt(loaded: LoadedModel, spec: ContinuationSpec, length: int, documents: Documents) -> _Prompt:
    start = opening(loaded.tokenizer, bos_of(documents))
    room = length - spec.tokens
    if room <= len(start):
        raise BadText(f"{spec.tokens} new tokens leave no room for a prompt in {length}", do="ask for fewer")
    if not spec.prompt:
        found = windows(loaded.tokenizer, documents, length, 1, spec.seed)
        (name, at), ids = found.origin[0], found.ids[0]
        rest = "".join(added_text(loaded.tokenizer, ids[:room].tolist()[-SHOWN_TOKENS:], ids[room:].tolist()))
        where = f"tokens {at} to {at + room - len(start) - 1}" if found.unit == "token" else f"from {found.unit} {at}"
        return _Prompt(ids[:room], 0, ", ".join(filter(None, (name, where, start.said("prompt")))), rest)
    ids = encode(loaded.tokenizer, Document("prompt", spec.prompt))
    if not len(ids):
        raise BadText("the prompt holds no token", do="type some words")
    fits = room - len(start)
    where = ", ".join(filter(None, ("your own text", start.said("prompt"))))
    return _Prompt(start.before(ids[-fits:]), max(0, len(ids) - fits), where, "")


def _departure(reference: list[int], mine: list[int]) -> int | None:
    """First index where `mine` is not `reference`, the shorter one's end included; None when they are equal."""
    for i, (a, b) in enumerate(zip(reference, mine, strict=False)):
        if a != b:
            return i
    return None if len(reference) == len(mine) else min(len(reference), len(mine))
