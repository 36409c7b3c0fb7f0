"""Is a config.json whole, and of the right kinds of numbers?

transformers fills what is missing with the sizes of its first model of a family, and passes a factor given as text on
to arithmetic. Each is answered here in one line before a model is built; `config_keys` asks what the keys mean.
Sources: transformers modeling_rope_utils.py (keys of rope_parameters), models/*/configuration_*.py.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

from qroar_core.errors import BadCheckpoint, UnsupportedModel
from qroar_core.interpolations.registry import interpolation_methods

LARGEST = 1 << 31  # of any size
LARGEST_THETA = 1e12  # a thousand times the largest in use: no token of a text of any length turns its slowest pairs
LARGEST_FACTOR = 1 << 16  # of a stretch
LARGEST_EPSILON = 0.1  # of a norm's variance, which is about 1; real ones end at 1e-3
REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
STEPS = ("decoder_sparse_step", "full_attention_interval", "n_group", "topk_group")  # what is counted or chosen
POSITIVE = (
    *REQUIRED,
    "intermediate_size",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "num_local_experts",
    "n_routed_experts",
    "num_experts_per_tok",
    "sliding_window",
    "num_kv_heads",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "initial_context_length",
    "original_max_position_embeddings",
    *STEPS,
)
OPTIONAL = (
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "intermediate_size",
    "num_kv_heads",  # may be null
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "original_max_position_embeddings",
    *STEPS,
)
EXPERTS = ("num_local_experts", "num_experts_per_tok")
ROPE_BLOCKS = ("rope_parameters", "rope_scaling")

Test = Callable[[Any], bool]


def is_number(x: Any) -> bool:
    """A finite number that is no truth value."""
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= sys.float_info.max  # never NaN


def _at_least(least: float) -> Test:
    return lambda x: is_number(x) and x >= least


def _above(least: float) -> Test:
    return lambda x: is_number(x) and x > least


def _whole(x: Any) -> bool:
    return is_number(x) and 0 < x < LARGEST and float(x).is_integer()


def _positive_list(x: Any) -> bool:
    return isinstance(x, list) and bool(x) and all(is_number(one) and one > 0 for one in x)


ROPE: dict[str, tuple[Test, str]] = {  # keys of a RoPE block, and what may stand there
    "rope_theta": (lambda x: _above(1)(x) and x <= LARGEST_THETA, f"a number above 1, at most {LARGEST_THETA:g}"),
    "factor": (lambda x: _at_least(1)(x) and x <= LARGEST_FACTOR, f"a number of at least 1, at most {LARGEST_FACTOR}"),
    "original_max_position_embeddings": (_whole, "a whole number of tokens"),
    "partial_rotary_factor": (lambda x: is_number(x) and 0 < x <= 1, "a number above 0, at most 1"),
    "attention_factor": (_above(0), "a number above 0"),
    "beta_fast": (_above(0), "a number above 0"),
    "beta_slow": (_above(0), "a number above 0"),
    "mscale": (_at_least(0), "a number of at least 0"),  # negative ones can make YaRN divide by 0
    "mscale_all_dim": (_at_least(0), "a number of at least 0"),
    "low_freq_factor": (_above(0), "a number above 0"),
    "high_freq_factor": (_above(0), "a number above 0"),
    "short_factor": (_positive_list, "a list of numbers above 0"),
    "long_factor": (_positive_list, "a list of numbers above 0"),
    "truncate": (lambda x: isinstance(x, bool), "true or false"),
    "mrope_section": (lambda x: isinstance(x, list) and all(_whole(one) for one in x), "a list of whole numbers"),
    "mrope_interleaved": (lambda x: isinstance(x, bool), "true or false"),
    "rope_type": (lambda x: isinstance(x, str), "a name"),
    "type": (lambda x: isinstance(x, str), "a name"),
    "finetuned": (lambda x: isinstance(x, bool), "true or false"),  # of YaRN's own configs; changes nothing
}
MAY_BE_NULL = (
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "factor",
)
USUAL = {"beta_fast": 32, "beta_slow": 1}  # where a config does not say
SCALING = (
    "factor",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
)
UNLIMITED = ("time_step_limit.1",)  # as transformers 4 writes Mamba's largest step
NEUTRAL: tuple[Any, ...] = (None, False, 0, "", "none", [], {})
EPSILON = re.compile(r"(^|_)(eps|epsilon)$")  # what a norm adds under its root


def check_raw(raw: dict[str, Any], where: str) -> None:
    """Raises BadCheckpoint where a number of config.json is missing, of a wrong kind or out of range."""
    _refuse_non_finite(raw, "", where)
    aliases = _aliases(raw.get("model_type"))
    dense = raw.get("model_type") == "granitemoehybrid" and not any(map(raw.get, EXPERTS))  # it says 0 of both
    for name in REQUIRED:
        if not any(raw.get(key) is not None for key in (name, *aliases.get(name, ()))):
            raise BadCheckpoint(f"config.json has no {name}", where=where, do="fetch it again; no size is made up")
    for name in POSITIVE:
        for key in (name, *aliases.get(name, ())):
            value = raw.get(key)
            unused = value == 0 and (
                (key == "sliding_window" and raw.get("use_sliding_window") is False) or (name in EXPERTS and dense)
            )
            if key in raw and not _whole(value) and not (value is None and name in OPTIONAL) and not unused:
                raise wrong(key, value, "a whole number above 0", where)
    pad: Any = raw.get("pad_token_id")
    rows: Any = raw.get("vocab_size")
    if is_number(pad) and is_number(rows) and pad >= rows:
        raise wrong("pad_token_id", pad, f"below the embedding's {rows} rows", where)
    for key in ("rope_theta", "rope_local_base_freq", "rotary_emb_base"):
        if key in raw and not ROPE["rope_theta"][0](raw[key]):
            raise wrong(key, raw[key], ROPE["rope_theta"][1], where)
    for key in ("partial_rotary_factor", "rotary_pct"):
        if raw.get(key) is not None and not ROPE["partial_rotary_factor"][0](raw[key]):
            raise wrong(key, raw[key], ROPE["partial_rotary_factor"][1], where)
    for key in raw:
        if isinstance(raw[key], int | float) and abs(raw[key]) > LARGEST and not re.search("token|theta", key):
            raise wrong(key, raw[key], f"a number up to {LARGEST}", where)
        if (
            EPSILON.search(key)
            and raw[key] is not None
            and not (is_number(raw[key]) and 0 < raw[key] < LARGEST_EPSILON)
        ):
            raise wrong(key, raw[key], f"a number above 0, below {LARGEST_EPSILON}", where)
    for key in ROPE_BLOCKS:
        if raw.get(key) is not None:
            _check_rope(raw[key], key, where)
        _refuse_longer(raw, key, where)
    one, other = (_rope_entries(raw.get(key)) for key in ROPE_BLOCKS)
    if any(one[key] != other[key] for key in one.keys() & other.keys()):
        raise BadCheckpoint(f"{' and '.join(ROPE_BLOCKS)} differ", where=where, do="remove the wrong one")


def _refuse_non_finite(value: Any, at: str, where: str) -> None:
    """Python reads NaN and Infinity, which JSON does not have; they mean nothing in a config but "no limit"."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        _refuse_non_finite(one, f"{at}.{key}" if at else str(key), where)
    if isinstance(value, float) and not is_number(value) and not (at in UNLIMITED and value > 0):
        raise wrong(at, value, "a finite number", where)


