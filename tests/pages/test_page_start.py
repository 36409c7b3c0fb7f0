"""Start: first screen, presets, every option by hand, refusals, and loads that fail."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from pages.forms.context_limit import Room
from pages.forms.factor_lists import parse_lists, write_lists
from pages.state.choice import from_address
from pages.views.labels import short_name, size_words
from qroar_core.errors import BadCheckpoint, BadSpec
from qroar_core.quantizers.presets import RUNTIMES, preset_quant
from qroar_core.runs.setting_presets import SETTING_PRESETS
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from tests.pages.visitor import button, clicked, read, texts

pytestmark = pytest.mark.slow

PAIRS = 32  # of the demo model
BY_HAND = "every option by hand …"


def run(app):
    app.run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def chosen(app):
    """What the address line says, read back."""
    return from_address(address(app))


def address(app):
    """The query parameters as plain text; AppTest gives some as lists of one."""
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def strip_of(app):
    app.switch_page("pages/noise.py")
    return texts(run(app))


def visit(app, **asked):
    """Another visitor, who opens this address and loads the demo."""
    other = AppTest.from_file(app._script_path, default_timeout=30)
    other.query_params.update(asked)
    other.run()
    return clicked(other, "Demo model")


def test_the_first_screen_says_what_this_is_and_offers_both_ways_in(app):
    said = texts(app)
    for words in ("**See** which frequency bands suffer", "**Repair** a part of it", "**Verify** the gain on held-out"):
        assert words in said
    assert button(app, "Demo model").proto.type == "primary"
    devices = app.selectbox(key="device").options
    assert devices[0].startswith("auto: ")
    assert all("GiB free" in name for name in devices[1:])
    assert any(name.startswith("cpu, ") for name in devices)
    assert not app.dataframe


def test_the_model_card_holds_the_facts(loaded_app):
    shown = {m.label: m.value for m in loaded_app.metric}
    assert shown["Parameters"] == "3.48 M"
    assert shown["Layers"] == "4"
    assert shown["Heads / KV heads"] == "4 / 2"
    assert shown["head_dim / rotary"] == "64 / 64"
    assert shown["Native window"] == "256"
    facts = dict(loaded_app.dataframe[0].value.values.tolist())
    assert facts["theta"] == "10,000"
    assert facts["pairing"] == "half, 32 pairs a head"
    assert facts["dtype"] == "float32"
    assert len(facts["fingerprint of the weights"]) == 16
    assert len(facts["checksum of weights, config and tokenizer"]) == 16


@pytest.mark.parametrize("name", SETTING_PRESETS)
def test_a_preset_click_changes_strip_address_and_forms(loaded_app, name):
    preset = SETTING_PRESETS[name]
    for click in ("linear ×8, int4 K cache" if "×8" not in name else "YaRN ×2, int4 K cache", name):
        loaded_app.pills(key="preset").select(click)
        run(loaded_app)
    assert (chosen(loaded_app).rope or RopeSpec(), chosen(loaded_app).quant) == (preset.rope, preset.quant)
    assert loaded_app.pills(key="preset").value == name
    assert loaded_app.selectbox(key="rope").value == preset.rope.method
    assert preset.why in texts(loaded_app)
    said = strip_of(loaded_app)
    assert ("own RoPE" if preset.rope.method == "default" else f"×{preset.rope.factor:g}") in said
    acts = "Rescaling cannot act here" if "cannot act" in name else "Rescaling"
    assert acts in said


def test_the_preset_in_force_is_marked_and_a_change_by_hand_unmarks_it(loaded_app):
    assert loaded_app.pills(key="preset").value == "YaRN ×4, int4 K cache"
    loaded_app.number_input(key="factor").set_value(3.0)
    run(run(loaded_app))
    assert loaded_app.pills(key="preset").value is None
    loaded_app.pills(key="preset").select("YaRN ×2, int4 K cache")
    run(loaded_app)
    assert loaded_app.number_input(key="factor").value == 2.0
    assert loaded_app.selectbox(key="quantizer").value == "int4 K cache"


@pytest.mark.parametrize(
    ("method", "typed", "field"),
    [
        ("yarn", 16.0, "beta_fast"),
        ("yarn", 2.0, "beta_slow"),
        ("llama3", 0.5, "low_freq_factor"),
        ("llama3", 8.0, "high_freq_factor"),
        ("yarn", 512, "original_context"),
        ("dynamic", 128, "original_context"),
        ("llama3", 128, "original_context"),
    ],
)
def test_every_advanced_number_reaches_the_spec(loaded_app, method, typed, field):
    loaded_app.selectbox(key="rope").select(method)
    run(loaded_app)
    loaded_app.number_input(key="native window" if field == "original_context" else field).set_value(typed)
    run(loaded_app)
    assert chosen(loaded_app).rope == RopeSpec(method, 4.0, **{field: typed})


@pytest.mark.parametrize("method", ["default", "linear", "ntk"])
def test_methods_without_options_show_none(loaded_app, method):
    loaded_app.selectbox(key="rope").select(method)
    run(loaded_app)
    assert chosen(loaded_app).rope.method == method
    keys = {w.key for w in loaded_app.number_input}
    assert not keys & {"beta_fast", "low_freq_factor", "native window"}


def test_longrope_lists_are_pasted_as_numbers_or_json_and_bad_ones_refused_in_one_line(loaded_app):
    loaded_app.selectbox(key="rope").select("longrope")
    run(loaded_app)
    assert "LongRoPE needs a factor per pair" in loaded_app.error[0].value
    assert "YaRN ×4 stays in force" in loaded_app.error[0].value
    for bad in (
        "1, 2, 3",
        "1 2 banana",
        "[1, 2",
        '{"short_factor": [1]}',
        ", ".join(["nan"] * PAIRS),
        "1e999 " * PAIRS,
    ):
        loaded_app.text_area(key="factor lists").set_value(bad)
        run(loaded_app)
        assert len(loaded_app.error) == 1
        assert "YaRN ×4 stays in force" in loaded_app.error[0].value
        assert "\n" not in loaded_app.error[0].value
        assert chosen(loaded_app).rope is None  # still the demo's default
        assert loaded_app.text_area(key="factor lists").value == bad
    long, short = [1 + i / 4 for i in range(PAIRS)], [1.0] * PAIRS
    loaded_app.text_area(key="factor lists").set_value(", ".join(map(str, long)))
    run(loaded_app)
    assert not loaded_app.error
    assert chosen(loaded_app).rope == RopeSpec("longrope", 4.0, long_factor=tuple(long))
    loaded_app.text_area(key="factor lists").set_value(json.dumps({"long_factor": long, "short_factor": short}))
    run(loaded_app)
    assert chosen(loaded_app).rope == RopeSpec("longrope", 4.0, long_factor=tuple(long), short_factor=tuple(short))


def test_factor_lists_survive_the_way_through_text():
    uneven = (1.0, 1.0000001, 1 / 3)
    for lists in ((None, None), (uneven, None), (uneven, (1.0, 2.0, 3.0))):
        assert parse_lists(write_lists(*lists)) == lists
    with pytest.raises(BadSpec, match="factor lists"):
        parse_lists("[]")


def test_betas_out_of_order_are_refused_and_the_old_ones_stay(loaded_app):
    loaded_app.number_input(key="beta_fast").set_value(0.5)
    run(loaded_app)
    assert "need beta_fast > beta_slow > 0" in loaded_app.error[0].value
    assert chosen(loaded_app).rope is None
    loaded_app.number_input(key="beta_fast").set_value(24.0)
    run(loaded_app)
    assert not loaded_app.error
    assert chosen(loaded_app).rope == RopeSpec("yarn", 4.0, beta_fast=24.0)


def test_a_preset_clears_what_was_typed_and_refused(loaded_app):
    loaded_app.number_input(key="beta_fast").set_value(0.5)
    run(loaded_app)
    assert loaded_app.error
    loaded_app.pills(key="preset").select("YaRN ×4, int3 K cache")  # the interpolation is in force already
    run(loaded_app)
    assert not loaded_app.error
    assert loaded_app.number_input(key="beta_fast").value == 32.0


ODD = {
    "k": QuantizerSpec(
        5,
        "block",
        "mlx_affine",
        16,
        "float16",
        rotation="hadamard",
        rotation_block=32,
        rotation_least=64,
        channel_order="interleaved",
        residual=64,
    ),
    "v": QuantizerSpec(3, "channel", "affine", 64, "input", residual=128),
    "weights": WeightQuantSpec(6, "group", 64, symmetric=False),
    "qk": QuantizerSpec(8, "tensor", "e4m3", static_scale=0.25),
}


def test_every_quantizer_field_can_be_reached_and_shown_again_by_hand(loaded_app):
    """Typed field by field into a fresh form, then read back from an address by another visitor."""
    loaded_app.selectbox(key="quantizer").select(BY_HAND)
    run(loaded_app)
    steps = [
        [("k", "int5"), ("v", "int3"), ("weights", "int6"), ("qk", "e4m3")],
        [
            ("k scale", "block"),
            ("k rotation", "hadamard"),
            ("v scale", "channel"),
            ("weights scale", "group"),
            ("qk scale", "tensor"),
        ],
        [
            ("k levels", "mlx_affine"),
            ("k group", 16),
            ("k stored in", "float16"),
            ("k rotation block", 32),
            ("k rotation least", 64),
            ("k channel order", "interleaved"),
            ("k residual", 64),
            ("v levels", "affine"),
            ("v group", 64),
            ("v stored in", "input"),
            ("v residual", 128),
            ("weights group", 64),
            ("weights symmetric", False),
            ("qk step", 0.25),
        ],
    ]
    for step in steps:
        for key, value in step:
            loaded_app.get_by_key(key).set_value(value)
        run(loaded_app)
        assert not loaded_app.error
    assert chosen(loaded_app).quant == QuantSpec(**ODD)
    again = visit(loaded_app, quant=address(loaded_app)["quant"])
    assert again.selectbox(key="quantizer").value == BY_HAND
    assert chosen(again).quant == QuantSpec(**ODD)  # the form filled from it spells the same


def test_k_before_rope_and_full_range_weights_are_reached(loaded_app):
    loaded_app.selectbox(key="quantizer").select(BY_HAND)
    run(loaded_app)
    loaded_app.checkbox(key="k before rope").check()
    loaded_app.selectbox(key="weights").select("int4")
    run(loaded_app)
    loaded_app.checkbox(key="weights full range").check()
    run(loaded_app)
    quant = chosen(loaded_app).quant
    assert quant.k == QuantizerSpec(4, before_rope=True)
    assert quant.weights == WeightQuantSpec(4, full_range=True)


OF_EACH_RUNTIME = [next(iter([*runtime.caches, *runtime.weights])) for runtime in RUNTIMES.values()]


@pytest.mark.parametrize("name", OF_EACH_RUNTIME)  # what their addresses hold: tests/pages/test_parts.py
def test_a_named_quantizer_in_the_address_is_shown_by_its_name_and_kept(app, name):
    other = visit(app, quant=json.dumps(_plain(preset_quant(name)) | {"name": name}))
    assert other.selectbox(key="quantizer").value == name
    assert chosen(other).quant == preset_quant(name)


def _plain(quant):
    from dataclasses import asdict

    return {part: spec for part, spec in asdict(quant).items() if spec is not None and part != "name"}


def test_bands_that_cannot_be_cut_are_refused_and_the_old_ones_stay(loaded_app):
    loaded_app.selectbox(key="partition").select("turns")
    loaded_app.number_input(key="bands").set_value(1)
    run(loaded_app)
    assert "8 bands, equal count of pairs, stays in force" in loaded_app.error[0].value
    assert chosen(loaded_app).bands == BandSpec()
    loaded_app.number_input(key="bands").set_value(6)
    run(loaded_app)
    assert chosen(loaded_app).bands == BandSpec(6, "turns")


@pytest.mark.parametrize(
    "asked",
    [{"rope": '{"method":"longrope","factor":2.0}'}, {"bands": '{"count":99}'}],
    ids=["no lists", "too many bands"],
)
def test_an_address_that_does_not_fit_the_model_is_said_with_a_way_out(app, asked):
    other = visit(app, **asked)
    assert "This setup does not fit demo" in other.error[0].value
    button(other, "Use the model's own setup").click().run()
    run(other)
    assert not other.error
    assert other.selectbox(key="rope").value == "yarn"


def test_length_is_the_interpolations_until_typed(loaded_app):
    assert loaded_app.number_input(key="length").value is None
    loaded_app.number_input(key="length").set_value(512)
    run(loaded_app)
    assert chosen(loaded_app).length == 512
    loaded_app.number_input(key="length").set_value(None)
    run(loaded_app)
    assert chosen(loaded_app).length is None


def test_a_failed_load_is_one_line_and_the_model_before_stays(loaded_app, stages):
    def fail(source, on_step=None, **kw):
        raise BadCheckpoint("no config.json", where=source, do="give a Hugging Face model folder")

    stages.patch(stages.load, "run", fail)
    loaded_app.segmented_control(key="kind").set_value("Hub id")
    run(loaded_app)
    loaded_app.text_input(key="typed").set_value("nobody/nothing")
    clicked(loaded_app, "Load")
    run(loaded_app)
    assert loaded_app.title[0].value == "demo"
    said = "nobody/nothing: no config.json; give a Hugging Face model folder. demo is still loaded."
    assert [read(error.value) for error in loaded_app.error] == [said, said]
    inside = [error.value for popover in loaded_app.get("popover") for error in popover.get("error")]
    assert [read(value) for value in inside] == [said]  # the open popover covers the line on the page
    assert address(loaded_app)["model"] == "demo"
    assert loaded_app.text_input(key="typed").value == "nobody/nothing"
    assert not button(loaded_app, "Load").disabled


def test_a_name_on_the_hub_is_explained_and_goes_to_the_loader_as_typed(app, stages, demo_model):
    asked = []
    stages.patch(stages.load, "run", lambda source, on_step=None, **kw: asked.append(source) or demo_model)
    app.segmented_control(key="kind").set_value("Hub id")
    run(app)
    (said,) = [read(caption.value) for caption in app.caption if "org/name" in caption.value]
    for form in ("`org/name`", "`org/name:Q4_K_M`", "`org/name/file.gguf`", "`@revision`", "downloaded"):
        assert form in said
    app.text_input(key="typed").set_value("some-org/Some-1B-GGUF@v1.0:Q8_0")
    clicked(app, "Load")
    run(app)
    assert asked == ["some-org/Some-1B-GGUF@v1.0:Q8_0"]
    assert address(app)["model"] == asked[0]


def test_a_first_load_that_fails_leaves_the_form_usable(app, stages):
    real = stages.load.run

    def fail(source, on_step=None, **kw):
        raise BadCheckpoint("no such file", where=source, do="check the path")

    stages.patch(stages.load, "run", fail)
    app.segmented_control(key="kind").set_value(".gguf")
    run(app)
    app.text_input(key="typed").set_value("gone.gguf")
    clicked(app, "Load")
    assert "no such file; check the path" in app.error[0].value
    stages.patch(stages.load, "run", real)
    clicked(app, "Demo model")
    assert app.title[0].value == "demo"
    assert not app.error


def test_nothing_typed_and_paths_outside_the_roots_are_one_line(app, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    app.segmented_control(key="kind").set_value("Folder")
    run(app)
    button(app, "Load").click().run()
    assert "Nothing typed" in app.error[0].value
    app.text_input(key="typed").set_value("/etc")
    button(app, "Load").click().run()
    assert "outside the folders this dashboard may touch" in app.error[0].value
    app.text_input(key="typed").set_value("some/folder")  # a folder is never taken for a hub id
    button(app, "Load").click().run()
    assert "outside the folders this dashboard may touch" in app.error[0].value


def test_words_for_names_and_sizes():
    assert short_name("a" * 40) == "a" * 40
    cut = short_name("a" * 60 + "b" * 60)
    assert (len(cut), cut[:24], cut[24], cut[25:]) == (40, "a" * 24, "…", "b" * 15)
    assert [size_words(n) for n in (256, 3_480_000, 8_030_000_000)] == ["256", "3.48 M", "8.03 B"]


def test_bos_is_chosen_beside_the_text(loaded_app):
    app = loaded_app
    field = app.selectbox(key="bos")
    assert field.value == "auto"
    assert field.options == [
        "auto: nothing in front",
        "<|endoftext|> in front",
        "nothing in front",
    ]
    field.select("on")
    run(app)
    assert chosen(app).bos == "on"
    again = visit(app, bos="on")
    assert again.selectbox(key="bos").value == "on"


def test_both_limits_of_a_context_are_said_and_which_one_ends_it(loaded_app):
    said = texts(loaded_app)
    assert "At most 24,374 tokens. The text sets the limit: its longest document has 24,374 tokens, while" in said
    loaded_app.number_input(key="length").set_value(30_000).run()
    assert "30,000 tokens do not fit: choose at most 24,374." in texts(loaded_app)
    loaded_app.selectbox(key="text").set_value("novels").run()
    assert "At most 32,528 tokens." in texts(loaded_app)
    assert "do not fit" not in texts(loaded_app)


def test_memory_ends_a_context_where_it_holds_less_than_the_text():
    assert Room(1000, 24_374).tokens == 1000
    assert Room(1000, 24_374).words == (
        "The memory sets the limit: the free memory holds a K/V cache for 1,000 tokens, while the longest document of "
        "the text has 24,374"
    )
    assert Room(4_890_000, None).words == "The free memory holds a K/V cache for 4.89 M tokens"


def test_a_link_says_what_of_it_could_not_be_read(loaded_app):
    def opened(**asked):
        other = AppTest.from_file(loaded_app._script_path, default_timeout=30)
        other.query_params.update({"model": "demo", **asked})
        return run(other)

    other = opened(quant='{"k":{"bits":99}}', rope='{"method":"yarm"}')
    said = "Of this link, rope and quant could not be read; their defaults are used instead."
    assert said in texts(other)
    assert chosen(other) == from_address({"model": "demo"})
    said = "Of this link, rope could not be read; its default is used instead."
    assert said in texts(opened(quant="{}", rope='{"method":"yarm"}'))
    assert "could not be read" not in texts(opened(quant="{}"))
