"""Refusals in the library's words: what the core calls by the command line's flag is named by its parameter.

The core is asked by both. It says `--angles`; from `qroar.search` that is `search(angles=...)`. The table below knows
every flag whose parameter is not one of the function that was called.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from functools import wraps
from typing import ParamSpec, TypeVar

from qroar_core.errors import Cancelled, QRoarError
from qroar_core.transforms.registry import switches

Given = ParamSpec("Given")
Returned = TypeVar("Returned")
TAKEN_BY: dict[str, tuple[str, ...]] = {  # by flags without their dashes: who takes the parameter of that name
    "Setup": ("rope", "length", "text", "bos", "seed", "bands"),
    "Rope": ("factor", "tie"),
    "Bands": ("partition",),
    "quantization": (
        *("k", "v", "kv", "weights", "qk", "activations", "keep_layers"),
        *("kv_scale", "kv_rotation", "k_before_rope", "weight_scale"),
    ),
    "load": ("device", "dtype"),
    "search": ("angles", "maps", "k_offset", "value_maps", "polish", "mode", "granularity", "objective", "windows"),
    "export": ("format",),
    "sweep": ("cells",),
    "evaluate": ("lengths",),
    "diagnose": ("band_cost",),
    "SearchSpec": ("method", "sampler", "bounds", "error_metric", "l2_penalty"),
    "EvaluationSpec": ("stride", "targets", "rotation_scales"),
    "RetrievalSpec": ("tasks", "depths", "slack"),
    "ComparisonSpec": ("calibration_tokens",),
    "HarnessSpec": ("include_path", "chat"),
    "lm_eval": ("num_fewshot", "limit", "truncate"),
    "protect_layers": ("cache_bytes", "sensitivity"),
}
OTHERWISE: dict[str, tuple[str, str]] = {  # flags that the library spells otherwise: who takes it, and its name there
    "longrope_factors": ("Rope", "long_factor"),
    "group_size": ("quantization", "weight_group"),
    "methods": ("compare", "remedies"),
    "null": ("diagnose", "null_draws"),
    "no_chat": ("RetrievalSpec", "chat=False"),
    "batch_size": ("HarnessSpec", "batch"),
}
OWNERS = {name: (owner, name) for owner, names in TAKEN_BY.items() for name in names} | OTHERWISE
SWITCHES = {
    *switches(),
    "band_cost",
    "k_before_rope",
    "kv_rotation",
    "rotation_scales",
    "chat",
    "truncate",
}  # True where they are given
NO_VALUE = "that|and|or|alone|in|by|as|under|to|with|for|has|is|they|where"  # words of the sentence behind a flag
FLAG = re.compile(rf"--([a-z][a-z0-9-]*)(?: (?!(?:{NO_VALUE})\b)([A-Za-z0-9_.:+-]*[A-Za-z0-9_+]))?")
ROPE = re.compile(r"--rope ([a-z0-9]+)(?: --factor ([\d.]+))?")
CHOOSE_TIES = "--tie auto"  # an option of a search there, a function of its own here
PHRASES = {  # of the command line and the pages, where the library does it in another way
    CHOOSE_TIES: "qroar.choose_ties",
    "22-25,26-31:0, by --tie or as Tied pairs on the Start page": 'by Rope(tie=qroar.ties("22-25,26-31:0"))',
    "--longrope-factors FILE, a JSON with long_factor and short_factor": (
        "Rope(long_factor=..., short_factor=...), numbers, one per RoPE pair"
    ),
}
COMMAND = re.compile(r"(`[^`]*`)")  # a command line that is quoted stays one


def in_parameters(call: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Name parameters instead of flags in whatever the function refuses."""
    own = tuple(inspect.signature(call).parameters)

    @wraps(call)
    def called(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        try:
            return call(*args, **kwargs)
        except Cancelled:
            raise
        except QRoarError as problem:
            said = _problem(problem, call.__name__, own)
            if said is None:
                raise
            raise said from problem

    return called


def _problem(problem: QRoarError, call: str, own: Collection[str]) -> QRoarError | None:
    """The same refusal in the library's words; None where it has no others."""
    what, do = (in_words(text, own) for text in (problem.what, problem.do))
    where = _where(problem.where, call, own)
    if (what, where, do) == (problem.what, problem.where, problem.do):
        return None
    return type(problem)(what, where=where, do=do)


def _where(where: str, call: str, own: Collection[str]) -> str:
    if not where.startswith("--"):
        return call if where.replace("-", "_") == call else where
    if where == CHOOSE_TIES:
        return "choose_ties"
    flag = where.split(" ")[0]
    name = _name(flag.removeprefix("--"))
    if name in own:
        return f"{call}({name}=...)"
    owner, parameter = OWNERS.get(name, ("", ""))
    if not owner:
        return where
    return f"{owner}({parameter if '=' in parameter else f'{parameter}=...'})"


def in_words(text: str, own: Collection[str] = ()) -> str:
    """A sentence with parameters where it has flags.

    Args:
        own: parameters of the function that was called, which need no other name beside them.
    """

    def rope(found: re.Match[str]) -> str:
        return f'rope=qroar.Rope("{found[1]}"{f", factor={found[2]}" if found[2] else ""})'

    def parameter(found: re.Match[str]) -> str:
        return _said(_name(found[1]), found[2], own) or found[0]

    for phrase, words in PHRASES.items():
        text = text.replace(phrase, words)
    parts = COMMAND.split(text)
    return "".join(part if at % 2 else FLAG.sub(parameter, ROPE.sub(rope, part)) for at, part in enumerate(parts))


def _said(name: str, value: str | None, own: Collection[str]) -> str:
    """`objective="full"`, `quantization(k="int4")`; "" where the library has no such parameter."""
    owner, parameter = ("", name) if name in own else OWNERS.get(name, ("", ""))
    if not parameter:
        return ""
    if name in SWITCHES:
        said = f"{parameter}={value != 'none'}"
    elif value is None or "=" in parameter:
        said = parameter
    elif value.isupper() or re.fullmatch(r"[\d.]+", value):
        said = f"{parameter}={value}"
    else:
        said = f'{parameter}="{value}"'
    return f"{owner}({said})" if owner not in ("", "Setup") else said


def _name(flag: str) -> str:
    return flag.replace("-", "_")
