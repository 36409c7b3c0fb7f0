"""config.json for readers older than transformers 5, which know other names for the same entries.

They look for `rope_theta` and `rope_scaling`, do not know `rope_parameters`, and without a word take the defaults of
the first model of a family: another model. An export says both, with one meaning; transformers 5 reads either.
Source: transformers 4.57 models/*/configuration_*.py and modeling_rope_utils.py.
"""

from __future__ import annotations

from typing import Any

from qroar_core.models.config_rope import BESIDE, WINDOW

IN_BLOCK = ("rope_theta", "partial_rotary_factor", "rope_type", "type")  # not a part of how it is scaled
TYPED = ("phi3", "olmo2")  # transformers 4 takes no `rope_type` there
PHI3 = ("short_factor", "long_factor")  # what transformers 4 takes beside the type, and nothing else


def without_rope_beside(written: dict[str, Any], config: Any) -> dict[str, Any]:
    """`written` without what it says of RoPE beside `rope_parameters`: of an interpolation that was replaced.

    Args:
        config: transformers' config of the model; a second window that its class declares stays (Phi-3's).
    """
    own = {WINDOW} if hasattr(type(config), WINDOW) else set()
    return {key: value for key, value in written.items() if key not in BESIDE or key in own}


def with_older_names(written: dict[str, Any], source: dict[str, Any], aliases: dict[str, str]) -> dict[str, Any]:
    """`written` with what transformers 4 calls its entries.

    Args:
        written: config.json as transformers 5 writes it.
        source: config.json of the checkpoint it came from.
        aliases: the older name of an entry -> its name now, as the config class has them.
    """
    old = {key: written[now] for key, now in aliases.items() if key in source and now in written}
    block = written.get("rope_parameters")
    if not isinstance(block, dict):
        return written | old
    kinds = {key: value for key, value in block.items() if isinstance(value, dict)}
    if kinds:
        if set(kinds) != {"full_attention", "sliding_attention"}:
            return written | old
        old["rope_local_base_freq"] = kinds["sliding_attention"].get("rope_theta")
        block = kinds["full_attention"]
    return written | old | _flat(block, str(written.get("model_type")))


def _flat(block: dict[str, Any], family: str) -> dict[str, Any]:
    neox = family == "gpt_neox"
    said = {"rope_theta": block.get("rope_theta")}
    if neox:
        said["rotary_emb_base"] = block.get("rope_theta")
    if "partial_rotary_factor" in block:
        said["rotary_pct" if neox else "partial_rotary_factor"] = block["partial_rotary_factor"]
    kind = block.get("rope_type", "default")
    if kind != "default":
        scaling = {key: value for key, value in block.items() if key not in IN_BLOCK}
        if family == "phi3":
            scaling = {key: scaling[key] for key in PHI3 if key in scaling}
        said["rope_scaling"] = {"type" if family in TYPED else "rope_type": kind, **scaling}
    return {key: value for key, value in said.items() if value is not None}
