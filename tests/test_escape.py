"""The escapes, by themselves: what comes back is what went in, and no markup is left on the way."""

import html
import re

import pytest

from qroar_core.escape import JOINER, code, figure_text, literal, without_tags
from tests.helpers import hostile

EVERY = (*hostile.STRINGS, hostile.ALL, hostile.NAME)


@pytest.mark.parametrize("text", EVERY)
def test_what_is_read_back_is_what_was_written(text):
    assert html.unescape(literal(text).replace("&", "&amp;").replace("&amp;#", "&#")).replace(JOINER, "") == text
    assert not re.search(r"(?<!&)[\\`*~$\[\]<]", literal(text))
    assert html.unescape(figure_text(text)) == text
    assert not re.search(r"[<>]|%\{", figure_text(text))
    assert text in code(text).replace(JOINER, "")


def test_plain_words_stay_as_they_are():
    words = "mine.txt: the text of head_dim 64 is empty (2 > 1, 5 %); give a text with words in it, a-b, 0.5-1.5."
    assert literal(words) == words
    assert [literal(number) for number in ("8.166", "12.5 %", "-1.5 nats")] == ["8.166", "12.5 %", "-1.5 nats"]
    assert literal(f" {words} ") == f" {words} "
    assert literal("") == ""
    assert code("") == ""
    assert code("runs/one") == "`runs/one`"


def test_lines_and_what_is_not_to_be_seen_become_one_visible_line():
    assert literal("a\n\n# b\r\n\x00c\u202egnp.exe") == "a # b \ufffdc\ufffdgnp.exe"
    assert code("a\n```\nb") == "````a ``` b````"


def test_figures_keep_their_own_tags_alone():
    ours = "a<br>b <b>c</b> %{x}<extra></extra> p < 0.05, x<y"
    assert without_tags(ours) == "a<br>b <b>c</b> %{x}<extra></extra> p < 0.05, x&lt;y"
    assert without_tags("<a href='x'>y</a><span style='z'>") == "&lt;a href='x'>y&lt;/a>&lt;span style='z'>"


def test_a_picture_of_a_hostile_result_holds_no_foreign_tag():
    import pandas as pd
    import plotly.graph_objects as go

    from qroar_core.figures.picture import Picture

    bad = "<a href='https://example.org'>x</a>"
    figure = go.Figure(
        go.Scatter(
            x=[1.0, 2.0],
            y=[bad, "b"],
            text=[bad, None],
            name=bad,
            customdata=[[bad], ["c"]],
            hovertemplate=f"{bad}<br>%{{y}}<extra></extra>",
        )
    )
    figure.add_heatmap(z=[[1, 2]], hovertext=[[bad, "d"]], colorbar={"title": {"text": bad}})
    figure.update_layout(
        title=bad,
        xaxis={"ticktext": [bad], "tickvals": [1]},
        annotations=[{"text": bad}],
        updatemenus=[{"buttons": [{"label": bad, "method": "restyle"}]}],
    )
    shown = Picture("title", figure, pd.DataFrame(), "how").figure.to_dict()
    assert "<a" not in str(shown)
    assert str(shown).count("&lt;a href") == 11
    assert "<br>%{y}<extra></extra>" in shown["data"][0]["hovertemplate"]
