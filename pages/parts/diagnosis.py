"""What the Diagnose page shows, tab by tab, in the order of DESIGN section 3."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts.show import picture
from qroar_core.figures import aliasing, anisotropy, dilation, noise, outliers, pressure, tails
from qroar_core.results import Diagnosis

WHICH = {"k/post": "K after RoPE", "k/pre": "K before RoPE", "q/post": "Q after RoPE", "q/pre": "Q before RoPE"}


def _pressure(diagnosis: Diagnosis) -> None:
    picture(pressure.by_band(diagnosis), "pressure-by-band")
    picture(pressure.by_pair(diagnosis), "pressure-by-pair")


def _aliasing(diagnosis: Diagnosis) -> None:
    picture(aliasing.unseen(diagnosis), "unseen-phases")
    picture(aliasing.kernel(diagnosis), "band-kernel")


def _tails(diagnosis: Diagnosis) -> None:
    which = _which("Tails of", list(diagnosis.tails), "tails of")
    tensor, side = which.split("/")
    picture(tails.by_layer_and_band(diagnosis, tensor, side), f"tails-{tensor}-{side}")


def _range(diagnosis: Diagnosis) -> None:
    one, two, three = st.columns(3)
    layers = len(diagnosis.dilation.absmax)
    with three:
        which = _which("Outliers of", list(diagnosis.outliers.maps), "outliers of")
    layer = one.selectbox("Layer", range(layers), key="range layer")
    head = two.selectbox("KV head", range(len(diagnosis.outliers.maps[which][layer])), key="range head")
    picture(dilation.by_position(diagnosis, layer), "range-by-position")
    picture(outliers.channel_map(diagnosis, which, layer, head), "outlier-map")
    if which in diagnosis.outliers.jaccard:
        picture(outliers.shift(diagnosis, which), "outlier-shift")
    for bits in diagnosis.outliers.error_share:
        picture(outliers.error_share(diagnosis, bits), f"outlier-error-{bits}")


def _noise(diagnosis: Diagnosis) -> None:
    if diagnosis.logit_noise is None:
        st.info("Nothing is quantized, so there is no noise. Choose a quantizer on the Load page.")
    picture(noise.by_position(diagnosis), "noise-by-position")
    picture(noise.by_layer_and_band(diagnosis), "noise-by-band")
    picture(noise.by_distance(diagnosis), "noise-by-distance")
    picture(noise.pair_error(diagnosis), "pair-error")
    picture(anisotropy.by_angle(diagnosis), "anisotropy")
    picture(noise.hidden_states(diagnosis), "hidden-states")


TABS: dict[str, Callable[[Diagnosis], None]] = {
    "Pressure": _pressure,
    "Aliasing": _aliasing,
    "Tails": _tails,
    "Range and outliers": _range,
    "Noise": _noise,
}


def _which(label: str, there: list[str], key: str) -> str:
    return st.selectbox(label, [w for w in WHICH if w in there], format_func=WHICH.get, key=key)


@st.fragment
def show(diagnosis: Diagnosis) -> None:
    """The tabs; only the open one is drawn."""
    tabs = st.tabs(list(TABS), key="diagnosis tab", on_change="rerun")
    for draw, tab in zip(TABS.values(), tabs, strict=True):
        if tab.open:
            with tab:
                draw(diagnosis)
