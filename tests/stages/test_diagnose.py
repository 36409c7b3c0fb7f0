"""The assembled diagnosis: planted causes are found, invariants hold, nothing is left behind."""

import math

import pytest
import torch

from qroar_core import diagnose
from qroar_core.errors import BadSpec, BadText, Cancelled
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.text import Document, windows
from qroar_core.results import Diagnosis
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(900)))]
INT4 = QuantSpec(k=QuantizerSpec(4))
YARN = RopeSpec("yarn", 2.0)
SPEC = DiagnosisSpec(length=128, short_length=32, paired_tokens=16, windows=4, eps=0.02, bands=BandSpec(4), chunk=48)


def test_a_planted_outlier_band_is_where_the_damage_is(planted):
    case = planted(layer=1, kv_head=0, band=2, factor=32.0)
    found = diagnose.run(case.loaded, YARN, INT4, SPEC, TEXT)
    clean = diagnose.run(case.plain, YARN, INT4, SPEC, TEXT)
    # its channels stand out of the maps ...
    maps = torch.tensor(found.outliers.maps["k/post"], dtype=torch.float64)  # (layers, heads, channels, bins)
    loud = maps.amax(-1)[1, 0]
    first, last = case.bands[2]
    planted_channels = {*range(first, last + 1), *(c + 16 for c in range(first, last + 1))}
    assert set(loud.topk(len(planted_channels)).indices.tolist()) == planted_channels
    # ... its range is 32 times the clean model's, in the maps and in the ranges by band
    before = torch.tensor(clean.outliers.maps["k/post"], dtype=torch.float64).amax(-1)[1, 0]
    assert (loud / before)[list(planted_channels)].tolist() == pytest.approx([32.0] * 8, rel=2e-3)
    # ... and the other bands of that layer lose their logits to it
    noise, quiet = torch.tensor(found.logit_noise.by_band), torch.tensor(clean.logit_noise.by_band)
    others = [0, 1, 3]
    assert float((noise[1, others] / quiet[1, others]).min()) > 3
    assert noise[0].tolist() == pytest.approx(quiet[0].tolist(), rel=1e-4)  # layer 0 is as it was


def test_tail_inflation_is_exactly_one_where_long_and_short_are_the_same(tiny):
    spec = DiagnosisSpec(length=48, short_length=48, paired_tokens=32, windows=1, eps=0.02, bands=BandSpec(4), chunk=48)
    found = diagnose.run(tiny(), RopeSpec("linear", 1.0), QuantSpec(), spec, TEXT)
    for table in found.tails.values():
        assert table.ratio == [[[1.0] * 4] * 2] * 2


def test_post_rope_tails_hold_their_invariants(tiny):
    """RoPE keeps pair norms up to a(s), so post-RoPE tails lie within a(s)/sqrt 2 .. a(s) sqrt 2 of pre."""
    found = diagnose.run(tiny(dtype=torch.float64), YARN, INT4, SPEC, TEXT)
    a = found.pairs.attention_factor
    assert a == pytest.approx(0.1 * math.log(2) + 1)
    for x in ("q", "k"):
        pre, post = (torch.tensor(found.tails[f"{x}/{side}"].long) for side in ("pre", "post"))
        ratio = post / pre
        assert float(ratio.max()) < a * math.sqrt(2) * 1.05
        assert float(ratio.min()) > a / math.sqrt(2) / 1.05


def test_logit_noise_equals_a_dense_computation(tiny):
    """Oracle: full float64 logits of the last layer from the stream's own q and k, rounded by hand."""
    loaded = tiny(dtype=torch.float64)
    found = diagnose.run(loaded, YARN, INT4, SPEC, TEXT)
    kept = {}

    class Keep:
        def on_attention(self, tap):
            kept[tap.layer] = (tap.q.clone(), tap.k.clone(), tap.scaling)

        def on_layer(self, *args):
            pass

    ids = windows(loaded.tokenizer, TEXT, 128, 1).ids
    with open_stream(loaded, Condition(YARN), 128, chunk=128) as stream:
        list(stream.run(ids, (Keep(),)))
    q, k, scaling = kept[1]
    step = k.abs().amax(-1, keepdim=True) / 7
    error = ((k / step).round() * step - k).repeat_interleave(2, 0)
    noise = (q @ error.mT) * scaling  # (heads, m, n)
    for row, value in zip(found.logit_noise.position, found.logit_noise.by_layer[1], strict=True):
        exact = float(noise[:, row, : row + 1].square().mean().sqrt())
        assert value == pytest.approx(exact, rel=1e-4)


