"""Terms of art on the pages: each is in docs/glossary.md, whose own sentences the pages show."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from pages.views import glossary
from tests.pages.visitor import go

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "glossary.md").read_text()


def marked():
    """(file, term) of every `term_help` with a word in it, and of every page's table of terms."""
    found = [("glossary.py", term) for terms in glossary.TERMS.values() for term in terms]
    for path in (ROOT / "pages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "term_help":
                found += [(path.name, arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
    return found


def test_every_term_that_a_page_marks_is_in_the_glossary():
    headed = re.findall(r"^## (.+)$", TEXT, re.M)
    assert len(marked()) > 80
    assert [(where, term) for where, term in marked() if term not in headed] == []


def test_a_term_marked_leads_to_its_own_words_and_not_to_another():
    assert glossary.term_help("Logit noise") == (
        "What rounding does to the attention logits: root mean square of quantized minus reference, in nats."
    )
    assert list(glossary.entries()) == re.findall(r"^## (.+)$", TEXT, re.M)
    words = {term: glossary.term_help(term) for _, term in marked()}
    assert [term for term, said in words.items() if re.match(r"See \*[^*]+\*\.?$", said)] == []
    with pytest.raises(KeyError):
        glossary.term_help("No such term")


def test_no_entry_leads_out_of_this_machine():
    for words in glossary.entries().values():
        assert not re.search(r"\]\(|https?:|<|!\[", words)


def test_every_page_has_its_terms():
    titles = {*re.findall(r'glossary\.title\("(.+)"\)', "".join(p.read_text() for p in (ROOT / "pages").glob("*.py")))}
    assert titles | {"Start"} == set(glossary.TERMS)
    assert len(glossary.TERMS) == len([*(ROOT / "pages").glob("*.py")])
    for terms in glossary.TERMS.values():
        assert 3 <= len(terms) == len(set(terms))


@pytest.mark.parametrize("page", ["Start", "Learn", "Tails", "Runs"])
def test_a_page_shows_the_glossarys_sentence_of_each_of_its_terms(app, page):
    go(app, page.lower())
    shown = [m.value for m in app.markdown]
    for term in glossary.TERMS[page]:
        body = TEXT.split(f"\n## {term}\n\n")[1].split("\n\n## ")[0]
        assert f"**{term}**: {' '.join(body.split())}" in shown


def test_controls_of_terms_have_the_glossarys_words(loaded_app):
    assert loaded_app.selectbox(key="rope").help == glossary.term_help("Interpolation")
    assert loaded_app.number_input(key="bands").help == glossary.term_help("Band")
    go(loaded_app, "tune")
    assert loaded_app.selectbox(key="granularity").help == glossary.term_help("Granularity")
    assert loaded_app.selectbox(key="error_metric").help == glossary.term_help("Attention error metric")


def test_the_wheel_carries_the_glossary_where_the_pages_look_for_it():
    carried = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    place = carried["force-include"]["docs/glossary.md"]
    app = carried["force-include"]["app.py"]
    assert Path(place).relative_to(Path(app).parent) == glossary.FILE.relative_to(ROOT)
