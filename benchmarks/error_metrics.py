"""Which attention error metric should the search use by default? What scales found by each recover on text unseen.

The default search is run by every metric, everything else alike, once for scales and once for scales and angles. The
scales are read on development windows, by which the default is chosen, and on held-out ones, which are printed beside
and choose nothing. Differences from `rows` are paired window by window. One search is one draw of calibration windows
and of gradient rows; where a setting is searched with several seeds, a window counts with its mean over them, and how
far single seeds lie apart is printed beside.

The rule: a metric is to be the default where it is better than `rows` in most settings and worse in none, each by a
95 % interval over windows of development text that excludes zero.

Passes are kept one by one, beside the headline's: `python -m benchmarks error_metrics --minutes 50` goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmarks.checkpoint import NAME, digest_of, loaded_as
from benchmarks.headline import KEPT, QUANTIZED, REFERENCE, deadline_in, window_filled
from benchmarks.headline_passes import Passes
from benchmarks.headline_table import interval_words, print_missing, share_words, whole
from benchmarks.headline_units import Block, Remedy
from benchmarks.int4_int3_w4 import LENGTH, ROPE, SETTINGS, WINDOWS, Name
from qroar_core.interpolations.registry import label_of
from qroar_core.maths.error_metrics import error_metrics
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import COLLECTIONS
from qroar_core.number_of import number_of
from qroar_core.specs import RopeSpec, SearchSpec
from qroar_core.statistics.intervals import Interval, clustered_interval, mean_interval, paired_interval

BASELINE = "rows"  # what the others are compared with, whichever is the default
CHOOSES, BESIDE = "development", "heldout"
FILE = "passes-error-metrics.jsonl"


@dataclass(frozen=True, slots=True)
class SearchedSetting:
    """One quantizer on one model, for scales or for scales and angles; windows of all its blocks count together."""

    words: str
    blocks: tuple[Block, ...]  # of development text, one a collection
    seeds: tuple[int, ...]

    def on(self, split: str) -> tuple[Block, ...]:
        """The blocks on another split."""
        return tuple(replace(block, split=split) for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one command measures, in the order in which it does: all development text first."""

    name: str
    model: str
    about: str  # the model, as the table calls it
    rope: RopeSpec
    folder: Path
    settings: tuple[SearchedSetting, ...]

    @property
    def blocks(self) -> list[Block]:
        """Of every setting, on the text that chooses and then on the other."""
        return [block for split in (CHOOSES, BESIDE) for setting in self.settings for block in setting.on(split)]


def named(metric: str, seed: int) -> str:
    """The row of a search."""
    return f"{metric}, seed {seed}"


def setting(
    quantizer: Name, angles: bool, collections: Sequence[str], length: int, most: int, seeds: tuple[int, ...]
) -> SearchedSetting:
    """The default search by every metric and seed."""
    words, quant = SETTINGS[quantizer]
    spec = SearchSpec(length=length, angles=angles)
    remedies = (
        REFERENCE,
        QUANTIZED,
        *(
            Remedy(named(metric, seed), search=replace(spec, error_metric=metric, seed=seed))
            for seed in seeds
            for metric in error_metrics()
        ),
    )
    blocks = tuple(Block(words, quant, text, length, most, remedies, CHOOSES) for text in collections)
    found = "scales and angles" if angles else "scales"
    return SearchedSetting(f"{words}, {found}, {' and '.join(collections)}, {length:,} tokens", blocks, seeds)


QUANTIZERS: tuple[Name, ...] = ("int4", "int3")
ON_DEMO = Choice(
    "error_metrics.demo",
    "demo",
    "The demo model, trained on windows of 256 tokens",
    RopeSpec("yarn", 4.0),
    KEPT.parent / "error_metrics",
    tuple(setting(name, angles, tuple(COLLECTIONS), 1024, 16, (0,)) for angles in (False, True) for name in QUANTIZERS),
)
ON_SMOLLM2 = Choice(
    "error_metrics.smollm2",
    "smollm2",
    NAME,
    ROPE,
    KEPT,
    tuple(
        setting(name, angles, (text,), LENGTH, WINDOWS, (0,))
        for text in ("technical", "messages")
        for angles in (False, True)
        for name in QUANTIZERS
    ),
)


def main(choice: Choice, minutes: float | None = None) -> None:
    """Measure what is missing, for so many minutes at most, and print what is there."""
    measured(loaded_as(choice.model), choice, deadline_in(minutes))


def measured(loaded: LoadedModel, choice: Choice, deadline: float | None = None) -> bool:
    """`main` on any model; True when nothing is missing."""
    passes = Passes(loaded, choice.rope, choice.folder, FILE)
    print(
        f"{choice.about}; {label_of(choice.rope.method)} x{choice.rope.factor:g}, K cache per token and KV head; "
        f"fingerprint {loaded.fingerprint}. Intervals are 95 %: Student's t paired over windows, of shares Fieller's. "
        "Where there are several seeds of the search, a window counts with the mean of its NLL over them: the "
        "interval is over text, not over searches.\n",
        flush=True,
    )
    done = all(
        filled(passes, setting.on(split), deadline) for split in (CHOOSES, BESIDE) for setting in choice.settings
    )
    print_verdict([found for setting in choice.settings if (found := differences(passes, setting))])
    for split in (CHOOSES, BESIDE):
        for setting in choice.settings:
            print_setting(passes, setting, split)
    print_missing(passes, choice.name, choice.blocks)
    return done


