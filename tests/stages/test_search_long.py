"""A search at a length of which the held-out text holds only a few windows."""

import pytest
import torch

from qroar_core import search
from qroar_core.errors import BadText
from qroar_core.models.text import Document, windows
from qroar_core.results.intervals import paired_interval
from qroar_core.searching.proof import Bench
from qroar_core.specs import BandSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

INT4 = QuantSpec(k=QuantizerSpec(4))


def texts(heldout):
    long = "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(2000))
    return {"calibration": [Document("c", long)], "development": [Document("d", long[::-1])],
            "heldout": [Document("h", long[:heldout])]}  # fmt: skip


@pytest.mark.parametrize(("tokens", "held"), [(650, 3), (900, 4), (1900, 8)])
def test_the_gain_is_proven_on_as_many_windows_as_there_are(planted, tokens, held):
    case = planted(factor=32.0)
    spec = SearchSpec(length=200, windows=2, steps=4, bands=BandSpec(4))
    outcome = search.run(case.loaded, RopeSpec(), INT4, spec, texts(tokens))
    assert f"on {held} held-out windows" in outcome.report.reason
    ids = windows(case.loaded.tokenizer, texts(tokens)["heldout"], 200, held).ids
    bench = Bench(case.loaded, RopeSpec(), INT4, lambda step: None)
    gain = paired_interval(bench.nll(ids, None, ""), bench.nll(ids, outcome.found, ""))
    assert f"{gain.mean:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}]" in outcome.report.reason
    again = search.prove(case.loaded, RopeSpec(), INT4, spec, outcome.found, texts(tokens))
    assert again == gain
    assert not torch.equal(outcome.found.g, torch.ones_like(outcome.found.g))


def test_one_window_proves_nothing(planted):
    with pytest.raises(BadText, match="holds 1 window of 200 tokens, at least 2 are needed"):
        search.run(planted().loaded, RopeSpec(), INT4, SearchSpec(length=200, windows=2, steps=2), texts(390))
