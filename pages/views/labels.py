"""Specs in a few words, for status bar and menus."""

from __future__ import annotations

from qroar_core.job import JobSnapshot
from qroar_core.number_of import number_of
from qroar_core.setting import Setting
from qroar_core.specs.labels import (
    GRANULARITY_WORDS,
    TEXT_WORDS,
    quant_words,
    quantizer_words,
    rope_words,
    setting_words,
    weight_words,
)

__all__ = [
    "progress_words",
    "quant_words",
    "quantizer_words",
    "rope_words",
    "seconds_words",
    "setting_words",
    "short_name",
    "size_words",
    "weight_words",
    "whole_setting_words",
]


def short_name(name: str, most: int = 40) -> str:
    """A long name cut in its middle, where model names differ least."""
    return name if len(name) <= most else f"{name[: most * 3 // 5]}…{name[len(name) - most * 2 // 5 + 1 :]}"


def size_words(count: int) -> str:
    """`3.5 M`, `8.03 B`, `256`."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,}"


def seconds_words(seconds: float) -> str:
    """`8 s`, `2 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def whole_setting_words(setting: Setting) -> str:
    """`YaRN ×4 · K int3 per token · 1024 tokens · 8 bands · symmetric scales, per layer · method gradient · novels`."""
    spec = setting.search
    return " · ".join(
        (
            rope_words(setting.rope),
            quant_words(setting.quant),
            f"{spec.length} tokens",
            number_of(spec.bands.count, "band"),
            f"{spec.mode} scales, {GRANULARITY_WORDS[spec.granularity]}",
            f"method {spec.method}",
            TEXT_WORDS.get(setting.text, setting.text),
        )
    )


def progress_words(now: JobSnapshot) -> str:
    """Where a job that runs or waits is."""
    if now.state == "queued":
        more = f" and {now.ahead - 1} more" if now.ahead > 1 else ""
        return f"{now.label}: " + (f"waiting for “{now.behind}”{more} to finish" if now.behind else "about to start")
    if now.cancelling:
        return f"{now.label}: stopping at the next step …"
    what = f": {now.step.what}" if now.step and now.step.what else ""
    left = f", about {seconds_words(now.seconds_left)} left in this pass" if now.seconds_left is not None else ""
    return f"{now.label}{what} · {seconds_words(now.seconds)}{left}"
