"""`compare` on the command line: the table, the JSON, the file, and wrong values before any model is read."""

import json

import pytest

from qroar_core.remedies.result import Comparison
from tests.cli.command import printed, refused
from tests.helpers import planted_comparison


@pytest.fixture
def asks(stages):
    from qroar_core.remedies import run as compare

    asked = []

    def fake(loaded, setting, spec, texts, on_step=None):
        asked.append((setting.rope, setting.quant, spec))
        return planted_comparison.comparison()

    stages.patch(compare, "run", fake)
    return asked


def test_options_become_the_spec_and_the_result_a_file_and_a_table(capfd, asks, tmp_path):
    out = printed(
        capfd,
        "compare",
        "demo",
        "--methods",
        "rotation,smooth_attention",
        "--no-band-scales",
        "--seed",
        4,
        "--weights",
        "int4",
        "--k",
        "int3",
        "--activations",
        "int8",
        "--windows",
        5,
        "--bands",
        4,
        "--out",
        tmp_path / "l",
    )
    ((rope, quant, spec),) = asks
    assert (rope.method, quant.weights.bits, quant.k.bits, quant.activations.bits) == ("yarn", 4, 3, 8)
    assert (spec.methods, spec.band_scales, spec.seed) == (("rotation", "smooth_attention"), False, 4)
    assert (spec.windows, spec.search.bands.count, spec.search.seed) == (5, 4, 4)
    made = planted_comparison.comparison()
    assert Comparison.from_file(tmp_path / "l" / "comparison.json").sentences == made.sentences
    for row in made.rows:
        assert any(line.strip().split("  ")[0] == row.name and f"{row.ppl:.3f}" in line for line in out.splitlines())
    assert "no-op" in out
    for sentence in made.sentences:
        assert sentence in out


def test_without_options_all_that_apply_take_part(capfd, asks):
    told = json.loads(printed(capfd, "compare", "demo", "--json"))
    assert asks[0][2].methods == ()
    assert asks[0][2].band_scales is True
    assert told["rows"][1]["method"] == "plain"
    assert told["rows"][1]["band_scales"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--methods", "quarot"],
            "--methods: unknown remedy 'quarot'; choose one of awq, clipped_ranges, first_last_layers, gptq",
        ),
        (["--methods", "awq,awq"], "each remedy once, got awq, awq"),
        (["--activations", "fp4"], "--activations: unknown value 'fp4'; choose none or int2..int8"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_before_loading(capfd, monkeypatch, arguments, said):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))
    assert said in refused(capfd, "compare", "demo", *arguments)


def test_a_method_that_does_not_apply_is_one_line(capfd, stages):
    said = refused(capfd, "compare", "demo", "--methods", "gptq")
    assert "--methods: gptq does not apply: it needs weights with a scale per channel or per group; drop it" in said
