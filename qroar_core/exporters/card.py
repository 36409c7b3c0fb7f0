"""The model card of an exported folder: what was changed, in words, below what the card said before."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qroar_core.errors import BadCheckpoint
from qroar_core.escape import literal, one_line
from qroar_core.exporters.reader import Recipe
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.interpolations.tie import ties_words
from qroar_core.number_of import number_of
from qroar_core.plain_file import MIB, is_there, read_bytes, reason
from qroar_core.specs.labels import GRANULARITY_WORDS

CARD = "README.md"
LARGEST = 16 * MIB  # bytes of a card
NONE = "none"  # how an interpolation is called that is none
GGUF = "gguf"  # the format of a scaled copy, and the beginning of those that write a file anew
GRAIN = GRANULARITY_WORDS | {"model": "for the whole model"}
EFFECT = {
    "symmetric": "W_Q times g, W_K over g: in full precision no logit changes, only what a quantized K cache loses",
    "shared": "W_Q and W_K times g, which multiplies each band's part of the logits by g^2",
}


def card_of(
    note: dict[str, Any],
    before: Path | None,
    limits: Sequence[str] = (),
    serving: Mapping[str, Recipe] | None = None,
    context: str = "",
) -> str:
    """Text of a README.md: the card found in `before`, then what `note` says was changed, and how it is served.

    Args:
        note: see `exporters.folder.note_of`.
        before: folder of the source checkpoint, None where it has none.
        limits: what readers will not do with it, see `exporters.readers.limits_of`.
        serving: how they are started with it, see `exporters.readers.recipes`.
        context: the longest text, where config.json does not say it, see `exporters.reader.Exported`.
    """
    head, odd = _card_before(before)
    lines = [
        head.rstrip() or f"# {literal(note['from']['name'])}",
        "",
        "## What was changed",
        "",
        f"By {note['made_by']}; `qroar.json` holds every number and hash.",
        "",
    ]
    lines += [f"- {line}" for line in _changes(note, context)]
    lines += [f"- {line}" for line in odd]
    if note["command"]:
        lines += ["", "Repeat it:", "", f"    {one_line(note['command'])}"]
    lines += _serving(serving or {})
    if limits:
        lines += ["", "What runtimes do otherwise:", ""]
        lines += [f"- {line}" for line in limits]
    return "\n".join(lines) + "\n"


def _changes(note: dict[str, Any], context: str) -> list[str]:
    longest = [f"Context: {context}"] if context else []
    return [*_scales(note), *_rope(note), *longest, *_weights(note), *_cache_scales(note)]


def _serving(recipes: Mapping[str, Recipe]) -> list[str]:
    lines = ["", "## How to serve it", "", "From the folder that this one lies in."] if recipes else []
    for name, recipe in recipes.items():
        lines += ["", f"{name}:", "", *(f"    {code}".rstrip() for code in recipe.code.splitlines()), ""]
        lines += [f"- {literal(line)}" for line in recipe.notes]
    return lines


def _card_before(before: Path | None) -> tuple[str, list[str]]:
    """The card in a folder, "" without one, and what there is to say about how it was read."""
    old = before / CARD if before else None
    try:
        if old is None or not is_there(old):
            return "", []
        content = read_bytes(old, LARGEST)
    except OSError as error:
        raise BadCheckpoint(f"{CARD} cannot be read ({reason(error)})", where=str(before), do="remove it") from error
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        kind = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin-1"
        said = f"This card: the source's is not UTF-8; it was read as {kind} and is UTF-8 now."
        return content.decode(kind, errors="replace"), [said]


def _scales(note: dict[str, Any]) -> list[str]:
    scales = note["scales"]
    flat = [] if scales is None else _numbers(scales["g"])
    if scales is None or not note["changed"] or (set(flat) == {1.0} and not scales.get("angles")):
        return ["Scales: none.", *_k_offset(note), *_value_maps(note), *_polish(note)]
    where = ", ".join(sorted({_within_layer(name) for name in note["changed"]}))
    bands = number_of(len(scales["bands"]), "band")
    return [
        f"Scales: one g per frequency band ({bands}, {GRAIN[scales['granularity']]}), "
        f"{min(flat):.3g} to {max(flat):.3g}, multiplied into {literal(where)}. {EFFECT[scales['mode']]}.",
        *_angles(scales),
        *_maps(scales),
        *_k_offset(note),
        *_value_maps(note),
        *_polish(note),
    ]


def _angles(scales: dict[str, Any]) -> list[str]:
    if not scales.get("angles"):
        return []
    flat = _numbers(scales["angles"])
    return [
        f"Angles: every RoPE pair of q and k turned by one more angle ({len(flat)} in all, "
        f"{GRAIN[scales['granularity']]}): turns of one plane commute with RoPE's, so no logit changes."
    ]


def _maps(scales: dict[str, Any]) -> list[str]:
    return [
        f"Map: {_channels(one)} mixed by a matrix ({GRAIN[scales['granularity']]}) in K and by its inverse in q: "
        "it commutes with RoPE, so no logit changes."
        for one in scales.get("maps", [])
    ]


def _k_offset(note: dict[str, Any]) -> list[str]:
    if not note.get("bias"):
        return []
    heads = sum(len(layer) for layer in note["scales"]["k_offset"])
    return [
        f"K offset: a constant taken off the channels of K that do not turn, for each of {heads} KV heads, in the bias "
        f"of {literal(', '.join(note['bias']))}: it adds the same to all logits of a row, which no softmax sees."
    ]


def _value_maps(note: dict[str, Any]) -> list[str]:
    if not note.get("mixed"):
        return []
    maps, (values, output) = note["scales"]["value_maps"], note["mixed"]
    count = sum(len(layer) for layer in maps)
    return [
        f"Value maps: V's {len(maps[0][0][0])} channels of each of {count} KV heads mixed by a matrix in "
        f"{literal(values)}, and by its inverse in {literal(output)}: V carries no RoPE, so no output changes."
    ]


def _polish(note: dict[str, Any]) -> list[str]:
    return [
        f"Polish: rows of q and k of tied RoPE pairs {one['first']} to {one['last']} mixed anew by a matrix of every "
        "head, before all else, so that the tie costs less. This is not exact: it changes the model under the tie."
        for one in (note["scales"] or {}).get("polish", [])
    ]


def _channels(one: dict[str, Any]) -> str:
    pairs = f"RoPE pairs {one['first']} to {one['last']}" if one["last"] >= one["first"] else ""
    rest = f"{one['rest']} channels past the rotated ones" if one["rest"] else ""
    return " and ".join(filter(None, (pairs, rest)))


def _within_layer(name: str) -> str:
    """A tensor's name without its layer: q_proj.weight of a checkpoint, attn_q.weight of a GGUF file."""
    return name.split(".self_attn.")[-1] if not name.startswith("blk.") else name.split(".", 2)[2]


