"""RoPE as config.json states it, compared with what the config that transformers builds of it computes with.

transformers keeps RoPE entries that stand where it does not look for them, and computes without them: blocks for
kinds of layers in a family that has one RoPE for all, Gemma 3's `type`, or a Gemma 3 block without kinds. What is
plainly meant is put where transformers looks, and every stated entry is then asked for in the block of the layers
that it is for: one that is not there is refused by name.
Sources: transformers modeling_rope_utils.py (`standardize_rope_params`), models/gemma3/configuration_gemma3.py,
models/phi3/configuration_phi3.py; microsoft/Phi-3-mini-128k-instruct modeling_phi3.py (`su`, and the window that it
reads beside the block); openai/gpt-oss `initial_context_length`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from qroar_core.errors import UnsupportedModel
from qroar_core.models.config_check import ROPE, ROPE_BLOCKS
from qroar_core.models.families import Family
from qroar_core.models.geometry import FULL_ATTENTION, SLIDING_ATTENTION

PARAMETERS, SCALING = ROPE_BLOCKS
WINDOW = "original_max_position_embeddings"
WINDOWS = (WINDOW, "initial_context_length")  # where the window before the stretch stands beside the block
WINDOWED = ("yarn", "longrope", "llama3")  # whose blocks hold it; dynamic NTK counts from max_position_embeddings
THETAS = ("rope_theta", "rotary_emb_base")  # of all layers, or of those that read the whole context
FIRST_NAMES = {"su": "longrope"}  # Phi-3's; its first "yarn", with another factor on cos and sin, is refused
LOCAL_THETA = "rope_local_base_freq"  # of sliding layers
UNUSED = ("type", "finetuned")  # the first is compared as rope_type
BESIDE = (SCALING, *THETAS, LOCAL_THETA, *WINDOWS)  # where config.json may speak of RoPE outside rope_parameters
Stated = tuple[str, str, str, Any]  # as config.json spells it, kind of layer, entry of the block, value


def restated(raw: dict[str, Any]) -> dict[str, Any]:
    """config.json with its RoPE where transformers looks for it; `raw` itself where it stands there already.

    `type` becomes `rope_type`, Phi-3's first name of LongRoPE that name, a window beside a block goes into it, and
    blocks for kinds of layers under `rope_scaling` become `rope_parameters`.
    """
    new: dict[str, Any] = {name: _restated(raw[name], raw) for name in ROPE_BLOCKS if isinstance(raw.get(name), dict)}
    if _by_kind(new.get(SCALING)) and not new.get(PARAMETERS):
        new = {PARAMETERS: new[SCALING], SCALING: None}
    if all(raw[name] == block for name, block in new.items() if name in raw):
        return raw
    return copy.deepcopy(raw | new)  # transformers writes into the blocks that it is given


def check_rope(raw: dict[str, Any], config: Any, family: Family, where: str) -> None:
    """Raises UnsupportedModel where RoPE of config.json did not arrive in `config`, or holds what no key asked for."""
    blocks, asked = family.rope_blocks(config), set()
    for name, kind, entry, value in _stated(raw, blocks, config.model_type, where):
        asked |= {kind} if entry == "rope_type" else set()
        held = blocks[kind].get(entry, "default" if entry == "rope_type" else _implied(entry, blocks[kind], config))
        if value != held:
            layers = f"{kind} layers compute" if kind else "it computes"
            raise UnsupportedModel(
                f"{name} is {str(value)[:40]}, which a {config.model_type} model does not compute: "
                f"{layers} with {'none' if held is None else str(held)[:40]}",
                where=where,
                do=f"write what they shall compute with into {PARAMETERS}.{kind}"
                if kind
                else "check config.json; remove the entry if the model was trained without it",
            )
    for kind, block in blocks.items():
        made_up = block.get("rope_type", "default")
        if kind not in asked and made_up != "default":
            raise UnsupportedModel(
                f"it names no RoPE scaling, and transformers would take {made_up} for it",
                where=where,
                do=f'add {PARAMETERS} with the rope_type that the model was trained with, "default" for none',
            )


def _implied(entry: str, block: dict[str, Any], config: Any) -> float | None:
    """LongRoPE's factor, where a config keeps none: transformers then takes the ratio of its two windows."""
    window, longest = block.get(WINDOW), getattr(config, "max_position_embeddings", None)
    if entry != "factor" or block.get("rope_type") != "longrope" or not window or not longest:
        return None
    return float(longest / window)


