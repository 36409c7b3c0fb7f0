"""Foreign strings are data: a name, path, sentence or error line is shown as it is written, never interpreted.

Whatever comes from a URL, a file, a config, a model or a run goes through one of these before it stands beside markup
of our own. `literal` and `code` are for Markdown as Streamlit and the Hugging Face hub read it (links, images, HTML,
LaTeX, `:red[...]`, `:material/...:`, emoji names, bare addresses), `figure_text` for the HTML that Plotly understands.
Markup is written as character references, not with backslashes: they mean the same whatever stands around them.
"""

from __future__ import annotations

import re

JOINER = "\u2060"  # word joiner: invisible, without width; splits what plugins look for once Markdown is parsed
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # control, direction of writing
_LATER = re.compile(  # emoji, icons, addresses, arrows: found in parsed text, where a reference is its character
    r":(?=[\w+-]+:|material[/_]|//)|www(?=\.)|@(?=[\w-])|(?<!\S)[<>~-](?=[>=-]{1,2}(?:\s|$))", re.IGNORECASE
)
_MARKUP = re.compile(
    r"[\\`*~$\[\]<]|&(?=#?\w+;)|:(?=[\w\u2060])|_(?![^\W_])|(?<![^\W_])_"  # an underscore inside a word marks nothing
    r"|^[#>]|^[+-](?=-|\s|$)|(?:(?<=^\d)|(?<=^\d\d))[.)](?!\S)"  # headings, quotes and lists
)
_TAG = re.compile(r"<(?!(?:br|/?b|/?i|/?sub|/?sup|/?extra)>)(?=[a-zA-Z/!?])", re.IGNORECASE)


def literal(text: object) -> str:
    """`text` as Markdown that shows it letter by letter, on one line, inside a sentence or alone.

    A blank at either end stays: what follows a word of ours may begin with one.
    """
    split = _LATER.sub(lambda found: found.group() + JOINER, one_line(text))
    escaped = _MARKUP.sub(lambda found: f"&#{ord(found.group())};", split)
    return f"{' ' * str(text)[:1].isspace()}{escaped}{' ' * (escaped != '' and str(text)[-1:].isspace())}"


def code(text: object) -> str:
    """`text` as a Markdown code span: exact, for what a person copies. Not for the label of a badge."""
    words = one_line(text).replace(":material", f":{JOINER}material")  # Streamlit replaces that one even in code
    if not words:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    pad = " " if words[0] == "`" or words[-1] == "`" else ""
    return f"{fence}{pad}{words}{pad}{fence}"


def figure_text(text: object) -> str:
    """`text` for a title, a name, a tick or a hover of a figure: no tag, no entity, no %{...} of a template."""
    words = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return words.replace("%{", "&#37;{")


def one_line(text: object) -> str:
    """Runs of white space are one blank; what is not to be seen or turns the direction of writing is marked."""
    return _UNSEEN.sub("\ufffd", " ".join(str(text).split()))


def without_tags(text: str) -> str:
    """A figure's `text` with the tags of our figures alone: any other, such as a link or a style, becomes text."""
    return _TAG.sub("&lt;", text)
