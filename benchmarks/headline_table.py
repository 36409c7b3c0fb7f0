"""The table of the headline, from kept passes: what is whole window by window, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from benchmarks.checkpoint import digest_of
from benchmarks.headline_passes import Passes
from benchmarks.headline_units import SEED, Block, Remedy
from qroar_core.statistics.intervals import Interval, mean_interval, paired_interval, ratio_interval

Records = dict[str, list[dict[str, Any]]]  # remedy -> one record a window
HEAD = (
    "tokens scored",
    "remedy",
    "windows",
    "NLL ± SE",
    "ppl",
    "gained over the quantized, nats",
    "gap recovered",
    "tokens' digest",
    "seed",
    "commit",
    "seconds a pass",
)


def print_block(passes: Passes, block: Block) -> None:
    """The rows of one block, over the windows that all of its remedies have been measured on."""
    texts = passes.windows_of(block)
    records, windows = whole(passes, block)
    short = "" if block.length > passes.trained else ", short context: within the trained window"
    print(f"### {block.words}, {block.collection}, {block.length:,} tokens{short}\n")
    if not windows:
        print("No window has been measured under every remedy yet.\n")
        return
    joined = len({name for name, _ in texts.origin if " + " in name})
    border = "; the documents are shorter than that, so they are read as one text and windows cross their borders"
    print(f"{len(windows)} of {len(texts)} held-out windows{border if joined else ''}.\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    digest = digest_of(texts.ids[windows])
    for target, words in spans(passes, block):
        quantized = [record[target] for record in records["quantized"]]
        lost = [a - record[target] for a, record in zip(quantized, records["reference"], strict=True)]
        for remedy in block.remedies:
            print(row(words, remedy.name, records[remedy.name], target, quantized, lost, digest), flush=True)
    print()
    for remedy in block.remedies:
        if remedy.search is not None:
            print(f"- {remedy.name}: {searched(passes, block, remedy)}.")
    print()


def spans(passes: Passes, block: Block) -> list[tuple[str, str]]:
    """Which mean of a record, and its name: past the trained window first, where there is such a part."""
    if block.length <= passes.trained + 1:
        return [("nll", "all")]
    return [("nll_past", f"past {passes.trained:,}"), ("nll", "all")]


def whole(passes: Passes, block: Block) -> tuple[Records, list[int]]:
    """The records of the windows that every remedy has, and which windows they are."""
    found = [
        [passes.record(block, remedy, window) for remedy in block.remedies]
        for window in range(len(passes.windows_of(block)))
    ]
    windows = [window for window, row in enumerate(found) if all(row)]
    columns = {remedy.name: [found[window][i] for window in windows] for i, remedy in enumerate(block.remedies)}
    return columns, windows  # type: ignore[return-value]


def row(
    words: str,
    remedy: str,
    records: Sequence[dict[str, Any]],
    target: str,
    quantized: list[float],
    lost: list[float],
    digest: str,
) -> str:
    """One line: the remedy's NLL, and what it wins over the plain quantizer, paired over windows."""
    nll = [record[target] for record in records]
    over = mean_interval(nll)
    won = "" if remedy == "quantized" else interval_words(paired_interval(quantized, nll))
    share = ""
    if remedy not in ("reference", "quantized"):
        share = share_words([a - b for a, b in zip(quantized, nll, strict=True)], lost)
    cells = [
        words,
        remedy,
        len(nll),
        f"{over.mean:.4f}" + (f" ± {over.se:.4f}" if len(nll) > 1 else ""),
        f"{math.exp(over.mean):.3f}",
        won,
        share,
        digest,
        SEED,
        " ".join(sorted({record["commit"] for record in records})),
        f"{fmean(record['seconds'] for record in records):.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def interval_words(found: Interval) -> str:
    """A difference of NLL and its 95 % interval."""
    if math.isinf(found.se):
        return f"{found.mean:+.4f}, one window"
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def share_words(won: list[float], lost: list[float]) -> str:
    """Which share of the loss was won back, and its 95 % interval where there is a bounded one."""
    if fmean(lost) <= 0:
        return "nothing was lost"
    found = ratio_interval(won, lost)
    if found is not None:
        return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"
    return f"{fmean(won) / fmean(lost):.1%}, {'one window' if len(won) == 1 else 'no bounded interval'}"


def searched(passes: Passes, block: Block, remedy: Remedy) -> str:
    """What the scales of a remedy were searched on."""
    assert remedy.search is not None
    kept, spec = passes.searches.kept(block, remedy), remedy.search
    assert kept is not None
    about = kept.about
    windows = f"{spec.windows} calibration window{'s' * (spec.windows != 1)} of {spec.length:,} tokens"
    tie = f"; {about['tie']}, chosen in {about['seconds of the choice']:.0f} s" if remedy.tied else ""
    identity = "; the search kept identity" if about["identity"] else ""
    return (
        f"{spec.bands.count} bands per layer and KV head, searched on {windows}, digest "
        f"{about['what']['calibration tokens']}, seed {spec.seed}, {about['seconds']:.0f} s{tie}{identity}"
    )


def print_missing(passes: Passes, name: str, blocks: Sequence[Block]) -> None:
    """What a next run of the command would do, and about how long that takes."""
    lacking, seconds = [], 0.0
    for block in blocks:
        units = [
            passes.record(block, remedy, window)
            for window in range(len(passes.windows_of(block)))
            for remedy in block.remedies
        ]
        if missing := units.count(None):
            taken = [record["seconds"] for record in passes.kept.values() if record["length"] == block.length]
            seconds = seconds + missing * fmean(taken) if taken else math.inf
            lacking.append(
                f"- {block.words}, {block.collection}, {block.length:,} tokens: "
                f"{missing} of {len(units)} passes missing"
            )
    if not lacking:
        print("Nothing is missing.")
        return
    print("\n".join(lacking))
    time = "" if math.isinf(seconds) else f", about {seconds / 60:.0f} minutes without the searches"
    print(f"\n`python -m benchmarks {name}` measures them{time}.")
