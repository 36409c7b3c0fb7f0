"""The Start page's controls of the interpolation and the bands; a value that cannot be leaves the old spec in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, get_args

import streamlit as st

from pages.forms.context_limit import Room
from pages.forms.factor_lists import parse_lists, write_lists
from pages.forms.quantization import MADE_BY_HAND
from pages.state import session
from pages.state.choice import LEAST_LENGTH, bos_of
from pages.state.clicks import carried_out
from pages.state.widget_state import chosen, fill, forget, number
from pages.views.boxes import refused
from pages.views.glossary import term_help
from pages.views.labels import rope_words
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.interpolations.frequencies import bands_of, rope_of
from qroar_core.interpolations.registry import interpolation_methods, label_of
from qroar_core.interpolations.tie import EXAMPLE, parse_ties, ties_text
from qroar_core.models.bos import adds_bos, bos_word
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import NONE, own_rope, replaced_rope
from qroar_core.number_of import number_of
from qroar_core.runs.setting_presets import SETTING_PRESETS, preset_in_force, what_it_shows
from qroar_core.setting import Setting
from qroar_core.specs import BANDS, BandSpec, Bos, Partition, RopeSpec
from qroar_core.specs.labels import TEXT_WORDS, capital

T = TypeVar("T")
MOST = 1e7  # upper end of number fields; an address may hold anything
BORDERS = tuple(option.field for method in interpolation_methods().values() for option in method.options)
ZERO_FACTOR_HELP = "0: what the method makes of its factor."
FIRST_FACTOR = 4.0  # offered when a method is chosen for the first time
PARTITION_WORDS = {"count": "equal count of pairs", "log": "equal log-frequency", "turns": "by turns per native window"}


def preset_pills(loaded: LoadedModel, setting: Setting) -> None:
    """Whole settings to click, laid on the loaded model; the one in force is marked."""

    @carried_out
    def clicked() -> None:
        name = st.session_state["preset"]
        if name is not None:
            forget("rope", "quantizer", "by hand")
            st.session_state.pop(MADE_BY_HAND, None)
            preset = SETTING_PRESETS[name]
            session.choose(replace(session.choice(), rope=preset.rope, quant=preset.quant, evaluation=None))

    mine = preset_in_force(loaded, setting.rope, setting.quant)
    st.session_state["preset"] = mine
    st.pills("Common setups", list(SETTING_PRESETS), key="preset", on_change=clicked)
    why = what_it_shows(loaded, mine) if mine else "The setup below is none of these; every option is there."
    st.caption(literal(why))


def rope_form(loaded: LoadedModel, rope: RopeSpec, length: int) -> RopeSpec:
    """Method, factor, tied pairs, and the options of that method alone."""
    _fill_rope(rope)
    left, right = st.columns([2, 1])
    method = left.selectbox(
        "Position interpolation",
        list(interpolation_methods()),
        format_func=label_of,
        key="rope",
        help=term_help("Interpolation"),
    )
    own = method == "default"
    factor = _own_factor(right, loaded) if own else number(right, "Factor s", 1.0, MOST, "factor", step=0.5)
    options: dict[str, Any] = {}
    about = interpolation_methods()[method]
    st.text_input(
        "Tied pairs",
        key="tied pairs",
        placeholder=f"none; {EXAMPLE}",
        help=f"{term_help('Tied frequencies')} Written as first-last[:turn] from 0 to {loaded.geometry.n_pairs - 1:d}, "
        "separated by commas; a turn of 0 holds the group still.",
    )
    if about.reads_window:
        with st.expander("Advanced", expanded=about.takes_lists):
            options = _options(loaded, rope, method, length)

    def build() -> RopeSpec:
        if about.takes_lists:
            options["long_factor"], options["short_factor"] = parse_lists(st.session_state["factor lists"])
        tie = parse_ties(st.session_state["tied pairs"])
        spec = RopeSpec(method, factor, tie=tie, **options)
        rope_of(loaded, spec, length)  # refuses lists of a wrong length, and pairs that the model lacks
        return spec

    replaced = replaced_rope(loaded, RopeSpec(method))  # whatever the factor
    if replaced:
        st.caption(f"Replaces the checkpoint's own {literal(replaced)}.")
    blank = about.takes_lists and not st.session_state["factor lists"].strip()
    hint = f" Paste {loaded.geometry.n_pairs} numbers above." if blank else ""
    return changed_spec(build, rope, rope_words(rope), hint)


def _own_factor(box: Any, loaded: LoadedModel) -> float:
    """What stands in the factor's place where the checkpoint's own interpolation holds: its factor, not an old one."""
    own = own_rope(loaded)
    box.text_input(
        "Factor s",
        "1: no interpolation" if own == NONE else own,
        key=f"own factor {own}",
        disabled=True,
        help="Disabled: this method is the checkpoint's own interpolation, whose factor is in its config. "
        "Every other method takes a factor here.",
    )
    return 1.0


def _fill_rope(rope: RopeSpec) -> None:
    own = rope.method == "default"
    fill(
        "rope",
        rope,
        {
            "rope": rope.method,
            "factor": st.session_state.get("factor", FIRST_FACTOR) if own else min(rope.factor, MOST),
            "native window": min(rope.original_context or 0, int(MOST)),
            "attention factor": min(rope.attention_factor or 0.0, MOST),
            **{name: min(float(getattr(rope, name)), MOST) for name in BORDERS},
            "factor lists": write_lists(rope.long_factor, rope.short_factor),
            "tied pairs": ties_text(rope.tie),
        },
    )


def _options(loaded: LoadedModel, rope: RopeSpec, method: str, length: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    one, two, three = st.columns(3)
    window = number(
        one,
        "Window L0",
        0,
        int(MOST),
        "native window",
        help="Native window that the method starts from, tokens. 0: the checkpoint's own.",
    )
    if window:
        out["original_context"] = int(window)
    about = interpolation_methods()[method]
    for column, option in zip((two, three), about.options):
        out[option.field] = number(column, literal(option.field), 0.0, MOST, option.field, help=literal(option.help))
    if about.has_attention_factor:
        fixed = number(
            st,
            "Attention factor",
            0.0,
            MOST,
            "attention factor",
            step=0.05,
            help=f"{term_help('Attention factor')} {ZERO_FACTOR_HELP}",
        )
        out["attention_factor"] = fixed or None
    if about.takes_lists:
        st.text_area(
            f"Factor lists, {loaded.geometry.n_pairs:d} numbers each",
            key="factor lists",
            height=90,
            placeholder='1.0, 1.05, 1.2, ...   or   {"long_factor": [...], "short_factor": [...]}',
            help="Empty: the checkpoint's own lists, where it brings them.",
        )
    if method == rope.method and about.has_attention_factor:
        factor = rope_of(loaded, rope, length).attention_factor
        whence = "from the factor" if rope.attention_factor is None else "as set here"
        st.caption(f"Attention factor a(s) on cos and sin: {factor:.4f}, {whence}.")
    return out


def length_form(loaded: LoadedModel, length: int | None, setting: Setting, fits: Room) -> int | None:
    """Context length L; None is what the interpolation promises. One that nothing here can read is refused at once."""
    fill("length", length, {"length": length and min(length, int(MOST))})
    native = loaded.geometry.original_context
    typed = st.number_input(
        "Context length L, tokens",
        LEAST_LENGTH,
        int(MOST),
        None,
        64,
        key="length",
        placeholder=f"{setting.search.length:,}, from the interpolation",
        on_change=_take_length,
        help=f"Empty: what the interpolation promises, the native window of {native:,} tokens times its factor; "
        "at most 2,048 on a CPU and 16,384 on a GPU.",
    )
    asked = setting.search.length or 0  # the caption is always there: one that comes and goes would move a button away
    if asked > fits.tokens:
        st.caption(f":red[{asked:,} tokens do not fit: choose at most {fits.tokens:,}.] {literal(fits.words)}.")
    else:
        st.caption(f"At most {fits.tokens:,} tokens. {literal(fits.words)}.")
    text_form()
    bos_form(loaded)
    return int(typed) if typed else None


@carried_out
def _take_length() -> None:
    """Before the page is drawn, which may be left while it is drawn: a length that was typed last is not lost."""
    typed = st.session_state["length"]
    session.choose(replace(session.choice(), length=int(typed) if typed else None, evaluation=None))


def text_form() -> None:
    """Which texts every stage reads; a reopened run may have brought its own."""
    now = session.choice()
    fill("text", now.text, {"text": now.text})
    known = list(dict.fromkeys((*TEXT_WORDS, now.text)))
    picked = st.selectbox(
        "Text collection (calibration / development / held-out)",
        known,
        key="text",
        format_func=lambda name: TEXT_WORDS.get(name, name),
        help=term_help("Calibration, development and held-out text"),
    )
    if picked != now.text:
        session.choose(replace(now, text=picked), chosen("text", picked))
        st.rerun()


def bos_form(loaded: LoadedModel) -> None:
    """Whether windows of text start with BOS."""
    now = session.choice()
    before = bos_of(now, loaded)
    fill("bos", before, {"bos": before})
    tokenizer = loaded.tokenizer
    token = bos_word(tokenizer)
    usual = f"{token} in front" if adds_bos(tokenizer) else "nothing in front"
    words: dict[Bos, str] = {"auto": f"auto: {usual}", "on": f"{token} in front", "off": "nothing in front"}
    picked = st.selectbox(
        "Windows of text start with",
        [bos for bos in words if token or bos != "on"],
        key="bos",
        format_func=words.__getitem__,
        help="A model that was trained with a beginning-of-sequence token (BOS) reads worse without it. "
        "auto: as the tokenizer starts a text.",
    )
    if picked != before:
        session.choose(replace(now, bos=picked), chosen("bos", picked))
        st.rerun()


def band_form(loaded: LoadedModel, bands: BandSpec) -> BandSpec:
    """How the RoPE pairs are grouped."""
    fill("bands", bands, {"bands": min(bands.count, loaded.geometry.n_pairs), "partition": bands.partition})
    most = loaded.geometry.n_pairs
    count = number(st, "Frequency bands", 1, most, "bands", help=term_help("Band"))
    if most < BANDS:
        st.caption(f"This model has {number_of(most, 'RoPE pair')} a head, so at most {number_of(most, 'band')}.")
    kind = st.selectbox(
        "Partition",
        get_args(Partition),
        format_func=PARTITION_WORDS.__getitem__,
        key="partition",
        help=term_help("Partition"),
    )

    def build() -> BandSpec:
        spec = BandSpec(int(count), kind)
        bands_of(loaded, spec)
        return spec

    return changed_spec(build, bands, f"{bands.count} bands, {PARTITION_WORDS[bands.partition]},")


def changed_spec(build: Callable[[], T], before: T, words: str, hint: str = "") -> T:
    """`build()`, or `before` with the reason and what stays in force."""
    try:
        return build()
    except QRoarError as problem:
        refused(f"{problem.what}. {capital(words)} stays in force.{hint}")
        return before
