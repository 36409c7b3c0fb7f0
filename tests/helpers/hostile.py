"""Strings that would be links, pictures, HTML, LaTeX or directives wherever they were not shown as they are written."""

from dataclasses import replace

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
)
ALL = " ".join(STRINGS)
NAME = "[text](https:example.org) ![x](data:,x) <b>b<br> $x^2$ :red[red] :smile: `c` *it*"  # of a folder: no slash
DECIDING = {  # strings of results that choose what is drawn: other ones would make another result, not a hostile one
    "objective",
    "method",
    "mode",
    "granularity",
    "what",
    "task",
    "kind",
    "rule",
    "outlier_rule",
    "fingerprint",
    "scales",
    "model",
    "chosen",
    "about",
    "name",
    "law",
    "pairing",
    "dtype",
    "norm",
    "reference",
    "part",
    "family",
    "diagnostic",
}


def poisoned(result):
    """The result with every free string replaced: those that its own type accepts and that decide nothing."""
    content, before_all = result.model_dump(), result.model_dump()
    for holder, key in list(_strings(content)):
        before, holder[key] = holder[key], f"{ALL} {holder[key]}"
        try:
            type(result).model_validate(content)
        except ValueError:
            holder[key] = before
    assert content != before_all
    return type(result).model_validate(content)


def _strings(content):
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, str) and key not in DECIDING:
            yield content, key
        elif isinstance(value, dict | list):
            yield from _strings(value)


def model(loaded):
    """The same model, called by all of the strings."""
    return replace(loaded, name=ALL, note=ALL)


def stages():
    """Dotted name of every stage -> one that answers at once with a poisoned result."""
    from qroar_core.evaluation.continuations_result import Continuation, Continuations
    from qroar_core.models import load
    from qroar_core.scale_search import run as search
    from qroar_core.transforms.scales import identity
    from tests.helpers import planted, planted_comparison, planted_evidence, planted_prediction, planted_retrieval
    from tests.helpers.planted_rope_search import rope_search

    def found(loaded, setting, texts, *args, **rest):
        pairs, count = loaded.geometry.n_pairs, setting.search.bands.count
        cuts = [round(i * pairs / count) for i in range(count + 1)]
        bands = tuple((a, b - 1) for a, b in zip(cuts, cuts[1:]))
        none = identity(
            loaded.geometry.n_layers, loaded.geometry.n_kv_heads, bands, setting.search.mode, setting.search.granularity
        )
        tuned = type(none)(none.mode, none.granularity, none.bands, none.g * 2, None)
        return search.SearchOutcome(tuned, tuned, none, none, poisoned(planted.report()))

    def row(scales, departs):
        pieces = [f"{one} " for one in STRINGS]
        return Continuation(
            model="quantized" if departs else "reference",
            scales=scales,
            tokens=[*range(len(pieces))],
            pieces=pieces,
            log_prob=[-0.5] * len(pieces),
            departs_at=departs,
        )

    texts = Continuations(
        prompt_tokens=9,
        left_out=3,
        prompt_end=ALL,
        origin=ALL,
        actual=ALL,
        length=12,
        rows=[row("identity", None), row("identity", 1), row("tuned", 3)],
    )
    opened = model(load.run("demo", device="cpu"))
    results = {
        "diagnostics.run.run": poisoned(planted.diagnosis()),
        "evaluation.run.run": poisoned(planted.evaluation().model_copy(update={"rotation": planted.rotation()})),
        "remedies.run.run": poisoned(planted_comparison.comparison()),
        "retrieval.run.run": poisoned(planted_retrieval.retrieval()),
        "evidence.prediction.run.run": poisoned(planted_prediction.prediction()),
        "evaluation.continuations.run": texts,
        "rope_search.run.run": poisoned(rope_search()),
        "evidence.controls.run.run": poisoned(planted_evidence.controls()),
        "evidence.replication.run.run": poisoned(planted_evidence.replication()),
        "models.load.run": opened,
    }
    answers = {f"qroar_core.{at}": lambda *args, result=result, **rest: result for at, result in results.items()}
    return answers | {"qroar_core.scale_search.run.run": found}
