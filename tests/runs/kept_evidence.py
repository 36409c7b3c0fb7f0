"""Results of the stages behind a search, kept in the store of runs."""

from pages import jobs
from pages.jobs import evidence
from qroar_core.runs.store import RunStore, run_name, runs_root
from qroar_core.specs import (
    ComparisonSpec,
    ControlSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    ReplicationSpec,
    RopeSearchSpec,
    RopeSpec,
)
from tests.helpers import planted_comparison, planted_evidence, planted_prediction, planted_rope_search
from tests.runs.kept import YARN, keys, outcome

K4, K3 = QuantSpec(k=QuantizerSpec(4)), QuantSpec(k=QuantizerSpec(3))
PAIRS = ((YARN, K4), (RopeSpec("linear", 2.0), K4))
RESULTS = {
    "compare": planted_comparison.comparison,
    "controls": planted_evidence.controls,
    "replicate": planted_evidence.replication,
    "predict": planted_prediction.prediction,
    "tune_rope": planted_rope_search.rope_search,
}


def key(stage, loaded, setting, windows=6):
    """The question as its page asks it."""
    return {
        "compare": lambda: jobs.compare.key(loaded, setting, ComparisonSpec(search=setting.search, windows=windows)),
        "controls": lambda: evidence.control.key(loaded, setting, outcome(loaded), ControlSpec(windows=windows)),
        "replicate": lambda: evidence.replicate.key(loaded, setting, PAIRS, ReplicationSpec(windows=windows)),
        "tune_rope": lambda: evidence.tune_rope.key(loaded, setting, RopeSearchSpec(windows=windows)),
        "predict": lambda: evidence.predict.key(loaded, setting, setting.diagnosis, PredictionSpec(windows=windows)),
    }[stage]()


def keep(stage, loaded, setting, windows=6, result=None):
    """Put a planted result on the store; returns its key and its file."""
    asked = key(stage, loaded, setting, windows)
    if stage == "controls":  # they belong to a search
        RunStore().keep(keys(loaded, setting)["search"], loaded, setting, outcome(loaded), 1.0)
    before = set(folder_of(loaded, setting).glob(f"{stage}-*.json"))
    RunStore().keep(asked, loaded, setting, result or RESULTS[stage](), 2.0)
    (file,) = set(folder_of(loaded, setting).glob(f"{stage}-*.json")) - before
    return asked, file


def folder_of(loaded, setting):
    """Where the dashboard keeps this run."""
    return runs_root() / run_name(loaded, setting)
