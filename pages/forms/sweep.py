"""What a sweep measures: models, interpolations, quantizers, remedies, lengths, texts, seeds, exclusions and budget."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import streamlit as st

from pages.state.choice import SweepChoice
from pages.state.session import choice, choose
from pages.state.widget_state import chosen, fill, number
from pages.views.glossary import term_help
from qroar_core.interpolations.registry import interpolation_methods, label_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import COLLECTIONS
from qroar_core.quantizers.parse import INT_BITS
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.remedies.applicable import ROTATION
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec
from qroar_core.sweeps.remedy_words import NONE, WORDS
from qroar_core.sweeps.write_file import in_a_line, list_of, one_line, rope_entry

FILE = "sweep.yaml"
UNQUANTIZED = "none"
FORMATS = (UNQUANTIZED, *(f"int{bits}" for bits in INT_BITS), *KV_PRESETS)
FIRST_FORMATS = (UNQUANTIZED, "int4", "int8", "q4_0", "q8_0")
FIRST_REMEDIES = (NONE, "scales", ROTATION)
OWN = "default"  # the checkpoint's own interpolation, which has no factor
LEFT_OPEN = ("models", "methods", "factors", "formats", "remedies", "lengths", "texts")  # None: what is offered first


def sweep_form(loaded: LoadedModel | None, setting: Setting | None) -> SweepChoice:
    """What is asked now, nothing left open."""
    asked, first = choice().sweep or SweepChoice(), _first(loaded, setting)
    shown = replace(asked, **{name: getattr(first, name) for name in LEFT_OPEN if getattr(asked, name) is None})
    values = {
        "sweep models": list(shown.models or ()),
        "sweep methods": [name for name in shown.methods or () if name in interpolation_methods()],
        "sweep factors": shown.factors,
        "sweep formats": [name for name in shown.formats or () if name in FORMATS],
        "sweep quantizers": shown.quantizers,
        "sweep remedies": [name for name in shown.remedies or () if name in WORDS],
        "sweep lengths": shown.lengths,
        "sweep texts": list(shown.texts or ()),
        "sweep seeds": shown.seeds,
        "sweep windows": shown.windows,
        "sweep exclude": shown.exclude,
        "sweep minutes": shown.minutes,
        "sweep cells": shown.cells,
        "sweep out": shown.folder,
    }
    fill("sweep", (asked, first), values)
    now = replace(_models_and_formats(shown), **_how_much())
    open_again: dict[str, Any] = {name: None for name in LEFT_OPEN if getattr(now, name) == getattr(first, name)}
    new = replace(now, **open_again)
    if new != asked:
        choose(replace(choice(), sweep=None if new == SweepChoice() else new), chosen("sweep", (new, first)))
    return now


def _first(loaded: LoadedModel | None, setting: Setting | None) -> SweepChoice:
    """For the model and the setup in view, or the demo."""
    rope = setting.rope if setting is not None else RopeSpec("yarn", 4.0)
    return SweepChoice(
        models=(loaded.source if loaded is not None else "demo",),
        methods=(rope.method,),
        factors=in_a_line(int(rope.factor) if rope.factor.is_integer() else rope.factor),
        formats=FIRST_FORMATS,
        remedies=FIRST_REMEDIES,
        lengths=str(setting.search.length or 1024) if setting is not None else "1024",
        texts=(setting.text if setting is not None and setting.text in COLLECTIONS else next(iter(COLLECTIONS)),),
    )


def _models_and_formats(shown: SweepChoice) -> SweepChoice:
    """The first two rows: what is measured."""
    one, two, three = st.columns([3, 3, 1])
    models = one.multiselect(
        "Models",
        list(dict.fromkeys([*(shown.models or ()), "demo", "smollm2"])),
        key="sweep models",
        accept_new_options=True,
        help="Type a folder, a GGUF file or a name on the hub, and press Enter.",
    )
    methods = two.multiselect(
        "Interpolations",
        list(interpolation_methods()),
        key="sweep methods",
        format_func=label_of,
        help=f"That of the setup in view keeps its other numbers. {term_help('Interpolation')}",
    )
    factors = three.text_input("Factors", key="sweep factors", placeholder="2, 4")
    one, two = st.columns(2)
    formats = one.multiselect("Formats of K and V", FORMATS, key="sweep formats", help=term_help("K/V cache"))
    remedies = two.multiselect("Remedies", list(WORDS), key="sweep remedies", help=term_help("Remedy"))
    return replace(
        shown,
        models=tuple(models),
        methods=tuple(methods),
        factors=factors,
        formats=tuple(formats),
        remedies=tuple(remedies),
    )


def _how_much() -> dict[str, Any]:
    """The rows below: on how much text, what is left out, and what one start may compute."""
    one, two, three, four = st.columns([2, 3, 1, 1])
    lengths = one.text_input("Context lengths, tokens", key="sweep lengths", placeholder="1024, 4096")
    texts = two.multiselect(
        "Texts",
        list(dict.fromkeys([*COLLECTIONS, *st.session_state["sweep texts"]])),
        key="sweep texts",
        accept_new_options=True,
        help="Text collections of this software; or type the path of a text file, and press Enter.",
    )
    seeds = three.text_input("Seeds", key="sweep seeds", placeholder="0, 1")
    windows = number(four, "Windows of text", 2, 256, "sweep windows", help=term_help("Window"))
    one, two = st.columns(2)
    more = one.text_area(
        "More quantizers, one a line",
        key="sweep quantizers",
        height=68,
        placeholder="{k: int4, v: int8}",
        help="With the arguments of `qroar.quantization`, as the file has them.",
    )
    exclude = two.text_area(
        "Exclusions, one a line",
        key="sweep exclude",
        height=68,
        placeholder="{quantizer: {kv: q4_0}, remedy: scales}",
        help="A cell that has all of it is left out. What cannot be measured is left out without being asked.",
    )
    one, two, three = st.columns(3)
    minutes = number(one, "Minutes at most (0: no limit)", 0, 1_000_000, "sweep minutes", help="Of one start.")
    cells = number(two, "Cells at most (0: no limit)", 0, 100_000, "sweep cells", help="Computed by one start.")
    folder = three.text_input("Folder of the table", key="sweep out", help="A new one, or that of a sweep to go on.")
    return {
        "lengths": lengths,
        "texts": tuple(texts),
        "seeds": seeds,
        "windows": int(windows),
        "quantizers": more,
        "exclude": exclude,
        "minutes": int(minutes),
        "cells": int(cells),
        "folder": folder,
    }


def lines_of(asked: SweepChoice, setting: Setting | None) -> dict[str, str]:
    """The file of what is asked, without exclusions: its keys, and their values in one line each."""
    mine = setting.rope if setting is not None else None
    entries = [
        rope_entry(mine) if mine is not None and mine.method == name else {"method": name}
        for name in asked.methods or ()
    ]
    ropes = []
    for entry in entries:
        rest = ", ".join(
            f"{name}: {in_a_line(value)}" for name, value in entry.items() if name not in ("method", "factor")
        )
        factor = "" if entry["method"] == OWN else f", factor: [{one_line(asked.factors or '')}]"
        ropes.append(f"{{method: {entry['method']}{factor}{f', {rest}' if rest else ''}}}")
    return {
        "models": list_of(asked.models or ()),
        "ropes": f"[{', '.join(ropes)}]",
        "quantizers": list_of([{"kv": name} for name in asked.formats or ()], asked.quantizers),
        "remedies": list_of(asked.remedies or ()),
        "lengths": list_of((), asked.lengths or ""),
        "texts": list_of(asked.texts or ()),
        "seeds": list_of((), asked.seeds),
        "windows": str(asked.windows),
        "exclude": "",
        "budget": _budget(asked),
    }


def _budget(asked: SweepChoice) -> str:
    limits = {name: value for name, value in (("minutes", asked.minutes), ("cells", asked.cells)) if value}
    return in_a_line(limits) if limits else ""


def command_of(asked: SweepChoice) -> str:
    """What reads the file from the command line as the page does."""
    picked = choice()
    options = [("--out", asked.folder), ("--device", picked.device), ("--dtype", picked.dtype)]
    said = " ".join(f"{name} {shlex.quote(value)}" for name, value in options if value != "auto" or name == "--out")
    return f"python -m qroar_core sweep {FILE} {said}"
