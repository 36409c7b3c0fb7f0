"""One way to queue a stage, to name its job and to find its result again.

A job's key says what it computes, so that a reload, another page or a second tab finds it again. What runs in the
worker never calls Streamlit.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from pages.state.foreign_runs import marked, result_of
from pages.state.job_key import JobKey
from pages.state.session import asked_here, library, manager
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import out_of_memory, ran_out
from qroar_core.models.text import SPLITS, Texts, split
from qroar_core.progress import OnStep
from qroar_core.runs.stage_files import Tuned
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.specs.labels import setting_words

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
SAID_ONCE = ("length", "short_length", "granularity")  # options that the setting decides, or the model


@dataclass(frozen=True, slots=True)
class Stage(Generic[Asked, Found]):
    """One stage: `key`, `start` and `result` take the model, the setting and whatever else this stage is asked with."""

    name: str  # in the key; `runs.stage_files` knows it too
    label: str  # with {model}
    depends: Callable[Concatenate[Setting, Asked], tuple[Hashable, ...]]  # what of it all the numbers depend on
    run: Callable[..., Found]  # of all that, `on_step`, and `before`: the results of what it needs, if anything
    needs: Callable[..., tuple[JobKey, ...]] = lambda *_: ()  # queues what must come before; its keys
    kept: bool = True  # in a run folder; else in memory alone
    alone: bool = False  # whether other results of this stage leave the memory for it

    def key(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> JobKey[Found]:
        """What this stage would compute for this model and setting on its texts."""
        return JobKey(stage_key(self.name, loaded, setting, *self.depends(setting, *asked, **named)))

    def result(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> Found | None:
        """The finished result, if there is one, of this server, an earlier one or a run that the visitor opened."""
        return result_of(self.key(loaded, setting, *asked, **named))

    def marked(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> Found | None:
        """The same to be shown: that of a run which the visitor opened stands under a line that says so."""
        return marked(self.key(loaded, setting, *asked, **named))

    def start(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> JobKey[Found]:
        """Queue it behind what it needs, unless it is there already; returns its key."""
        key, mine = self.key(loaded, setting, *asked, **named), asked_here()  # behind which nothing ends a run
        before = self.needs(loaded, setting, *asked)
        if self.alone:
            manager().release(self.name, but=key)
        work = partial(self.run, loaded, setting, *asked, **named)
        manager().submit(
            key,
            partial(_within_memory, work, loaded, setting) if self.kept else partial(_after, work),
            label=self.label.format(model=loaded.name),
            device=str(loaded.device),
            keep=partial(library().keep, key, loaded, setting) if self.kept else None,
            needs=before,
            about=_about(setting, self.depends(setting, *asked, **named)),
        )
        mine.add(key)
        return key


def _about(setting: Setting, depends: tuple[Hashable, ...]) -> str:
    """The setting in few words, and what of the stage's own options is not as it comes: jobs of one label differ in it.

    Lengths and bands are one choice for all stages, and stand in front.
    """
    bands = setting.search.bands
    words = [
        setting_words(setting.rope, setting.quant),
        f"{setting.search.length} tokens",
        f"{bands.count} bands by {bands.partition}",
    ]
    for spec in (one for one in depends if is_dataclass(one) and not isinstance(one, Tuned)):
        for option in fields(spec):
            value = getattr(spec, option.name)
            if isinstance(value, bool | int | float | str) and option.compare and value != option.default:
                words += [] if option.name in SAID_ONCE else [f"{option.name} {value}"]
    return ", ".join(dict.fromkeys(words))


def stage_key(stage: str, loaded: LoadedModel, setting: Setting, *specs: Hashable) -> tuple:
    """What `stage` would compute for this model and setting on its texts. `runs.store` reads these keys too."""
    who = (loaded.checksum, str(loaded.device), str(loaded.dtype))
    return (stage, *who, setting.reading, setting.rope, setting.quant, *specs)


def origin(setting: Setting, outcome: SearchOutcome | None) -> tuple[Hashable, ...]:
    """What scales in a key stand for: the search they came from, the diagnosis its bounds came from, and they."""
    return (setting.search, setting.diagnosis, Tuned.of(outcome)) if outcome else ()


def texts(setting: Setting) -> Texts:
    """Calibration, development and held-out documents of the setting's collection.

    Raises:
        BadText: the text is no embedded collection: a run of the command line on a file of its own.
    """
    return {name: split(name, setting.text, setting.bos_word) for name in SPLITS}


def _after(work: Callable[..., Found], *before: Any, on_step: OnStep) -> Found:
    return work(before=before, on_step=on_step) if before else work(on_step=on_step)


def _within_memory(
    work: Callable[..., Any], loaded: LoadedModel, setting: Setting, *before: Any, on_step: OnStep
) -> object:
    """The stage's result as its file gives it back: after a restart a page shows the same digits.

    Out of memory anywhere inside the stage becomes one line that names the length that fits.
    """
    try:
        return _after(work, *before, on_step=on_step).as_written()
    except Exception as fault:
        if not ran_out(fault):
            raise
        traceback.clear_frames(fault.__traceback__)  # they hold the tensors that filled the memory
        asked = max(setting.search.length or 0, setting.diagnosis.length or 0, *setting.evaluation.lengths)
        raise out_of_memory(loaded, asked) from None
