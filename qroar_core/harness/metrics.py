"""Metrics that a task names: refused where the harness would leave them out without a word, or fail at the very end.

What the harness computes of which kind of task is asked of its own code, on an answer that is planted.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from qroar_core.errors import BadSpec

PLANTED: dict[str, list[Any]] = {  # by kind of task, what a model says of a question that has two choices
    "loglikelihood": [(-1.0, True)],
    "loglikelihood_rolling": [-1.0],
    "multiple_choice": [(-1.0, True), (-2.0, False)],
    "generate_until": ["right"],
}
BOTH_WAYS = "acc_mutual_info"  # choices are read with and without the question


def require_metrics(loaded: Mapping[str, Any]) -> None:
    """Refuse, before anything is computed, what the harness would not score.

    Args:
        loaded: what `load_tasks` gives.
    Raises:
        BadSpec: names the task, the metric and what is known.
    """
    for name, task in loaded["tasks"].items():
        if not scores_itself(task):
            _require_computed(name, task)
        _require_aggregations(name, task)
    for name, group in loaded["groups"].items():
        members = group.get_all_tasks()
        if any(map(scores_itself, members)):
            continue  # their code decides what there is: see `not_given`
        known = dict.fromkeys(metric for task in members for metric in task._metric_fn_list)
        for wanted in group.aggregate_metric_list or ():
            if wanted.metric not in known:
                said = f"the group {name} asks for the metric {wanted.metric!r}, which none of its tasks has"
                raise BadSpec(said, where="--tasks", do=f"choose from {', '.join(known)} in its YAML")


def scores_itself(task: Any) -> bool:
    """Is a task scored by code of its own, which decides what its metrics are?"""
    from lm_eval.api.task import ConfigurableTask

    own = getattr(type(task), "process_results", None) is not ConfigurableTask.process_results
    return own or callable(task.config.process_results)


def not_given(loaded: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for every metric that is named and not in the results, or is no number there."""
    own = {name: task for name, task in loaded["tasks"].items() if scores_itself(task)}
    named = {name: [*getattr(task, "_metric_fn_list", ())] for name, task in own.items()}
    for name, group in loaded["groups"].items():
        named[name] = [one.metric for one in group.aggregate_metric_list or ()]
    said = []
    for name, row in results.items():
        there = dict.fromkeys(key.partition(",")[0] for key in row if "," in key)
        lacking = [metric for metric in named.get(name, ()) if metric not in there]
        said += [f"{name}: no {metric}, which its YAML names; its own code does not give it" for metric in lacking]
        words = [key for key, value in row.items() if "," in key and "_stderr," not in key and not _number(value)]
        said += [f"{name}: {key.partition(',')[0]} is no number, and left out" for key in words]
    return said


@contextlib.contextmanager
def aggregations_named(task: str) -> Iterator[None]:
    """While a task is loaded: refuse a metric without aggregation, at which the harness fails without naming it."""
    from lm_eval.api import task as module
    from lm_eval.api.registry import metric_agg_registry

    kept = module.get_metric_aggregation

    def found(metric: str) -> Any:
        if (aggregation := kept(metric)) is None:
            said = f"{task} asks for the metric {metric!r}, for which the harness has no aggregation"
            do = f"write aggregation: mean beside it, or choose from {', '.join(metric_agg_registry)}"
            raise BadSpec(said, where="--tasks", do=do)
        return aggregation

    module.get_metric_aggregation = found
    try:
        yield
    finally:
        module.get_metric_aggregation = kept


def _require_computed(name: str, task: Any) -> None:
    from lm_eval.api.registry import metric_registry

    for metric, function in task._metric_fn_list.items():
        if function is not None and metric not in metric_registry and task.OUTPUT_TYPE == "generate_until":
            continue  # a function of its own, or of the library `evaluate`: the harness calls it
        if function is None or not _computes(task, metric, function):
            known = [other for other in metric_registry if _computes(task, other, metric_registry.get(other))]
            said = f"{name} asks for the metric {metric!r}, which the harness does not compute of {task.OUTPUT_TYPE}"
            raise BadSpec(said, where="--tasks", do=f"choose from {', '.join(known)} in its YAML")


def _computes(task: Any, metric: str, function: Any) -> bool:
    """Does the harness give this metric of a task of this kind, as a number?"""
    from lm_eval.api.registry import get_metric_aggregation

    planted = copy.copy(task)
    planted._metric_fn_list, planted._metric_fn_kwargs = {metric: function}, {metric: {}}
    planted._aggregation_list, planted._higher_is_better = {}, {}
    planted.multiple_input = planted.multiple_target = False
    choice = task.OUTPUT_TYPE == "multiple_choice"
    planted.doc_to_choice = lambda doc: ["right", "wrong"]
    planted.doc_to_target = lambda doc: 0 if choice or task.config.doc_to_choice is not None else "right"
    answer = PLANTED[task.OUTPUT_TYPE] * (2 if metric == BOTH_WAYS else 1)
    try:
        given = planted.process_results({}, answer)
        if metric not in given or task.OUTPUT_TYPE != "generate_until":
            return metric in given
        with warnings.catch_warnings(action="ignore"):
            return _number((get_metric_aggregation(metric) or sum)([given[metric]] * 2))
    except Exception:  # of a metric that takes something else
        return False


def _require_aggregations(name: str, task: Any) -> None:
    from lm_eval.api.registry import aggregation_registry

    for one in task.get_config("metric_list") or ():
        asked = one.get("aggregation")
        if isinstance(asked, str) and asked not in aggregation_registry:
            said = f"{name} asks for the aggregation {asked!r} of {one['metric']}, which the harness does not know"
            raise BadSpec(said, where="--tasks", do=f"choose from {', '.join(aggregation_registry)} in its YAML")


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
