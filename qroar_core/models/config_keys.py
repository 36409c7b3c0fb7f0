"""Does config.json ask for something that this family's code does not compute?

transformers stores keys it does not know without a word. Those whose names sound like computing are refused here, but
for values under which they change nothing, and keys that repeat what the config computes with already.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from qroar_core.errors import UnsupportedModel
from qroar_core.models.config_check import EPSILON, NEUTRAL

COMPUTES = re.compile(  # words in a key that changes what a model computes
    r"softcap|soft_cap|logit_cap|multiplier|(?<!init)(?<!initializer)(?<!lora)_scal(e|es|ing)(_factor)?$"
    r"|^scale_(emb|depth|attn|logit|resid)|^mup_|dim_model_base|window|clip_|clamp|bidirectional|causal|prefix_lm|alibi|^rope_|rotary|use_rope$"
    r"|^att(entio)?n_(types?|pattern)$|layer_switch|interleaved_layers|(local|global|cross|sparse|parallel)_att"
    r"|normali[sz]e_emb|emb(edding)?s?_norm"
    r"|theta|_eps$|epsilon|qk_norm|qk_layernorm|experts|no_rope|nope_|sinks?$|query_pre_attn|attention_chunk"
    r"|temperature_tuning|parallel_residual|position_embedding_type|ntk|mscale|yarn|dual_chunk|swiglu_|moe_layer_freq"
    r"|scoring_func"
)
REPEATABLE_KEYS = re.compile(r"(^|_)(eps|epsilon|theta)$")  # may stand twice under two names, with one value
FACTOR = re.compile(r"(factor|scale|scaling|multiplier)$")  # of these 1 changes nothing
INERT: dict[str, tuple[Any, ...]] = {  # keys of that sound, and the values under which they change nothing
    "scale_attn_weights": (True, None),
    "rope_interleaved": (False, None),
    "attention_type": ("causal", "full", "full_attention", None),
    "attn_type": ("causal", "full", "full_attention", None),
    "order_of_interleaved_layers": ("local_attn_first", None),
    "position_embedding_type": ("rope", "rotary", "absolute", "rope_gptj", None),  # the last is Cohere's own name
    "swiglu_limit": (None,),
    "swiglu_alpha": (None,),
    "moe_layer_freq": (1, None),
    "attn_rotary_emb": (),  # Bamba says partial_rotary_factor too
    "rotary_pct": (1, None),
}
TRUE_CHANGES_NOTHING = re.compile(r"^(is_|use_)?(causal(_mask|_attention)?|rope|rotary(_emb(edding)?s?)?)$")
EVERY = ("sliding_window_pattern", "layer_switch")  # one layer in so many reads the whole context
REPEATS = {  # keys that say again what another entry says, and which
    "experts_per_token": "num_experts_per_tok",
    "num_experts_per_token": "num_experts_per_tok",
    "sliding_window_size": "sliding_window",
    "partial_rotary_factor": "partial_rotary_factor",  # of a RoPE block
    "rope_pct": "partial_rotary_factor",
    "hidden_act": "hidden_activation",
    "hidden_activation": "hidden_act",
}
FIXED: dict[str, dict[str, Any]] = {  # what a family's code computes whatever its config says
    "deepseek_v2": {"scoring_func": "softmax", "norm_topk_prob": False},
    "deepseek_v3": {"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "gpt_oss": {"hidden_act": "silu"},
    "starcoder2": {"norm_type": "layer_norm", "mlp_type": "default"},
    **{kind: {"use_qk_norm": True} for kind in ("qwen3", "qwen3_moe", "qwen3_next", "olmo2", "gemma3_text")},
    "cohere": {"rope_interleaved": True},
    "cohere2": {"rope_interleaved": True, "use_gated_activation": True, "use_parallel_block": True},
}
DUAL_CHUNK = "dual_chunk_attention_config"


def check_keys(raw: dict[str, Any], config: Any, where: str) -> None:
    """Raises UnsupportedModel where config.json asks for something that this family's code does not compute."""
    known = {field.name for field in fields(config)} | {x for pair in config.attribute_map.items() for x in pair}
    blocks = _rope_blocks(config)
    thetas = [block["rope_theta"] for block in blocks if "rope_theta" in block]
    same = [getattr(config, name) for name in known if EPSILON.search(name) and hasattr(config, name)] + thetas
    fixed = FIXED.get(config.model_type, {})
    for key, value in raw.items():
        if key in fixed:
            wrong = value not in (fixed[key], None)
        elif key in REPEATS and value is not None:
            wrong = _says_otherwise(key, value, config, blocks, key in known)
        elif key in EVERY and value is not None:
            wrong = not _every(value, config) and not _idle(key, raw, config)
        elif key == "layer_types":
            wrong = key not in known and not _one_kind(value, config)
        elif key == "use_sliding_window" and key not in known:
            wrong = value is not bool(_window(config)) and bool(value or _slides(config, known))
        elif key in known or key.startswith("_") or key not in vars(config):
            continue  # a key that is no attribute was read and turned into others: rope_scaling, rotary_pct
        elif not COMPUTES.search(key) or (REPEATABLE_KEYS.search(key) and value in same):
            continue
        else:
            usual = NEUTRAL + ((1,) if FACTOR.search(key) else ())
            usual = (True, None) if TRUE_CHANGES_NOTHING.search(key) else usual
            said = value in INERT.get(key, usual) or INERT.get(key) == ()
            wrong = not said and not _idle(key, raw, config)
        if wrong:
            raise UnsupportedModel(
                f"{key} is {str(value)[:40]}, which a {config.model_type} model does not compute",
                where=where,
                do="check config.json; remove the key if the model was trained without it",
            )


