"""Tasks of lm-evaluation-harness under each condition: the reference, the quantizers, the quantizers with the scales.

The harness makes the questions and scores the answers; what lies between is this tool's own stream, with the cache,
the quantizers and the frequencies that `evaluate` measures. Questions and examples are the same under every
condition, so that differences are paired by document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from numbers import Real
from typing import Any

from qroar_core.harness.findings import Samples, Who, changes, sentences
from qroar_core.harness.metrics import not_given
from qroar_core.harness.result import QUANTIZED, REFERENCE, TUNED, Cut, Score, TaskScores
from qroar_core.harness.tasks import load_tasks, quiet, require_installed, set_examples
from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.bos import opening
from qroar_core.models.calibrate import calibrated, needs_calibration
from qroar_core.models.condition import Condition
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.text import Documents, windows
from qroar_core.number_of import number_of
from qroar_core.progress import OnStep, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.setting import Setting
from qroar_core.specs import HarnessSpec
from qroar_core.specs.labels import CONDITION_WORDS, setting_words
from qroar_core.transforms.scales import Scales

RESAMPLES = 1000  # of the harness's bootstrap, for metrics whose standard error has no closed form


@dataclass(frozen=True, slots=True, eq=False)
class _Named:
    who: Who
    condition: Condition


def run(
    loaded: LoadedModel,
    setting: Setting,
    scales: Scales | None,
    spec: HarnessSpec,
    documents: Documents,
    on_step: OnStep = no_progress,
    tasks: dict[str, Any] | None = None,
) -> TaskScores:
    """Put every task to the reference, to the quantizers, and to the quantizers with the scales.

    Args:
        scales: None leaves the condition out.
        documents: calibration text, for quantizers with one static scale a layer.
        tasks: what `load_tasks` gave, where they were loaded before the model; None: they are loaded here.
    Raises:
        BadSpec: the harness is not installed, no such task, or a request longer than the length.
        BadText: documents of a task that cannot be read, or a chat template that cannot be applied.
    """
    require_installed()
    rope, quant = setting.rope, setting.quant
    length = spec.length or setting.search.length or promised_length(loaded, rope)
    tasks = load_tasks(spec) if tasks is None else tasks
    notes = set_examples(tasks["tasks"], spec)
    named = [_Named(REFERENCE, Condition(rope))]
    if not quant.is_none:
        named.append(_Named(QUANTIZED, Condition(rope, quant)))
        if scales is not None:
            named.append(_Named(TUNED, Condition(rope, quant, scales)))
    scores: list[Score] = []
    samples: dict[Who, Samples] = {}
    asked: tuple[Mapping[str, list[int]], Mapping[str, list[int]]] = {}, {}
    for i, one in enumerate(named):
        condition = one.condition
        if needs_calibration(condition.quant):
            text = windows(loaded.tokenizer, documents, length, 1, spec.seed).ids
            condition = calibrated(loaded, condition, text, spec.chunk)
        step = subprogress(on_step, i, i + 1, len(named))
        what = CONDITION_WORDS["/".join(one.who)]
        found, *asked_now = _put(loaded, condition, length, setting, spec, tasks, what, step)
        asked = asked_now[0], asked_now[1]  # the same under every condition
        scores += _scores(found, one.who)
        samples[one.who] = found["samples"]
    apart = changes(scores, samples, spec.confidence)
    return TaskScores(
        spec=asdict(spec),
        length=length,
        confidence=spec.confidence,
        harness=version("lm_eval"),
        versions={name: str(said) for name, said in found["versions"].items()},
        fewshot={name: int(count) for name, count in found["n-shot"].items()},
        setup=setting_words(rope, quant),
        text=_text(loaded, setting, spec, length),
        scores=scores,
        changes=apart,
        cut=[Cut(task=task, requests=len(n), most_tokens=max(n)) for task, n in asked[0].items()],
        sentences=[
            *sentences(apart, {(one.task, one.metric): one.higher_is_better for one in scores}, spec.confidence),
            *_asides(*asked, length),
            *not_given(tasks, found["results"]),
            *notes,
        ],
    )


def _put(
    loaded: LoadedModel,
    condition: Condition,
    length: int,
    setting: Setting,
    spec: HarnessSpec,
    tasks: dict[str, Any],
    what: str,
    on_step: OnStep,
) -> tuple[dict[str, Any], dict[str, list[int]], dict[str, list[int]]]:
    """What the harness finds under one condition; tokens that were cut, and windows of texts that one does not hold."""
    from lm_eval import evaluator

    from qroar_core.harness.adapter import ConditionLM

    lm = ConditionLM(
        loaded,
        condition,
        length,
        bos=setting.bos_word,
        truncate=spec.truncate,
        batch=spec.batch,
        chunk=spec.chunk,
        what=what,
        on_step=on_step,
    )
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(seed=spec.seed)
    with quiet():
        found = evaluator.evaluate(
            lm,
            tasks,
            limit=spec.limit,
            bootstrap_iters=RESAMPLES,
            apply_chat_template=spec.chat,
            fewshot_as_multiturn=spec.chat,
        )
    return found, lm.cut, lm.pieces


def _scores(found: dict[str, Any], who: Who) -> list[Score]:
    """Every number of the harness's table: of tasks, and of groups where they have one."""
    scores = []
    for task, row in found["results"].items():
        for key, value in row.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, Real):
                continue
            error = row.get(f"{metric}_stderr,{chosen}")
            scores.append(
                Score(
                    task=task,
                    metric=metric,
                    filter=chosen,
                    model=who[0],  # type: ignore[arg-type]
                    scales=who[1],  # type: ignore[arg-type]
                    value=float(value),
                    stderr=float(error) if isinstance(error, Real) else None,
                    documents=_documents(found, task),
                    higher_is_better=found["higher_is_better"].get(task, {}).get(metric),
                )
            )
    return scores


def _documents(found: dict[str, Any], task: str) -> int:
    if task in found["n-samples"]:
        return int(found["n-samples"][task]["effective"])
    return sum(_documents(found, member) for member in found["group_subtasks"].get(task, ()))


def _text(loaded: LoadedModel, setting: Setting, spec: HarnessSpec, length: int) -> str:
    rope, quant = setting.rope, setting.quant
    said = [f"at most {length:,} tokens", f"seed {spec.seed}"]
    said += [f"the first {number_of(spec.limit, 'document')} of each task"] if spec.limit else []
    said += ["asked through the chat template"] if spec.chat else []
    start = opening(loaded.tokenizer, setting.bos_word).said("text")
    said += [start] if start else []
    said += ["static ranges from calibration text"] if needs_calibration(quant) else []
    return f"{', '.join(said)}{replacing(loaded, rope)}{what_a_query_reads(quant)}"


def _asides(cut: Mapping[str, list[int]], pieces: Mapping[str, list[int]], length: int) -> list[str]:
    said = [
        f"{task}: {number_of(len(tokens), 'request')} cut from the left to fit {length:,} tokens, "
        f"by {max(tokens):,} tokens at most"
        for task, tokens in cut.items()
    ]
    return said + [
        f"{task}: {number_of(len(counts), 'text')} of more than {length:,} tokens read in windows, "
        "each token predicted once"
        for task, counts in pieces.items()
    ]
