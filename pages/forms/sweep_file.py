"""The file of a sweep, written by a form: formats, remedies and length, for the model and interpolation in view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
import yaml

from pages.state.widget_state import number
from pages.views.boxes import refused
from pages.views.glossary import term_help
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.evaluation.run import rotated
from qroar_core.interpolations.rope_file import rope_text
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import COLLECTIONS
from qroar_core.number_of import number_of
from qroar_core.quantizers.parse import INT_BITS
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.remedies.applicable import ROTATION
from qroar_core.remedies.methods import BY_NAME
from qroar_core.setting import Setting
from qroar_core.setup import quantization
from qroar_core.specs import RopeSpec
from qroar_core.sweeps.remedy_words import NONE, WORDS
from qroar_core.sweeps.sweep_file import ROPE_FIELDS, sweep_of

FILE = "sweep.yaml"
COMMAND = f"python -m qroar_core sweep {FILE} --out sweep"
UNQUANTIZED = "none"
FORMATS = (UNQUANTIZED, *(f"int{bits}" for bits in INT_BITS), *KV_PRESETS)
FIRST = (UNQUANTIZED, "int4", "int8", "q4_0", "q8_0")
FIRST_REMEDIES = (NONE, "scales", ROTATION)
LEAST, MOST = 64, 1 << 20  # tokens


def sweep_file(loaded: LoadedModel | None, setting: Setting | None) -> None:
    """The form, the file it makes, and how it is started."""
    st.markdown(
        "Choose what is measured. The file below asks for every format with every remedy that applies to it, for the "
        "model and the interpolation in view."
    )
    formats = st.multiselect(
        "Formats of K and V", FORMATS, list(FIRST), key="sweep formats", help=term_help("K/V cache")
    )
    remedies = st.multiselect(
        "Remedies", list(WORDS), list(FIRST_REMEDIES), key="sweep remedies", help=term_help("Remedy")
    )
    one, two, three = st.columns(3)
    usual = setting.search.length or 1024 if setting is not None else 1024
    st.session_state.setdefault("sweep length", usual)
    st.session_state.setdefault("sweep windows", 8)
    length = number(one, "Context length, tokens", LEAST, MOST, "sweep length", step=256)
    windows = number(two, "Windows of text", 2, 256, "sweep windows", help=term_help("Window"))
    texts = list(COLLECTIONS)
    mine = setting.text if setting is not None and setting.text in texts else texts[0]
    text = three.selectbox("Text collection", texts, texts.index(mine), key="sweep text")
    if not formats or not remedies:
        st.warning("Choose at least one format and one remedy.")
        return
    model = loaded.source if loaded is not None else "demo"
    rope = setting.rope if setting is not None else RopeSpec("yarn", 4.0)
    asked = asked_of(model, rope, formats, remedies, int(length), text, int(windows))
    try:
        cells = len(sweep_of(asked, FILE).cells)
    except QRoarError as problem:
        refused(problem)
        return
    if rope.tie:
        st.caption("A sweep ties no RoPE pairs: the file has this interpolation without its tied pairs.")
    content = written(asked)
    st.caption(f"{number_of(cells, 'cell')}. Save the file, then run the command; when it ends, open its folder above.")
    st.code(content, language="yaml")
    st.download_button(
        f"Download {literal(FILE)}", content, FILE, "application/yaml", on_click="ignore", icon=":material/download:"
    )
    st.code(COMMAND, language="bash")


def asked_of(
    model: str, rope: RopeSpec, formats: Sequence[str], remedies: Sequence[str], length: int, text: str, windows: int
) -> dict[str, Any]:
    """The content of the file; what cannot be measured is excluded by name."""
    quantizers = [{"kv": name} for name in formats]
    exclude = [
        {"quantizer": quantizer, "remedy": left}
        for quantizer in quantizers
        if (left := [word for word in remedies if not _applies(quantizer, word)])
    ]
    asked: dict[str, Any] = {
        "models": [model],
        "ropes": [_entries(rope)],
        "quantizers": quantizers,
        "remedies": list(remedies),
        "lengths": [length],
        "texts": [text],
        "windows": windows,
    }
    return asked | ({"exclude": exclude} if exclude else {})


def written(asked: dict[str, Any]) -> str:
    """As YAML, a key a line."""
    return "".join(f"{name}: {_in_a_line(value)}\n" for name, value in asked.items())


def _in_a_line(value: Any) -> str:
    return yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=1 << 20).strip()[1:-1]


def _applies(quantizer: dict[str, Any], word: str) -> bool:
    """Whether a remedy can be measured under a format of the cache."""
    quant = quantization(**quantizer)
    if word == NONE:
        return True
    if quant.is_none:
        return False
    if word == ROTATION:
        return rotated(quant) is not None
    return WORDS[word].condition != "" or BY_NAME[word].under(quant) is not None


def _entries(rope: RopeSpec) -> dict[str, Any]:
    """The fields of an interpolation that are not its own, as a sweep's file takes them."""
    said: dict[str, Any] = yaml.safe_load(rope_text(rope))
    return {name: value for name, value in said.items() if name in ROPE_FIELDS}
