"""What one visitor has chosen, as a frozen value that also fits into the address line.

The address is untrusted: every parameter is validated by the specs themselves, and what does not
validate is dropped, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from pages.state.lessons import FIRST_LESSON, LESSONS
from qroar_core.models.bos import bos_id
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import COLLECTIONS
from qroar_core.runs.record import RunRecord
from qroar_core.runs.store import NAME
from qroar_core.setting import Setting, default_setting
from qroar_core.specs import (
    BandSpec,
    Bos,
    ComparisonSpec,
    ControlSpec,
    DiagnosisSpec,
    EvaluationSpec,
    Mode,
    PredictionSpec,
    QuantSpec,
    ReplicationSpec,
    RetrievalSpec,
    RopeSearchSpec,
    RopeSpec,
    SearchSpec,
)
from qroar_core.specs.tradeoff import MAX_LOSS, Axis, Loss
from qroar_core.specs.written import under_todays_names

LEAST_LENGTH = 32  # tokens; shorter contexts measure nothing
LONGEST, MOST_TEXTS = 1 << 27, 1 << 16  # tokens, and texts at once, that memory is counted for
REACH = 6.0  # octaves a scale by hand may go
ADDRESS_LIMIT = 4000  # characters of one parameter; longer ones are dropped


@dataclass(frozen=True, slots=True)
class ByHand:
    """Scales set by hand, log2 g per band, and the bands and the mode that they belong to."""

    bands: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...]
    mode: Mode
    log2_g: tuple[Annotated[float, Field(ge=-REACH, le=REACH, allow_inf_nan=False)], ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """Under which settings the papers' claims are tested, and on how much text."""

    ropes: tuple[RopeSpec, ...]
    quants: tuple[QuantSpec, ...]
    spec: ReplicationSpec


@dataclass(frozen=True, slots=True)
class ToExport:
    """What of the Export page a person chose, by its names there; empty: what the page offers first."""

    scales: Annotated[str, Field(max_length=60)] = ""
    format: Annotated[str, Field(max_length=60)] = ""


@dataclass(frozen=True, slots=True)
class TradeoffChoice:
    """What the Trade-off page shows: a folder, which setup of it, and what the memory is counted for.

    `length` None: the one that was measured.
    """

    folder: Annotated[str, Field(max_length=1000)] = ""
    loss: Loss = "nll"
    max_loss: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = MAX_LOSS
    length: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    batch: Annotated[int, Field(ge=1, le=MOST_TEXTS)] = 1
    axis: Axis = "bytes"
    setup: Annotated[int, Field(ge=0)] = 0


Words = Annotated[str, Field(max_length=1000)]


@dataclass(frozen=True, slots=True)
class SweepChoice:
    """What the Sweep page asks for. None: what the page offers first, for the model and the setup in view.

    Lists of numbers and of tables are kept as they were typed. A budget of 0 is none.
    """

    models: tuple[Words, ...] | None = None
    methods: tuple[Words, ...] | None = None
    factors: Words | None = None
    formats: tuple[Words, ...] | None = None
    quantizers: Words = ""
    remedies: tuple[Words, ...] | None = None
    lengths: Words | None = None
    texts: tuple[Words, ...] | None = None
    seeds: Words = "0"
    windows: Annotated[int, Field(ge=2, le=256)] = 8
    exclude: Words = ""
    minutes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    cells: Annotated[int, Field(ge=0, le=100_000)] = 0
    folder: Words = "sweep"


@dataclass(frozen=True, slots=True)
class Choice:
    """None means the default of `setting.default_setting` for the loaded model.

    `text` is an embedded collection, or the label of a reopened run's own text. `run` names the run folder
    that all of this was opened from; a change of anything else empties it (session.choose), but of what is asked
    beside the setting: see `BESIDE`.
    """

    model: str = ""
    device: str = "auto"
    dtype: str = "auto"
    length: int | None = None  # context length L, tokens
    bands: BandSpec = BandSpec()
    rope: RopeSpec | None = None
    quant: QuantSpec | None = None
    diagnosis: DiagnosisSpec | None = None
    search: SearchSpec | None = None
    evaluation: EvaluationSpec | None = None
    text: str = "messages"
    bos: Bos = "auto"  # do windows start with BOS
    run: str = ""
    retrieval: RetrievalSpec | None = None
    comparison: ComparisonSpec | None = None  # its search is the setting's
    controls: ControlSpec | None = None
    prediction: PredictionSpec | None = None
    prediction_bands: BandSpec | None = None
    hand: ByHand | None = None
    compared: tuple[str, ...] = ()  # names of runs
    claims: Claims | None = None
    rope_search: RopeSearchSpec | None = None
    export: ToExport | None = None
    tradeoff: TradeoffChoice | None = None
    sweep: SweepChoice | None = None
    lesson: str = FIRST_LESSON  # of the Learn page, the one that is opened


