"""Tied pairs on the pages: typed, refused, kept in the address, taken away by a preset, drawn and exported."""

from dataclasses import replace
from pathlib import Path

import pytest

from qroar_core.exporters.readers import recipes
from qroar_core.exporters.served import served_setting
from qroar_core.interpolations.tie import Tie
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec
from tests.pages.visitor import go, texts, visit

pytestmark = pytest.mark.slow

TYPED = "20-21, 22-25:0.9, 26-31:still"
TIES = (Tie(20, 21), Tie(22, 25, 0.9), Tie(26, 31, 0.0))
WORDS = "YaRN ×4, tied 20–21, 22–25 ×0.9, still 26–31"


def typed(app, text, key="tied pairs"):
    app.text_input(key=key).set_value(text).run()
    assert not app.exception, [(e.value, e.stack_trace) for e in app.exception]
    return app


def chosen(app):
    from pages.state.choice import from_address

    asked = {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}
    return from_address(asked)


def test_what_is_typed_is_the_setting_and_in_its_address(loaded_app):
    assert loaded_app.text_input(key="tied pairs").value == ""
    typed(loaded_app, TYPED)
    assert not loaded_app.error
    assert chosen(loaded_app).rope == RopeSpec("yarn", 4.0, tie=TIES)
    assert loaded_app.pills(key="preset").value is None
    loaded_app.run()
    assert loaded_app.text_input(key="tied pairs").value == "20-21,22-25:0.9,26-31:0"
    address = loaded_app.query_params["rope"]
    other = visit(loaded_app, model="demo", rope=address if isinstance(address, str) else address[0])
    assert chosen(other).rope == RopeSpec("yarn", 4.0, tie=TIES)
    go(loaded_app, "noise")
    assert WORDS in texts(loaded_app)


def test_they_stay_when_the_method_changes_and_hold_under_the_checkpoints_own(loaded_app):
    typed(loaded_app, TYPED)
    loaded_app.selectbox(key="rope").select("linear").run()
    assert chosen(loaded_app).rope == RopeSpec("linear", 4.0, tie=TIES)
    loaded_app.selectbox(key="rope").select("default").run()
    assert not loaded_app.error
    assert chosen(loaded_app).rope == RopeSpec(tie=TIES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20", "'20' is no group of tied pairs"),
        ("20-22,22-25", "overlap or do not ascend"),
        ("30-32", "pairs 30-32 are tied, this model has 32 RoPE pairs"),
        ("31-31", "pair 31 alone has nothing to be tied to"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_the_old_stays(loaded_app, text, said):
    typed(loaded_app, text)
    assert len(loaded_app.error) == 1
    assert said in loaded_app.error[0].value
    assert "YaRN ×4 stays in force" in loaded_app.error[0].value
    assert "\n" not in loaded_app.error[0].value
    assert chosen(loaded_app).rope is None
    assert loaded_app.text_input(key="tied pairs").value == text


def test_a_preset_unties_them(loaded_app):
    typed(loaded_app, TYPED)
    loaded_app.pills(key="preset").select("YaRN ×2, int4 K cache").run()
    assert chosen(loaded_app).rope == RopeSpec("yarn", 2.0)
    assert loaded_app.text_input(key="tied pairs").value == ""


@pytest.mark.parametrize("page", ["pressure", "tune", "evidence", "export", "bands"])
def test_every_page_takes_a_tied_setting(loaded_app, page):
    typed(loaded_app, TYPED)
    go(loaded_app, page)
    assert not loaded_app.error


def test_the_export_page_says_where_they_go(loaded_app):
    go(loaded_app, "export")
    assert "LongRoPE with a factor per pair" not in texts(loaded_app)
    go(loaded_app, "start")
    typed(loaded_app, TYPED)
    go(loaded_app, "export")
    assert "go into rope_parameters of config.json" in texts(loaded_app)
    assert "as LongRoPE with a factor per pair, both lists equal; an attention factor other than 1" in texts(loaded_app)


def test_recipes(demo_model):
    setting = replace(default_setting(demo_model), rope=RopeSpec("yarn", 4.0, tie=TIES))
    found = recipes(served_setting(demo_model, setting.rope, setting.quant, 1024, Path("out"), "hf"))
    llama_cpp, vllm = (next(one for name, one in found.items() if name.startswith(word)) for word in ("llama", "vLLM"))
    assert "--rope-scaling" not in llama_cpp.code
    assert "for other models export in a GGUF format" in llama_cpp.notes[0]
    assert not any("halves" in note for note in vllm.notes)


def test_the_lesson_draws_them(app):
    go(app, "learn")
    app.pills(key="learn_lesson").select("interpolation").run()

    def frequencies():
        (table,) = [d.value for d in app.dataframe if "omega_left" in d.value.columns]
        return table[table["method"] == "linear"]["omega"].tolist()

    free = frequencies()
    typed(app, "10-13,50-63:0", "learn_tie")
    tied = frequencies()
    assert len(set(tied[10:14])) == 1
    assert tied[50:] == [0.0] * 14
    assert tied[:10] == free[:10]
    assert "tied 10–13, still 50–63" in texts(app)
    typed(app, "10-64", "learn_tie")
    assert "pairs 10-64 are tied, this model has 64 RoPE pairs" in app.error[0].value
    assert frequencies() == free
