"""config.json and tokenizer_config.json for readers older than transformers 5, which know other names for the same.

They look for `rope_theta` and `rope_scaling`, do not know `rope_parameters`, and without a word take the defaults of
the first model of a family: another model. LongRoPE's native window they read beside the block; without it they take
the stretched one for it, hence the short list and no attention factor. `torch_dtype` is what `dtype` was called until
4.56. Of tokenizers they know no `TokenizersBackend`, and of its special tokens no list of `extra_special_tokens`.
An export says both, with one meaning; transformers 5 reads either. mlx-lm reads what transformers 4 does.
Source: transformers 4.57 models/*/configuration_*.py, modeling_rope_utils.py (`_compute_longrope_parameters`) and
tokenization_utils_base.py; ml-explore/mlx-lm 0.32 models/rope_utils.py (`initialize_rope`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qroar_core.models.checkpoint_files import has, table_in
from qroar_core.models.config_rope import BESIDE, WINDOW
from qroar_core.models.tokenizer import CONFIG

IN_BLOCK = ("rope_theta", "partial_rotary_factor", "rope_type", "type")  # not a part of how it is scaled
TYPED = ("phi3", "olmo2")  # transformers 4 takes no `rope_type` there
STRETCHED = ("gpt_oss",)  # transformers 4 takes a stretched RoPE for granted there where `rope_scaling` is missing
ALWAYS = ("num_experts",)  # of Qwen3-MoE, whose new name transformers 4 does not know, so that it takes 128
LFM2 = "theta"  # of its checkpoints, beside `rope_theta`, which transformers 4 passes over for it
PHI3 = ("short_factor", "long_factor")  # what transformers 4 takes beside the type, and nothing else
TOKENIZER_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}  # transformers 5's name -> the older of the same


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
    old = {key: written[now] for key, now in aliases.items() if (key in source or key in ALWAYS) and now in written}
    if "layer_types" in source and "layer_types" in written:  # Granite 4's `attention` is `full_attention` now
        old["layer_types"] = source["layer_types"]
    block = written.get("rope_parameters")
    if not isinstance(block, dict):
        return written | old
    kinds = {key: value for key, value in block.items() if isinstance(value, dict)}
    if kinds:
        if set(kinds) != {"full_attention", "sliding_attention"}:
            return written | old
        old["rope_local_base_freq"] = kinds["sliding_attention"].get("rope_theta")
        block = kinds["full_attention"]
    said = written | old | _flat(block, str(written.get("model_type")))
    if LFM2 in written and "rope_theta" in said:
        said[LFM2] = said["rope_theta"]
    return said


def with_older_class(config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json under names that transformers 4 knows; itself where it has them already."""
    named, extra = config.get("tokenizer_class"), config.get("extra_special_tokens")
    new = config
    if named in TOKENIZER_CLASSES:
        new = new | {"tokenizer_class": TOKENIZER_CLASSES[named]}
    if isinstance(extra, list) and "additional_special_tokens" not in config:
        new = {key: value for key, value in new.items() if key != "extra_special_tokens"}
        new["additional_special_tokens"] = extra
    return new


def older_tokenizer_config(folder: Path) -> str | None:
    """A folder's tokenizer_config.json under those names; None where it has them already, or is not there."""
    if not has(folder, CONFIG):
        return None
    content = table_in(folder / CONFIG)
    new = with_older_class(content)
    return json.dumps(new, indent=2, ensure_ascii=False) + "\n" if new != content else None


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
    if kind == "longrope":
        said[WINDOW] = block.get(WINDOW)
    found = {key: value for key, value in said.items() if value is not None}
    if kind == "default" and family in STRETCHED:
        found["rope_scaling"] = None
    return found