def remark(raw: dict[str, Any]) -> str:
    """What config.json asks for past the windows that are measured here, which is not computed; often empty."""
    start = _chunk(raw.get(DUAL_CHUNK))
    return f"its dual chunk attention, for texts past {start} tokens, is not computed" if start else ""


def _rope_blocks(config: Any) -> list[dict[str, Any]]:
    own = getattr(config, "rope_parameters", None) or {}
    inner = [block for block in own.values() if isinstance(block, dict)]
    return inner or [own]


def _says_otherwise(key: str, value: Any, config: Any, blocks: list[dict[str, Any]], known: bool) -> bool:
    """Is what a repeating key says not what the config computes with?"""
    entry = REPEATS[key]
    if entry == "partial_rotary_factor":
        return not known and value not in [block.get(entry, 1.0) for block in blocks]
    held = getattr(config, entry, None)
    unheard = held is None and entry in REPEATS  # the family has neither name
    return not known and not unheard and bool(value != held)


def _window(config: Any) -> Any:
    return getattr(config, "sliding_window", None)


def _slides(config: Any, known: set[str]) -> bool:
    return "sliding_window" in known and (_window(config) or 1 << 31) < config.max_position_embeddings


def _every(count: Any, config: Any) -> bool:
    """Are every `count`-th layer, and no others, those that read the whole context?"""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    if not isinstance(count, int) or count < 1:
        return False
    return all((kind == "full_attention") == ((i + 1) % count == 0) for i, kind in enumerate(kinds))


def _one_kind(kinds: Any, config: Any) -> bool:
    """Layers that are all of the one kind that a family without kinds computes."""
    return kinds is None or set(kinds) <= {"sliding_attention" if _window(config) else "full_attention"}


def _idle(key: str, raw: dict[str, Any], config: Any) -> bool:
    """A key whose sound is of computing, and that another key switches off."""
    if "window" in key and raw.get("use_sliding_window") is False:
        return True
    if key == "max_window_layers":
        return _window(config) is None
    return key == DUAL_CHUNK and bool(_chunk(raw[key]))


def _chunk(block: Any) -> int:
    """Tokens up to which Qwen's dual chunk attention is plain attention: one chunk, as vLLM computes it; else 0."""
    chunk, local = (block.get(name) if isinstance(block, dict) else None for name in ("chunk_size", "local_size"))
    return max(chunk - local, 0) if isinstance(chunk, int) and isinstance(local, int) and local > 0 else 0
