"""`protect-layers` and `--keep-layers` on the command line: options become specs, the result a file and tables."""

import pytest

from qroar_core.remedies.result_layers import LayerChoice
from tests.cli.command import printed, refused
from tests.helpers import planted_comparison


def test_options_become_the_spec_and_the_result_a_file_and_tables(capfd, stages, tmp_path):
    from qroar_core.remedies import layers

    asked = []

    def fake(loaded, setting, spec, texts, on_step=None):
        asked.append((setting, spec))
        return planted_comparison.layers()

    stages.patch(layers, "run", fake)
    words = ["--kv", "int4", "--length", 256, "--cache-bytes", 1400, "--sensitivity", "quantized", "--windows", 3]
    out = printed(capfd, "protect-layers", "demo", *words, "--out", tmp_path / "l")
    ((setting, spec),) = asked
    assert (setting.quant.k.bits, setting.quant.v.bits, setting.search.length) == (4, 4, 256)
    assert (spec.cache_bytes, spec.sensitivity, spec.heldout_windows) == (1400.0, "quantized", 3)
    made = planted_comparison.layers()
    assert LayerChoice.from_file(tmp_path / "l" / "layers.json").kept == made.kept
    for sentence in (made.words, *made.sentences, *made.flags):
        assert sentence in out
    assert "--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers 0 3" in out


def test_keeping_every_layer_is_said(capfd, stages):
    from qroar_core.cli.settings import setting_of
    from qroar_core.models import load

    loaded = load.run("demo")
    every = ",".join(map(str, range(loaded.geometry.n_layers)))
    setting_of({"kv": "int4", "keep_layers": every}, loaded)
    assert capfd.readouterr().err == "qroar: --keep-layers: every layer kept: nothing of the K/V cache is quantized\n"
    setting_of({"kv": "int4", "keep_layers": "0"}, loaded)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("evaluate", ["--keep-layers", "0"], "--keep-layers: has nothing to act on; add --k int4"),
        ("evaluate", ["--k", "int4", "--keep-layers", "x"], "--keep-layers: not a list of layers: 'x'"),
        ("evaluate", ["--k", "int4", "--keep-layers=-1"], "--keep-layers: layers are counted from 0, got -1"),
        ("protect-layers", ["--kv", "int4", "--cache-bytes", "-3"], "--cache-bytes: cache_bytes must be at least 0"),
        (
            "protect-layers",
            ["--kv", "int4", "--sensitivity", "x"],
            "--sensitivity: unknown value 'x'; choose one of kept",
        ),
        ("compare", ["--kv", "int4", "--cache-bytes", "-3"], "--cache-bytes: cache_bytes must be at least 0"),
    ],
)
def test_wrong_values_are_refused_before_loading(capfd, monkeypatch, command, words, said):
    from qroar_core.models import load

    monkeypatch.setattr(load, "run", lambda *a, **kw: pytest.fail("read the model first"))
    assert said in refused(capfd, command, "demo", *words)