def test_weight_noise_is_measured_through_the_model(tiny):
    found = diagnose.run(tiny(), YARN, QuantSpec(weights=WeightQuantSpec(4)), SPEC, TEXT)
    assert found.logit_noise.kind.startswith("propagated")
    assert min(found.logit_noise.rms) > 0
    assert found.pair_error is None
    assert found.verdict.acts == "no"


def test_without_a_quantizer_nothing_is_blamed_on_one(tiny):
    found = diagnose.run(tiny(), YARN, QuantSpec(), SPEC, TEXT)
    assert (found.logit_noise, found.pair_error, found.hidden, found.anisotropy) == (None,) * 4
    assert found.verdict.acts == "no"


def test_an_almost_exact_quantizer_leaves_hidden_states_alone(tiny):
    coarse = diagnose.run(tiny(), YARN, INT4, SPEC, TEXT)
    fine = diagnose.run(tiny(), YARN, QuantSpec(k=QuantizerSpec(8)), SPEC, TEXT)
    worst = min(v for layer in fine.hidden.sqnr_db for v in layer)
    assert worst > max(v for v in coarse.hidden.sqnr_db[1]) - 3
    ratio = torch.tensor(coarse.logit_noise.rms).mean() / torch.tensor(fine.logit_noise.rms).mean()
    assert float(ratio) == pytest.approx(127 / 7, rel=0.15)  # step ratio of int4 and int8


def test_the_file_reads_back_as_it_was(tiny, tmp_path):
    from qroar_core.results.base import rounded

    found = diagnose.run(tiny(), YARN, INT4, SPEC, TEXT)
    path = tmp_path / "diagnosis.json"
    path.write_text(found.to_json())
    assert rounded(Diagnosis.from_file(path).model_dump()) == rounded(found.model_dump())


def test_every_layer_head_and_band_is_there(tiny):
    found = diagnose.run(tiny(), YARN, INT4, SPEC, TEXT)
    assert [b.index for b in found.bands] == [0, 1, 2, 3]
    for table in found.tails.values():
        assert torch.tensor(table.ratio).shape == (2, 2, 4)
        assert torch.tensor(table.native).shape == (2, 2, 4)
    assert torch.tensor(found.tail_inflation["post"]["k"]).shape == (2, 4)
    assert torch.tensor(found.outliers.maps["q/pre"]).shape == (2, 2, 16, 16)
    assert torch.tensor(found.dilation.absmax).shape == (2, 4, 16)


def test_cancel_restores_the_model(tiny):
    loaded = tiny()
    before = loaded.model.config._attn_implementation, loaded.model.model.rotary_emb.inv_freq.clone()

    def cancel(step):
        raise Cancelled("diagnose")

    with pytest.raises(Cancelled):
        diagnose.run(loaded, YARN, INT4, SPEC, TEXT, on_step=cancel)
    assert loaded.model.config._attn_implementation == before[0]
    assert torch.equal(loaded.model.model.rotary_emb.inv_freq, before[1])


def test_windows_that_do_not_fit_are_one_line(tiny):
    with pytest.raises(BadText, match="longest document has 900 tokens, one window needs 4000"):
        diagnose.run(tiny(), YARN, INT4, DiagnosisSpec(length=4000), TEXT)
    with pytest.raises(BadSpec, match="short windows of 100 tokens exceed the native window 64"):
        diagnose.run(tiny(), YARN, INT4, DiagnosisSpec(length=128, short_length=100), TEXT)
    with pytest.raises(BadSpec, match="64 paired tokens do not fit"):
        diagnose.run(tiny(), YARN, INT4, DiagnosisSpec(length=128, short_length=32), TEXT)
