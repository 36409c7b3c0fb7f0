"""report.html from planted results: everything is in it, and nothing is loaded from anywhere."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from qroar_core.diagnostics.band_labels import SPANS, digits
from qroar_core.diagnostics.band_table import band_table
from qroar_core.diagnostics.bands.figure import short_titles
from qroar_core.evaluation.continuations_result import Continuation, Continuations
from qroar_core.figures.gallery import gallery
from qroar_core.runs.html_page import table_html
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.report import report_html
from tests.helpers import hostile, planted

MANIFEST = Manifest(
    versions={"torch": "2.13.0", "qroar": "9.9"},
    command="python -m qroar_core run demo --k int3",
    model={"name": "tiny <b>"},
    specs={"rope": {"method": "yarn"}},
    seed=7,
    device="cpu x",
    dtype="float32",
    text="messages",
)
LOADING = {"src", "href", "data", "action", "poster", "srcset", "formaction", "background", "xlink:href"}


class Resources(HTMLParser):
    """What a browser would load, and the text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.found, self.inside, self.text, self.styles, self.elements = [], "", [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.inside = tag if tag in ("script", "style") else self.inside
        self.found += [(tag, value) for name, value in attrs if name in LOADING and not value.startswith("#")]
        self.styles += [value for name, value in attrs if name == "style"]

    def handle_endtag(self, tag):
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside == "style":
            self.styles.append(data)
        elif not self.inside:
            self.text.append(data)


def read(text):
    parser = Resources()
    parser.feed(text)
    return parser


def continued():
    def row(model, scales, tokens, departs_at):
        return Continuation(
            model=model,
            scales=scales,
            tokens=tokens,
            pieces=[f"w{t} " for t in tokens],
            log_prob=[-0.5] * len(tokens),
            departs_at=departs_at,
        )

    return Continuations(
        prompt_tokens=9,
        left_out=0,
        prompt_end="so it <ended>",
        origin="a, tokens 0 to 8",
        actual="on",
        length=12,
        rows=[row("reference", "identity", [1, 2, 3], None), row("quantized", "identity", [1, 5, 3], 1)],
    )


def built(**more):
    evaluation = planted.evaluation().model_copy(update={"rotation": planted.rotation()})
    return report_html(MANIFEST, planted.diagnosis(), planted.report(), planted.scales(), evaluation, **more)


def test_nothing_is_loaded_from_anywhere():
    page = read(built(continued=continued()))
    assert page.found == []
    for style in page.styles:
        assert not re.search(r"@import|url\s*\(", style)
    resources = read('<img src="https://x.org/a.png"><a href="#here"></a><style>@import "x"</style>')
    assert resources.found == [("img", "https://x.org/a.png")]  # the check sees what it should


@pytest.mark.slow
def test_hostile_results_make_no_element_and_no_link():
    """The same elements as of harmless results: every foreign string is text, in the figures too."""
    evaluation = planted.evaluation().model_copy(update={"rotation": planted.rotation()})
    manifest = MANIFEST.model_copy(
        update={
            "model": {"name": hostile.ALL},
            "text": hostile.ALL,
            "source": hostile.ALL,
            "command": hostile.ALL,
            "device": hostile.ALL,
        }
    )
    texts = continued().model_copy(update={"prompt_end": hostile.ALL, "origin": hostile.ALL, "actual": hostile.ALL})
    rows = [row.model_copy(update={"pieces": [hostile.ALL] * len(row.pieces)}) for row in texts.rows]
    results = [hostile.poisoned(one) for one in (planted.diagnosis(), planted.report())]
    bad = report_html(
        manifest, *results, planted.scales(), hostile.poisoned(evaluation), texts.model_copy(update={"rows": rows})
    )
    page = read(bad)
    assert page.found == []
    assert page.elements == read(built(continued=continued())).elements
    assert "".join(page.text).count(hostile.STRINGS[0]) > 10
    scripts = re.sub(r"<script[^>]*>/\*\*.*?</script>", "", bad, flags=re.DOTALL)  # plotly.js itself
    assert not re.search(r"\\u003c(?!br|\\u002fextra|extra|/?[bi]\\u003e)[a-z]", scripts)
    assert "default-src 'none'" in bad


@pytest.mark.slow
def test_every_figure_and_table_is_there_with_the_settings():
    text = built()
    page = read(text)
    said = "".join(page.text)
    evaluation = planted.evaluation().model_copy(update={"rotation": planted.rotation()})
    chapters = gallery(planted.diagnosis(), planted.report(), planted.scales(), evaluation)
    pictures = [picture for chapter in chapters.values() for picture in chapter]
    assert text.count("Plotly.newPlot(") >= len(pictures) > 12
    for picture in pictures:
        assert picture.title in said
        assert picture.how_to_read in said
    assert text.count('class="plotly-graph-div"') == text.count("<details>") == len(pictures)
    assert "Measured as llama.cpp measures" in said
    assert "8.166 ± 0.110" in said  # exp(2.1), the reference's PPL at 1024 tokens
    assert "python -m qroar_core run demo --k int3" in said
    assert "tiny <b>" in said  # escaped in the source
    assert '"seed": 7' in said
    assert "2.13.0" in said
    assert "A Hadamard rotation recovers +0.4000 nats" in said
    assert "Significant gain: +0.2500 nats [+0.2000, +0.3000]." in said


def test_plotly_stands_in_the_file_once():
    text = built()
    assert text.count("plotly.js v") == 1
    assert len(text) < 9_000_000


@pytest.mark.slow
def test_continuations_are_side_by_side_with_the_departure_marked():
    text = built(continued=continued())
    said = "".join(read(text).text)
    assert "quantized: departs from the reference at token 2 of 3" in said
    assert "so it <ended>" in said
    assert "The text's own continuation" in said
    assert len(re.findall(r"outline: 2px solid[^>]*>w5 <", text)) == 1
    assert "Continuations" not in "".join(read(built()).text)


@pytest.mark.slow
@pytest.mark.parametrize("left", [(), ("search.max_log2_scale", "rope.beta_fast")])
def test_what_the_command_leaves_out_is_said(left):
    said = "".join(read(built(unspelled=left)).text)
    assert ("It leaves out search.max_log2_scale, rope.beta_fast: see the settings." in said) == bool(left)


def test_the_report_says_which_scales_are_kept_and_why_two_gains_differ():
    search = planted.report().model_copy(update={"decision": planted.decision()})
    text = report_html(MANIFEST, planted.diagnosis(), search, planted.scales(), planted.scattered())
    said = "".join(read(text).text)
    assert "Kept: identity; the search decided on development text to keep the scales, but the evaluation on" in said
    assert "The search's +0.0166 nats and this evaluation's +0.2250 nats for the same scales differ because" in said
    assert "NLL gap recovered: not significant (45% [-54%, 144%])." in said


def cells(table):
    """Rows of words of one HTML table."""
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]