def _restated(block: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    kinds = _by_kind(block)
    if kinds:
        return {kind: _restated(one, raw) for kind, one in kinds.items()}
    rope_type = _rope_type(block)
    new = {key: value for key, value in block.items() if key not in ("type", "rope_type")}
    if rope_type is not None:
        new["rope_type"] = rope_type
    window = next((raw[key] for key in WINDOWS if raw.get(key) is not None), None)
    if rope_type in WINDOWED and new.get(WINDOW) is None and window is not None:
        new[WINDOW] = window
    return new


def _rope_type(block: dict[str, Any]) -> str | None:
    """What a block calls its method, under transformers' name of it; None where it names none."""
    said = block.get("rope_type") if block.get("rope_type") is not None else block.get("type")
    return FIRST_NAMES.get(said, said) if isinstance(said, str) else None


def _by_kind(block: Any) -> dict[str, dict[str, Any]]:
    """The blocks of a table that has one for every kind of layer; empty for any other."""
    inner = {key: one for key, one in block.items() if isinstance(one, dict)} if isinstance(block, dict) else {}
    return inner if inner and len(inner) == len(block) else {}


def _stated(raw: dict[str, Any], blocks: dict[str, dict[str, Any]], model_type: str, where: str) -> Iterator[Stated]:
    """Every RoPE entry that config.json states, once for every kind of layer that it is for."""
    whole = next(iter(blocks))  # the block that an interpolation changes
    for name in ROPE_BLOCKS:
        kinds = _by_kind(raw.get(name))
        for kind, block in kinds.items():
            if "" in blocks:
                raise UnsupportedModel(
                    f"{name}.{kind}: a {model_type} model has one RoPE for all its layers",
                    where=where,
                    do=f"move the entries of {kind} up into {name}",
                )
            if kind in blocks:
                yield from _entries(block, f"{name}.{kind}", kind)
            elif kind not in (FULL_ATTENTION, SLIDING_ATTENTION):
                raise UnsupportedModel(
                    f"{name}.{kind}: no layer is of that kind", where=where, do=f"name {', '.join(blocks)}"
                )
        flat = raw.get(name) if not kinds else None
        for kind in (whole,) if name == SCALING else blocks:  # the older key never spoke of sliding layers
            yield from _entries(flat or {}, name, kind)
    for key in THETAS:
        if raw.get(key) is not None:
            yield key, whole, "rope_theta", raw[key]
    if raw.get(LOCAL_THETA) is not None and (SLIDING_ATTENTION in blocks or "" in blocks):
        yield LOCAL_THETA, SLIDING_ATTENTION if SLIDING_ATTENTION in blocks else "", "rope_theta", raw[LOCAL_THETA]
    for key in WINDOWS:
        for kind, block in blocks.items():
            if raw.get(key) is not None and block.get("rope_type") in WINDOWED:
                yield key, kind, WINDOW, raw[key]


def _entries(block: dict[str, Any], name: str, kind: str) -> Iterator[Stated]:
    rope_type = _rope_type(block)
    for key, value in block.items():
        if key in ROPE and key not in (*UNUSED, "rope_type") and value is not None:
            yield f"{name}.{key}", kind, key, value
    if rope_type is not None:
        yield f"{name}.{'rope_type' if block.get('rope_type') is not None else 'type'}", kind, "rope_type", rope_type