def filled(passes: Passes, blocks: Sequence[Block], deadline: float | None) -> bool:
    """Measure what a setting lacks, the first window of every text, then the second: so a part of it has all texts."""
    held = {block: len(passes.windows_of(block)) for block in blocks}
    return all(
        window_filled(passes, block, window, deadline)
        for window in range(max(held.values()))
        for block in blocks
        if window < held[block]
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """NLL of the windows that all metrics of a setting have been measured on, those of its texts one after another."""

    collections: list[str]  # of each window
    documents: list[str]
    digests: list[str]
    nll: dict[str, list[float]]  # remedy -> one a window

    def mean(self, metric: str, seeds: Sequence[int]) -> list[float]:
        """Over seeds, window by window."""
        return [fmean(each) for each in zip(*(self.nll[named(metric, seed)] for seed in seeds), strict=True)]


def counted(passes: Passes, setting: SearchedSetting, split: str) -> Counted:
    """What is kept of a setting."""
    found = Counted([], [], [], {remedy.name: [] for remedy in setting.blocks[0].remedies})
    for block in setting.on(split):
        texts, (records, windows) = passes.windows_of(block), whole(passes, block)
        found.collections.extend(block.collection for _ in windows)
        found.documents.extend(texts.documents[window] for window in windows)
        if windows:
            found.digests.append(f"{block.collection} {digest_of(texts.ids[windows])}")
        for name, column in records.items():
            found.nll[name].extend(record["nll"] for record in column)
    return found


def differences(passes: Passes, setting: SearchedSetting) -> dict[str, Interval]:
    """How much lower than the baseline's the NLL of every other metric is on development text.

    Empty where a window is still to be measured: stopping where an interval happens to exclude zero would choose it.
    """
    found = counted(passes, setting, CHOOSES)
    if len(found.documents) < sum(len(passes.windows_of(block)) for block in setting.blocks):
        return {}
    rows = found.mean(BASELINE, setting.seeds)
    return {
        name: paired_interval(rows, found.mean(name, setting.seeds)) for name in error_metrics() if name != BASELINE
    }


def print_verdict(told: Sequence[dict[str, Interval]]) -> None:
    """In how many settings each metric is better or worse than the baseline, by an interval that excludes zero."""
    for name in error_metrics():
        if name != BASELINE and told:
            better, worse = sum(one[name].above_zero for one in told), sum(one[name].below_zero for one in told)
            print(
                f"- `{name}` is better than `{BASELINE}` in {better} and worse in {worse} of {len(told)} settings "
                f"that are whole (interval without zero, {CHOOSES} text)"
            )
    print()


def print_setting(passes: Passes, setting: SearchedSetting, split: str) -> None:
    """One setting's table on one split."""
    found = counted(passes, setting, split)
    print(f"### {setting.words}: {split} text\n")
    if not found.documents:
        print("No window has been measured under every metric yet.\n")
        return
    search = setting.blocks[0].remedies[-1].search
    assert search is not None
    print(
        f"{number_of(len(found.documents), 'window')} of {number_of(len(set(found.documents)), 'document')} (digests: "
        f"{', '.join(found.digests)}), {search.windows} calibration windows, seeds of the search: "
        f"{', '.join(map(str, setting.seeds))}.\n"
    )
    print(
        f"| metric | gained over identity, nats | gap recovered | better than `{BASELINE}` by, nats "
        "| the same over documents | by text | by seed |\n|---|---|---|---|---|---|---|"
    )
    quantized, rows = found.nll[QUANTIZED.name], found.mean(BASELINE, setting.seeds)
    lost = [a - b for a, b in zip(quantized, found.nll[REFERENCE.name], strict=True)]
    for name in error_metrics():
        nll = found.mean(name, setting.seeds)
        won = [a - b for a, b in zip(quantized, nll, strict=True)]
        cells = [f"`{name}`", interval_words(mean_interval(won)), share_words(won, lost)]
        cells += [""] * 4 if name == BASELINE else compared(found, name, rows, nll, setting.seeds)
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def compared(found: Counted, metric: str, rows: list[float], nll: list[float], seeds: Sequence[int]) -> list[str]:
    """What one metric has over the baseline: over windows, over documents, by collection and by seed."""
    apart = [a - b for a, b in zip(rows, nll, strict=True)]
    documents = clustered_interval(apart, found.documents)
    texts = {
        text: fmean(a for a, of in zip(apart, found.collections, strict=True) if of == text)
        for text in dict.fromkeys(found.collections)
    }
    single = [fmean(found.nll[named(BASELINE, seed)]) - fmean(found.nll[named(metric, seed)]) for seed in seeds]
    return [
        interval_words(mean_interval(apart)),
        interval_words(documents) if documents else "",
        ", ".join(f"{text} {mean:+.4f}" for text, mean in texts.items()),
        " ".join(f"{mean:+.4f}" for mean in single),
    ]
