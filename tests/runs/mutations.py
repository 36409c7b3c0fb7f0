"""Every way in which one entry of a JSON file can be wrong, one at a time."""

from __future__ import annotations

import json
import math
import re
import zlib

NUMBERS = (math.nan, 1e308, -1, "many")
ALIKE = re.compile(r"^\d|/|\s|^int|^W_|^[qk]$|^(pre|post)$")  # an index, a tensor, a quantizer, a condition
WORDS = {"granularity": ("model", "layer", "kv_head"), "mode": ("symmetric", "shared")}


def mutations(raw, stride=1):
    """(what is done, its number, the changed file's text) of every change whose number `stride` divides.

    Of lists and tables whose entries are alike the last stands for all. The number is the same in every process.
    """
    chosen, whole = {}, json.dumps(raw)
    for path, value in _entries(raw, ()):
        kind = tuple("N" if ALIKE.search(str(key)) else key for key in path)
        if "others" not in kind[:-2] or kind[:1] + kind[3:] not in chosen:  # other rules have the asked one's tables
            chosen[kind] = path, value
    for path, value in chosen.values():
        for kind, change in _changes(path, value):
            what = f"{'.'.join(map(str, path))}: {kind}"
            number = zlib.crc32(what.encode())
            if number % stride == 0:
                yield what, number, _changed(whole, path, change)


GONE = object()


def _changes(path, value):
    yield "gone", GONE
    if isinstance(value, list) and value:
        yield "one less", value[:-1]
        yield "one more", [*value, value[-1]]
        yield "empty", []
    elif isinstance(value, dict) and value:
        yield "empty", {}
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for wrong in (*NUMBERS, *((value + 1,) if isinstance(value, int) else ())):
            yield str(wrong), wrong
    elif isinstance(value, str):
        for other in WORDS.get(path[-1], ("",)):
            if other != value:
                yield repr(other), other
        yield "a number", 5
    if value is not None:
        yield "null", None


def _entries(raw, at):
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        yield (*at, key), value
        if isinstance(value, dict | list):
            yield from _entries(value, (*at, key))


def _changed(whole, path, value):
    copy = json.loads(whole)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(copy)
