"""Load a model, letting go of the one before."""

from __future__ import annotations

from pages.forms.context_limit import room
from pages.state.choice import Choice, bos_of
from pages.state.paths import model_source
from pages.state.session import load_key, manager
from qroar_core.jobs import Manager
from qroar_core.models import load, smollm2
from qroar_core.models.devices import choose_device
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, Step, no_progress, subprogress


def require_loadable(picked: Choice) -> str:
    """The device it is loaded to.

    Raises:
        BadSpec: a device this machine does not have. OutsideRoots: a path the dashboard may not touch.
    """
    model_source(picked.model)
    return str(choose_device(picked.device))


def start(picked: Choice) -> None:
    """Load the chosen model; the one before is let go once the new one is known to be readable.

    A model that is loaded is loaded again where its files have changed since. This touches no session.

    Raises:
        BadSpec, OutsideRoots: see `require_loadable`.
    """
    device = require_loadable(picked)
    loaded = manager().result(load_key(picked))
    again = loaded is not None and loaded.files_changed()
    label = f"Load {picked.model}"
    manager().submit(load_key(picked), _load, manager(), picked, label=label, device=device, again=again)


def _load(jobs: Manager, picked: Choice, on_step: OnStep = no_progress) -> LoadedModel:
    def report(step: Step) -> None:
        on_step(step)
        if step.stage == "load" and step.done >= 1:  # found and of a known family: now weights are read
            jobs.release("load", but=load_key(picked))
            jobs.release("probe")  # holds captured q, k and v of the model before

    if picked.model == "smollm2":
        smollm2.fetch(subprogress(on_step, 0, 1, 4))
    loaded = load.run(picked.model, device=picked.device, dtype=picked.dtype, on_step=report)
    room(loaded, picked.text, bos_of(picked, loaded))  # tokenizes the texts here, not while the first page is drawn
    return loaded