def test_the_bands_table_has_the_digits_that_the_command_line_has():
    """5.4321 is a largest of few, 3.2562 has an error of 0.32, 0.0123456 has none: 2, 2 and 3 digits."""
    plain = planted.diagnosis()
    bands = [
        plain.bands[0].model_copy(
            update={"logit_change": 3.2562, "logit_change_error": 0.32, "interpolation_pressure": 0.0123456}
        ),
        plain.bands[1],
    ]
    outliers = plain.outliers.model_copy(
        update={"count": {"k/post": [[1, 1]] * 2}, "magnitude": {"k/post": [[5.4321, 2.0]] * 2}}
    )
    diagnosis = plain.model_copy(update={"bands": bands, "outliers": outliers})
    text = report_html(MANIFEST, diagnosis, planted.report(), planted.scales(), planted.evaluation())
    start = text.index("All diagnostics of each band")
    header, first, *_ = cells(text[start : text.index("</table>", start)])
    shown = dict(zip(header, first, strict=True))
    assert shown["logit pressure, nats"] == "3.3"
    assert shown["pressure, rad"] == "0.0123"
    assert shown["outlier size k, × median channel"] == "5.4"
    row = band_table(diagnosis)[0]
    by_title = {title: name for name, title in short_titles().items()}
    plainly = {title: digits(row, by_title[title]) for title in header if by_title[title] not in ("band", *SPANS)}
    assert {title: shown[title] for title in plainly} == plainly


def test_numbers_beside_their_error_go_to_its_place():
    frame = pd.DataFrame({"rms": [0.123456, 2.0], "standard_error": [0.03, None], "kl": [0.123456, 1.0]})
    _, first, second = cells(table_html(frame))
    assert (first, second) == (["0.12", "0.03", "0.12346"], ["2", "", "1"])