def _check_rope(block: Any, name: str, where: str) -> None:
    if not isinstance(block, dict):
        raise wrong(name, block, "a table", where)
    inner = {key: value for key, value in block.items() if isinstance(value, dict)}
    if inner and len(inner) == len(block):  # a block for every kind of layer
        for kind, one in inner.items():
            _check_rope(one, f"{name}.{kind}", where)
        return
    for key, value in block.items():
        test, allowed = ROPE.get(key, (None, ""))
        if test is None:
            if value in (*NEUTRAL, 1, 1.0):
                continue
            raise UnsupportedModel(f"{name}.{key} is not known", where=where, do="check config.json")
        if not test(value) and not (value is None and key in MAY_BE_NULL):
            raise wrong(f"{name}.{key}", value, allowed, where)
    said = [str(block[key]) for key in ("rope_type", "type") if block.get(key) is not None]
    kinds = ["longrope" if kind == "su" else kind for kind in said]  # Phi-3's first name of it
    if len(set(kinds)) > 1:
        raise BadCheckpoint(f"{name} has rope_type {kinds[0]} and type {kinds[1]}", where=where, do="remove one")
    kind = kinds[0] if kinds else "default"
    for key in SCALING if kind == "default" else ():
        if block.get(key) not in (None, 1):
            raise BadCheckpoint(
                f"{name}.{key} is {str(block[key])[:40]}, and no rope_type says how to use it",
                where=where,
                do="add the rope_type that the model was trained with, or remove the key",
            )
    method = interpolation_methods().get(kind)
    own = [option.field for option in method.options] if method is not None else []
    for low, high in (("beta_slow", "beta_fast"), ("low_freq_factor", "high_freq_factor")):
        least, most = (block.get(end, USUAL.get(end)) for end in (low, high))
        if high in own and least is not None and most is not None and not least < most:
            raise BadCheckpoint(f"{name}.{low} is {least:g}, {high} {most:g}", where=where, do="check config.json")
    for key in method.required_keys if method is not None else ():
        if block.get(key) is None:
            raise BadCheckpoint(f"{name}.{key} is missing, {kind} needs it", where=where, do="check config.json")


def _refuse_longer(raw: dict[str, Any], key: str, where: str) -> None:
    """A window before the stretch that is longer than the window after it."""
    block: Any = raw.get(key)
    original: Any = block.get("original_max_position_embeddings") if isinstance(block, dict) else None
    context: Any = raw.get("max_position_embeddings")
    if is_number(original) and is_number(context) and original > context:
        said = f"{key}.original_max_position_embeddings is {original:g}, max_position_embeddings {context:g}"
        raise BadCheckpoint(said, where=where, do="check config.json")


def _rope_entries(block: Any) -> dict[str, Any]:
    """A RoPE block's entries, its kind under one name."""
    if not isinstance(block, dict):
        return {}
    return {"rope_type" if key == "type" else key: value for key, value in block.items() if value is not None}


def _aliases(model_type: Any) -> dict[str, tuple[str, ...]]:
    """Names that a family has for the usual ones, by the usual one."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return {}
    pairs = getattr(CONFIG_MAPPING[model_type], "attribute_map", {})
    found: dict[str, tuple[str, ...]] = {}
    for usual, own in pairs.items():
        found[usual] = (*found.get(usual, ()), own)
    return found


def wrong(key: str, value: Any, allowed: str, where: str) -> BadCheckpoint:
    """The refusal of one key of config.json."""
    said = json.dumps(value, default=str)[:40]  # as the file spells it: null, true, "4.0"
    return BadCheckpoint(f"{key} is {said}, {allowed} belongs there", where=where, do="check config.json")