def _rope(note: dict[str, Any]) -> list[str]:
    rope, own = note["rope"], note.get("own_rope")
    if rope.get("tie"):
        return [_tied(note)]
    if rope["method"] == "default":
        return [f"RoPE: as in the source{f', its own {literal(own)} kept' if own not in (None, NONE) else ''}."]
    where = "`rope_parameters` of config.json"
    if note["format"].startswith(GGUF):
        where = "the file's metadata" if note.get("factor", 1.0) == 1 else "the file"
    replaces = f"; it replaces the source's own {literal(note['replaces'])}" if note.get("replaces") else ""
    if note.get("factor", 1.0) != 1:
        replaces += f"; of its attention factor{_folded(note)}"
    return [f"RoPE: {rope['method']} x{rope['factor']:g}, written into {where}{replaces}."]


def _tied(note: dict[str, Any]) -> str:
    """Tied pairs, and where their frequencies and the attention factor went."""
    rope, own = rope_of_block(note["rope"]), note.get("own_rope")
    if rope.method == "default":
        method = "the source's own" + (f" {literal(own)}" if own not in (None, NONE) else "")
    else:
        replaces = f" in place of the source's own {literal(note['replaces'])}" if note.get("replaces") else ""
        method = f"{rope.method} x{rope.factor:g}{replaces}"
    folded = f"; its attention factor{_folded(note)}" if note.get("factor", 1.0) != 1 else ""
    return f"RoPE: {method}, {ties_words(rope.tie)}, written into {tied_place(note['format'])}{folded}."


def _folded(note: dict[str, Any]) -> str:
    """What q and k were multiplied by, and where it went."""
    return f" {note.get('factor', 1.0):.6g} is multiplied into W_Q and W_K"


def tied_place(format: str) -> str:
    """Where a format has the frequencies of tied pairs."""
    if format.startswith(GGUF):
        return "`rope_freqs.weight`, a divisor per pair"
    return "`rope_parameters` of config.json as LongRoPE with a factor per pair, both lists equal"


def _weights(note: dict[str, Any]) -> list[str]:
    spec, format = note.get("weights"), note["format"]
    if format == GGUF:
        return ["Weights: the source file's own, every code byte for byte; scales went into block scales."]
    if format.startswith(GGUF):
        return [f"Weights: stored as {format.removeprefix(f'{GGUF}-').upper()}, vectors as F32."]
    if spec is None:
        return [f"Weights: {literal(note['dtype'])}."] if note.get("dtype") else []
    return [
        f"Weights: the linear layers of the decoder rounded to int{spec['bits']}, one scale per {spec['group_size']} "
        "inputs of an output row; embeddings, norms and the output projection are not. Such a quantizer commutes "
        "with row scales, Q(g w) = g Q(w): symmetric scales change nothing here, they act on the K cache."
    ]


def _cache_scales(note: dict[str, Any]) -> list[str]:
    found = note.get("cache_scales")
    if not found:
        return []
    ranges = ", ".join(f"{name}_scale {min(found[name]):.3g} to {max(found[name]):.3g}" for name in ("k", "v"))
    return [
        f"K/V cache: a k_scale and a v_scale a layer for an fp8 cache (e4m3), {ranges}: the largest magnitude over 448 "
        f"in {literal(found['text'])}. They belong to these weights and this interpolation."
    ]


def _numbers(nested: Any) -> list[float]:
    return [x for part in nested for x in _numbers(part)] if isinstance(nested, list) else [float(nested)]
