"""Strings that would be links, pictures, HTML, LaTeX or directives wherever they were not shown as they are written."""

NOWHERE = "http://127.0.0.1:9/"  # the discard port: a request there is seen, and fails
STRINGS = (
    f"![x]({NOWHERE}x.png)",
    "[text](https://example.org)",
    "[text][ref] and [ref]: https://example.org",
    f"<img src='{NOWHERE}i.png' onerror='alert(1)'><a href='https://example.org'>a</a>",
    f"<iframe src='{NOWHERE}'></iframe><b>bold</b><br>&lt;u&gt;&#36;&amp;",
    "<https://example.org> and https://example.org/a_b and www.example.org and me@example.org",
    "$x^2$ and $$\\frac{1}{2}$$ and \\(y\\)",
    ":red[red] :blue-badge[badge] :material/home: :streamlit: :smile: ::leaf[x] :::box",
    "`code` ``two`` *it* **bold** _it_ __bold__ ~~gone~~ snake_case_name a*b*c \\*",
    "# heading",
    "> quote",
    "- item",
    "1. item",
    "23) item",
    "+ item",
    "--- --> -> <- <-> -- >= <= ~= ===",
    "| a | b |",
    "`",
    "``` fence",
    "~~~ fence",
    "AT&T 5 % %{x} 2 < 3 [0.1, 0.2] q4_0: org/name:Q4_K_M C:\\models",
)  # fmt: skip
ALL = " ".join(STRINGS)
