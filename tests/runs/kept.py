"""Results of every stage, kept in the store of runs."""

import torch

from pages.state.job_key import origin, stage_key
from qroar_core.runs.store import RunStore
from qroar_core.scale_search.run import SearchOutcome
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales
from tests.helpers import planted

YARN = RopeSpec("yarn", 2.0)


def keys(loaded, setting):
    """The three questions a run answers, as the pages ask them."""
    return {
        "diagnose": stage_key("diagnose", loaded, setting, setting.diagnosis),
        "search": stage_key("search", loaded, setting, setting.search, setting.diagnosis),
        "evaluate": stage_key("evaluate", loaded, setting, setting.evaluation, *origin(setting, outcome(loaded))),
        "untuned": stage_key("evaluate", loaded, setting, setting.evaluation),
    }


def outcome(loaded, chosen="found"):
    """A search's result with scales no decimal can write down."""
    geo, bands = loaded.geometry, ((0, 3), (4, 7))
    shape = (geo.n_layers, geo.n_kv_heads, len(bands))

    def scales(seed, least=0.75):
        """Within the bounds of the planted report, half an octave up and down."""
        drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        g = least + 0.6 * drawn
        return Scales("symmetric", "kv_head", bands, g)

    found = scales(1)
    kept = found if chosen == "found" else Scales("symmetric", "kv_head", bands, torch.ones(shape, dtype=torch.float64))
    return SearchOutcome(found, kept, scales(2), scales(3, 1.0), planted.report(chosen))


def keep_all(loaded, setting, chosen="found", significant=True):
    """A whole run on the store; returns its keys and what was put there."""
    asked, made = keys(loaded, setting), outcome(loaded, chosen)
    RunStore().keep(asked["diagnose"], loaded, setting, planted.diagnosis(), 1.0)
    RunStore().keep(asked["search"], loaded, setting, made, 2.0)
    RunStore().keep(asked["evaluate"], loaded, setting, planted.evaluation(significant), 3.0)
    return asked, made
