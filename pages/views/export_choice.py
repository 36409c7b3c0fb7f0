"""What can be exported, and where to."""

from __future__ import annotations

from pathlib import Path

from qroar_core.disk_name import disk_name
from qroar_core.evaluation.result import Evaluation
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.transforms.scales import Scales, identity


def offered(
    loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None, evaluation: Evaluation | None
) -> dict[str, tuple[Scales, str]]:
    """Scales by name, each with what is known about them; the one to take first."""
    geo, spec = loaded.geometry, setting.search
    bands = bands_of(loaded, spec.bands)
    none = identity(geo.n_layers, geo.n_kv_heads, bands, spec.mode, spec.granularity)
    plain = {
        "identity (no scales, interpolation only)": (none, "Every scale is 1: the weights stay the checkpoint's own.")
    }
    if outcome is None:
        return plain
    verdict = (
        f"In the evaluation: {evaluation.finding}."
        if evaluation
        else "Not evaluated yet on held-out text: see Evaluate."
    )
    found = {"tuned scales": (outcome.found, f"In the search: {outcome.report.reason}. {verdict}")}
    why = "From statistics alone, no search: a baseline."
    smooth = {"SmoothAttention": (outcome.smooth, why), "MAD clipping": (outcome.mad, why)}
    good = outcome.report.chosen == "found" and (
        evaluation is None or evaluation.gain is None or evaluation.gain.significant
    )
    return found | plain | smooth if good else plain | found | smooth


def default_folder(loaded: LoadedModel) -> str:
    """A folder that does not exist yet, in the runs folder of where the dashboard was started."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in disk_name(loaded.name, 80))
    path, count = Path("runs") / f"{name}-qroar", 2
    while path.exists():
        path, count = Path("runs") / f"{name}-qroar-{count}", count + 1
    return str(path)
