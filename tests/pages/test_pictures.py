"""Pictures in README.md and docs/ are those that one command takes, and the pages in them have their titles still."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import pictures
from tests.pages.pictures import PICTURES, ROOT, SEEN
from tests.pages.visitor import clicked, go, read

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
MOST = 150_000  # bytes of a picture
WORDS = 4  # that a title is known by: what follows in the title of a figure is measured
ASKED = {"Tune": "Start the search", "Outliers": "Diagnose"}  # the button that fills the page
HEADINGS = {"title", "subheader", "header"}


def known(title):
    """The first words of a title, its numbers left out."""
    return " ".join(re.sub(r"\d[\d.,]*", "#", title).split()[:WORDS])


def titles(app):
    """Every title of the page, from its top."""
    shown = [e for e in app.main if e.type in HEADINGS or (e.type == "markdown" and e.value.startswith("#"))]
    return [read(e.value).lstrip("# ") for e in shown]


def shown_in(text):
    return re.findall(r"!\[[^\]]+\]\((?:\.\./)?(assets/[^)]+)\)", text)


def test_every_picture_that_the_documents_show_is_taken_by_the_command():
    used = [name for path in DOCUMENTS for name in shown_in(path.read_text())]
    assert sorted(used) == sorted(f"assets/{one.file}" for one in PICTURES)
    there = {path.name for kind in ("png", "webp", "jpg", "gif") for path in (ROOT / "assets").glob(f"*.{kind}")}
    assert there == {one.file for one in PICTURES}
    for one in PICTURES:
        path = ROOT / "assets" / one.file
        with Image.open(path) as picture:
            assert picture.width == pictures.WIDTH
        assert path.stat().st_size < MOST


@pytest.mark.parametrize("one", PICTURES, ids=lambda one: one.page)
def test_a_page_in_a_picture_has_the_titles_that_it_had_then(one, loaded_app, monkeypatch):
    """Else run `python -m tests.pages.pictures`. Results are planted: titles of figures are known by their words."""
    monkeypatch.setattr("pages.views.render.OPEN", False)  # as a reader, and the picture, first meets the page
    then = json.loads(SEEN.read_text())[one.file]
    assert then["page"] == one.page
    go(loaded_app, one.page.lower())
    now = titles(clicked(loaded_app, ASKED[one.page]))
    assert [*map(known, now)] == [*map(known, then["titles"])]


def test_a_title_is_known_by_its_first_words():
    assert known("The best scales lower the objective by 39.8%") == known("The best scales lower it by 1%")
    assert known("4 outliers of 1,024 entries") == "# outliers of #"
    assert known("Scales to look at") != known("Scales to apply")
    assert shown_in("![a](assets/a.png) ![b](../assets/b.webp) [c](assets/c.png)") == ["assets/a.png", "assets/b.webp"]


def test_the_command_is_named_in_the_documents():
    command = "python -m tests.pages.pictures"
    assert command in (ROOT / "CONTRIBUTING.md").read_text()
    assert Path(pictures.__file__).read_text().count(command) == 1
