"""Every part of the benchmarks by name. `controls` stands for all parts whose name begins with `controls.`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks import (
    angles,
    controls,
    dashboard,
    demo,
    diagnosis,
    error_metrics,
    evaluation,
    families,
    first_paint,
    gguf,
    gguf_memory,
    gpu,
    headline,
    house,
    hub_readers,
    inplace,
    l2_penalty,
    llamacpp,
    llamacpp_angles,
    lm_eval_reader,
    memory,
    objectives,
    polish,
    predict,
    remedies,
    replication,
    retrieval,
    runtimes,
    smollm2,
    sweep,
    tie_effects,
    tied_polish,
    transforms,
    value_maps,
)
from benchmarks.endurance import kills, people, weights
from benchmarks.int4_int3_w4 import NAMES, TEXTS
from qroar_core.exporters.readers import runnable
from qroar_core.models.text import COLLECTIONS

Part = Callable[..., None]
PARTS: dict[str, Part] = {
    "demo": demo.main,
    **{f"smollm2.{text}": partial(smollm2.main, text) for text in smollm2.TEXTS},
    "diagnosis": diagnosis.main,
    "memory": memory.main,
    "gpu": gpu.main,
    "dashboard": dashboard.main,
    "firstpaint": first_paint.main,
    "endurance.weights": weights.main,
    "endurance.kills": kills.main,
    "endurance.people": people.main,
    "house": house.main,
    "llamacpp": llamacpp.main,
    "llamacpp-angles": llamacpp_angles.main,
    "inplace": inplace.main,
    "sweep": sweep.main,
    **{f"runtimes.{name}": partial(runtimes.main, name) for name in runnable()},
    **{f"runtimes.hub.{name}": partial(hub_readers.main, name) for name in hub_readers.BOUNDS},
    "runtimes.lm_eval": lm_eval_reader.main,
    "families": families.main,
    "gguf": gguf.main,
    "ggufmemory": gguf_memory.main,
    "objectives.demo": partial(objectives.main, objectives.ON_DEMO),
    "objectives.smollm2": partial(objectives.main, objectives.ON_SMOLLM2),
    "error_metrics.demo": partial(error_metrics.main, error_metrics.ON_DEMO),
    "error_metrics.smollm2": partial(error_metrics.main, error_metrics.ON_SMOLLM2),
    "l2_penalty.demo": partial(l2_penalty.main, l2_penalty.DEMO),
    "l2_penalty.smollm2": partial(l2_penalty.main, l2_penalty.SMOLLM2),
    **{f"polish.{name}.{text}": partial(polish.main, name, text) for name in NAMES for text in TEXTS[name]},
    **{f"angles.{name}.{text}": partial(angles.main, name, text) for name in NAMES for text in TEXTS[name]},
    **{
        f"tie_effects.{text}.{length}": partial(tie_effects.main, text, length)
        for text in COLLECTIONS
        for length in (2048, 16384)
    },
    **{
        f"tied_polish.{text}.{length}": partial(tied_polish.main, text, length)
        for text in COLLECTIONS
        for length in (2048, 16384)
    },
    **{f"transforms.{text}.{name}": partial(transforms.run, text, name) for text, name in transforms.ASKED},
    **{f"value_maps.{text}": partial(value_maps.main, text) for text in COLLECTIONS},
    **{
        f"retrieval.{name}.{text}": partial(retrieval.main, name, text)
        for name in retrieval.SETTINGS_ASKED
        for text in retrieval.TEXTS
    },
    "predict.demo": partial(predict.main, predict.ON_DEMO),
    "predict.smollm2": partial(predict.main, predict.ON_SMOLLM2),
    "evaluation": evaluation.main,
    "lengths.demo": partial(evaluation.lengths, evaluation.DEMO),
    "lengths.smollm2": partial(evaluation.lengths, evaluation.SMOLLM2),
    **{f"remedies.{name}": partial(remedies.main, name) for name in remedies.REMEDIES},
    "controls.demo": controls.on_demo,
    "controls.smollm2": controls.on_smollm2,
    "replication.demo": replication.on_demo,
    "replication.smollm2": replication.on_smollm2,
    "headline": partial(headline.main, headline.HEADLINE),
    "headline-long-search": partial(headline.main, headline.SEARCHED_LONG),
}
RESUMED = (  # keep every pass on disk, and take `minutes`
    "headline",
    "headline-long-search",
    "error_metrics.demo",
    "error_metrics.smollm2",
    *(f"runtimes.{name}" for name in runnable()),
    *(f"transforms.{text}.{name}" for text, name in transforms.ASKED),
)

LIMITED = (  # take `minutes`, and skip what would not end in them
    "gpu",
    "endurance.kills",
    "endurance.people",
)


def chosen(names: Sequence[str], parts: Mapping[str, Part]) -> list[str]:
    """The parts that these names stand for; all of them where there is none.

    Raises:
        KeyError: a name stands for no part.
    """
    found = []
    for name in names or [""]:
        mine = [part for part in parts if name in ("", part) or part.startswith(f"{name}.")]
        if not mine:
            raise KeyError(name)
        found += mine
    return found