# Fields that say nothing of the setting:
BESIDE = (
    *("retrieval", "comparison", "controls", "prediction", "prediction_bands", "hand", "compared", "claims"),
    *("export", "rope_search", "tradeoff", "sweep", "lesson"),
)
FORMERLY = {"comparison": "league"}  # parameters of links of before 2026-11-29
_TEXT = ("model", "device", "dtype", "text", "bos", "run", "lesson")
_KNOWN = {  # what plain text from outside must look like
    "text": re.compile("|".join(COLLECTIONS)),
    "bos": re.compile("|".join(get_args(Bos))),
    "run": NAME,
    "lesson": re.compile("|".join(LESSONS)),
}
_KINDS: tuple[Any, ...] = (  # of the fields, in their order: classes and annotations, which share no type
    str,
    str,
    str,
    Annotated[int, Field(ge=LEAST_LENGTH)],
    BandSpec,
    RopeSpec,
    QuantSpec,
    DiagnosisSpec,
    SearchSpec,
    EvaluationSpec,
    str,
    Bos,
    str,
    RetrievalSpec,
    ComparisonSpec,
    ControlSpec,
    PredictionSpec,
    BandSpec,
    ByHand,
    tuple[Annotated[str, Field(pattern=rf"^{NAME.pattern}$")], ...],
    Claims,
    RopeSearchSpec,
    ToExport,
    TradeoffChoice,
    SweepChoice,
    str,
)
_KIND = {field.name: kind for field, kind in zip(fields(Choice), _KINDS, strict=True)}


@cache
def adapter_of(name: str) -> TypeAdapter:
    """Reads and writes a field of the choice. Made when it is first needed: a new server does not wait for them all."""
    return TypeAdapter(_KIND[name])


def to_address(choice: Choice) -> dict[str, str]:
    """Query parameters of everything that is not a default: plain text, or JSON of a spec's own non-defaults."""
    out = {}
    for name in _KIND:
        value = getattr(choice, name)
        if value in (None, getattr(Choice(), name)):
            continue
        out[name] = value if name in _TEXT else adapter_of(name).dump_json(value, exclude_defaults=True).decode()
    return out


def from_address(parameters: Mapping[str, str]) -> Choice:
    """Inverse of `to_address`; anything unknown or invalid is left at its default."""
    return read_address(parameters)[0]


def read_address(parameters: Mapping[str, str]) -> tuple[Choice, list[str]]:
    """The choice of an address, and the parameters of ours that could not be read, left at their defaults."""
    known: dict[str, Any] = {}
    unread = []
    for name in _KIND:
        text = parameters.get(name, "") or parameters.get(FORMERLY.get(name, name), "")
        if not text:
            continue
        if len(text) > ADDRESS_LIMIT or (name in _KNOWN and not _KNOWN[name].fullmatch(text)):
            unread.append(name)
            continue
        try:
            known[name] = (
                text if name in _TEXT else adapter_of(name).validate_python(under_todays_names(from_json(text)))
            )
        except (ValueError, TypeError):  # a ValidationError is a ValueError
            unread.append(name)
    return Choice(**known), unread


def restored(entry: RunRecord) -> Choice:
    """The choice under which a run on disk was made; its model is loaded as it was then."""
    assert entry.setting is not None  # callers have a readable run
    return replace(as_choice(entry.setting, Choice(model=entry.source, dtype=entry.dtype)), run=entry.name)


def as_choice(setting: Setting, now: Choice) -> Choice:
    """This setting as a choice, of the model of `now`."""
    return replace(
        now,
        length=setting.search.length,
        bands=setting.search.bands,
        rope=setting.rope,
        quant=setting.quant,
        diagnosis=setting.diagnosis,
        search=setting.search,
        evaluation=setting.evaluation,
        text=setting.text,
        bos=setting.bos_word,
        run="",
    )


def bos_of(choice: Choice, loaded: LoadedModel) -> Bos:
    """How windows of this model's text start; a BOS that was chosen for another model means nothing without one."""
    return "auto" if choice.bos == "on" and bos_id(loaded.tokenizer) is None else choice.bos


def setting_of(choice: Choice, loaded: LoadedModel) -> Setting:
    """All specs of the stages for this choice and model. Bands and length are one choice for all of them.

    An address may leave any field out: a length that a spec leaves open is that of the model's own setting.
    """
    base = default_setting(loaded, choice.rope, choice.quant, choice.length, bos_of(choice, loaded))
    diagnosis, search = choice.diagnosis or base.diagnosis, choice.search or base.search
    evaluation = choice.evaluation or base.evaluation
    bands = base.search.bands if choice.bands == BandSpec() else choice.bands  # fewer where the model has fewer pairs
    same_length = diagnosis.length == base.diagnosis.length
    return replace(
        base,
        diagnosis=replace(
            diagnosis,
            bands=bands,
            length=base.diagnosis.length,
            short_length=(diagnosis.short_length if same_length else None) or base.diagnosis.short_length,
        ),
        search=replace(
            search,
            bands=bands,
            length=base.search.length,
            bounds=search.bounds if search.bands == bands else None,  # bounds belong to their bands
        ),
        evaluation=replace(evaluation, lengths=evaluation.lengths or base.evaluation.lengths),
        text=choice.text,
    )
