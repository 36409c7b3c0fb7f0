"""Q-ROAR: see and repair what RoPE interpolation plus quantization does to a model.

    import qroar_core as qroar
    model = qroar.load("demo")
    setup = qroar.Setup(rope=qroar.Rope("yarn", factor=4), quantization=qroar.quantization(k="int4"))
    diagnosis = qroar.diagnose(model, setup)
    found = qroar.search(model, setup, diagnosis=diagnosis)
    evaluation = qroar.evaluate(model, setup, found.transform)
    qroar.export(model, setup, found.transform, "checkpoint")

Every stage takes `model`, a `Model`, `setup`, a `Setup`, and `on_step`, a function that is called with a
`qroar_core.progress.Step` as the work goes on and may raise `qroar_core.errors.Cancelled`. Lengths are in tokens,
losses in nats a token, angles in radians.

Names are imported when they are first asked for: `import qroar_core` alone loads neither torch nor transformers.
The folders read in the order of the work: models -> diagnostics -> scale_search -> evaluation -> exporters.
tests/test_layout.py enforces who may import whom.

Importing the package asks OpenMP to sleep where it waits, before torch brings OpenMP in. By default its threads spin
at every barrier; beside another program that computes, they then spin in the time slice of the thread they wait for:
a forward pass of the demo model took 12 s instead of 1.5 s on two shared cores.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from qroar_core.version import VERSION as __version__  # noqa: F401

if TYPE_CHECKING:
    from qroar_core.errors import QRoarError as QRoarError
    from qroar_core.interpolations.tie import parse_ties as ties
    from qroar_core.library.calls import choose_ties as choose_ties
    from qroar_core.library.calls import diagnose as diagnose
    from qroar_core.library.calls import export as export
    from qroar_core.library.calls import load as load
    from qroar_core.library.calls import search as search
    from qroar_core.library.evaluation_calls import evaluate as evaluate
    from qroar_core.library.evaluation_calls import lm_eval as lm_eval
    from qroar_core.library.evaluation_calls import retrieve as retrieve
    from qroar_core.library.evaluation_calls import tune_rope as tune_rope
    from qroar_core.library.remedy_calls import compare as compare
    from qroar_core.library.remedy_calls import protect_layers as protect_layers
    from qroar_core.library.results import Comparison as Comparison
    from qroar_core.library.results import Diagnosis as Diagnosis
    from qroar_core.library.results import Evaluation as Evaluation
    from qroar_core.library.results import LayerChoice as LayerChoice
    from qroar_core.library.results import Retrieval as Retrieval
    from qroar_core.library.results import RopeSearch as RopeSearch
    from qroar_core.library.results import TieChoice as TieChoice
    from qroar_core.library.rope import load_rope as load_rope
    from qroar_core.library.search import Search as Search
    from qroar_core.library.sweep_call import sweep as sweep
    from qroar_core.library.task_scores import TaskScores as TaskScores
    from qroar_core.library.tradeoff_call import tradeoff as tradeoff
    from qroar_core.library.transform import Transform as Transform
    from qroar_core.models.loaded import LoadedModel as Model
    from qroar_core.setup import Setup as Setup
    from qroar_core.setup import quantization as quantization
    from qroar_core.specs import BandSpec as Bands
    from qroar_core.specs import RopeSpec as Rope
    from qroar_core.tradeoffs.result import Tradeoff as Tradeoff

_WHERE = {
    **dict.fromkeys(("load", "diagnose", "choose_ties", "search", "export"), "library.calls"),
    **dict.fromkeys(("evaluate", "retrieve", "lm_eval", "tune_rope"), "library.evaluation_calls"),
    **dict.fromkeys(("compare", "protect_layers"), "library.remedy_calls"),
    **dict.fromkeys(
        ("Diagnosis", "TieChoice", "Evaluation", "Retrieval", "Comparison", "LayerChoice", "RopeSearch"),
        "library.results",
    ),
    "TaskScores": "library.task_scores",
    "load_rope": "library.rope",
    "Search": "library.search",
    "Transform": "library.transform",
    "sweep": "library.sweep_call",
    "tradeoff": "library.tradeoff_call",
    "Tradeoff": "tradeoffs.result",
    **dict.fromkeys(("Setup", "quantization"), "setup"),
    "Model": "models.loaded:LoadedModel",
    "Rope": "specs:RopeSpec",
    "ties": "interpolations.tie:parse_ties",
    "Bands": "specs:BandSpec",
    "QRoarError": "errors",
}
__all__ = ["Bands", "Comparison", "Diagnosis", "Evaluation", "Model", "QRoarError", "Retrieval", "Rope", "Search"]
__all__ += ["Setup", "Transform", "compare", "diagnose", "evaluate", "export", "load", "quantization", "retrieve"]
__all__ += ["LayerChoice", "RopeSearch", "TaskScores", "TieChoice", "choose_ties", "lm_eval", "load_rope"]
__all__ += ["Tradeoff", "protect_layers", "search", "sweep", "ties", "tradeoff", "tune_rope"]


if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from qroar_core.large_imports import large_imports

        module, _, inside = _WHERE[name].partition(":")
        with large_imports(freeze=False):
            found = getattr(import_module(f"{__name__}.{module}"), inside or name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
