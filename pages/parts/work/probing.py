"""Queue reading q and k once for scales by hand, and measuring the gain of any scales; find both again."""

from __future__ import annotations

from dataclasses import replace

from pages.parts.elsewhere import result_of
from pages.parts.session import manager
from pages.parts.work.keys import stage_key
from pages.parts.work.texts import texts
from qroar_core import search
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results.decision import Decision
from qroar_core.runs.setting import Setting
from qroar_core.searching.probe import Probe
from qroar_core.specs import SearchSpec


def key(loaded: LoadedModel, setting: Setting) -> tuple:
    """What is read depends on the text and the bands, not on how a search would go."""
    spec, plain = setting.search, SearchSpec()
    spec = replace(spec, angles=plain.angles, objective=plain.objective, method=plain.method, sampler=plain.sampler,
                   kappa0=plain.kappa0, grid_points=plain.grid_points, sweeps=plain.sweeps, steps=plain.steps,
                   trials=plain.trials, bounds=None)  # fmt: skip
    return stage_key("probe", loaded, setting, spec)


def result(loaded: LoadedModel, setting: Setting) -> Probe | None:
    """The probe of this setting, if it was read."""
    return result_of(key(loaded, setting))


def start(loaded: LoadedModel, setting: Setting) -> None:
    """Queue reading the text. Other probes go: each holds q, k and v of its windows in memory."""
    mine = key(loaded, setting)
    manager().release("probe", but=mine)
    label, device = f"Read q and k of {loaded.name}", str(loaded.device)
    manager().submit(mine, _probe, loaded, setting, label=label, device=device)


def gain_key(loaded: LoadedModel, setting: Setting, scales: Scales) -> tuple:
    """The gain of these scales on development text. Which windows of it a search reads itself, its objective says."""
    asked = setting.search
    spec = SearchSpec(bands=asked.bands, length=asked.length, seed=asked.seed)
    if asked.objective == "full":
        spec = replace(spec, objective=asked.objective, windows=asked.windows)
    return stage_key("gain", loaded, setting, spec, scales.digest)


def gain(loaded: LoadedModel, setting: Setting, scales: Scales) -> Decision | None:
    """The measured gain, if there is one."""
    return result_of(gain_key(loaded, setting, scales))


def measure(loaded: LoadedModel, setting: Setting, scales: Scales) -> None:
    """Queue measuring the gain on development text."""
    mine, device = gain_key(loaded, setting, scales), str(loaded.device)
    manager().submit(mine, _measure, loaded, setting, scales, label=f"Measure the gain on {loaded.name}", device=device)


def _probe(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Probe:
    return search.probe(loaded, setting.rope, setting.quant, setting.search, texts(setting), on_step)


def _measure(loaded: LoadedModel, setting: Setting, scales: Scales, on_step: OnStep) -> Decision:
    return search.measure_gain(loaded, setting.rope, setting.quant, setting.search, scales, texts(setting), on_step)
