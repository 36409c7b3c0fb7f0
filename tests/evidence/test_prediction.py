"""The predict stage: each band alone, the whole, what is refused, a planted cause found, nothing left behind."""

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadSpec, BadText, Cancelled
from qroar_core.evidence.prediction import run as predict
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.models.text import Document, windows
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.setting import Setting
from qroar_core.specs import (
    BandSpec,
    DiagnosisSpec,
    PredictionSpec,
    QuantizerSpec,
    QuantSpec,
    RopeSpec,
    WeightQuantSpec,
)

TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(1200)))]
INT4 = QuantSpec(k=QuantizerSpec(4))
YARN = RopeSpec("yarn", 2.0)
ASKED = DiagnosisSpec(length=96, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(4), chunk=48)
SPEC = PredictionSpec(length=96, windows=3, grid_windows=2, grid_length=64, chunk=48)


def predicted(loaded, quant=INT4, spec=SPEC, asked=ASKED, **rest):
    diagnosis = diagnose.run(loaded, Setting(YARN, quant, diagnosis=asked), TEXT)
    return predict.run(loaded, Setting(YARN, quant), spec, TEXT, diagnosis, **rest)


def oracle(loaded, ids, round_k):
    """Mean NLL of a window by transformers' own eager forward, K after RoPE passed through `round_k(layer, k)`."""
    from transformers.models.llama import modeling_llama as llama

    inner = llama.apply_rotary_pos_emb
    layer = iter(range(99))

    def turned(q, k, cos, sin, **rest):
        q, k = inner(q, k, cos, sin, **rest)
        return q, round_k(next(layer), k)

    llama.apply_rotary_pos_emb = turned
    try:
        with torch.no_grad():
            logits = loaded.model(ids[None], use_cache=False).logits[0, :-1]
    finally:
        llama.apply_rotary_pos_emb = inner
    return float(torch.nn.functional.cross_entropy(logits, ids[1:]))


def test_the_cost_of_a_band_is_that_of_transformers_with_its_channels_rounded(tiny):
    """Under the checkpoint's own RoPE, so that transformers needs no help; pair p is channels p and p + 8."""
    loaded = tiny(dtype=torch.float64)
    diagnosis = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=ASKED), TEXT)
    found = predict.run(loaded, Setting(RopeSpec(), INT4), SPEC, TEXT, diagnosis)
    ids = windows(loaded.tokenizer, TEXT, SPEC.length, SPEC.windows, SPEC.seed).ids
    for w, window in enumerate(ids):
        exact = oracle(loaded, window, lambda layer, k: k)
        assert found.window_nll["reference"][w] == pytest.approx(exact, abs=1e-9)
        for b in (0, 3):
            channels = [2 * b, 2 * b + 1, 2 * b + 8, 2 * b + 9]

            def only(layer, k, channels=channels):
                out = k.clone()
                out[..., channels] = fake_quantize(k, QuantizerSpec(4))[..., channels]
                return out

            assert found.window_nll[f"band {b}"][w] == pytest.approx(oracle(loaded, window, only), abs=1e-9)
        whole = oracle(loaded, window, lambda layer, k: fake_quantize(k, QuantizerSpec(4)))
        assert found.window_nll["all together"][w] == pytest.approx(whole, abs=1e-9)
    before, after = (sum(found.window_nll[name]) / 3 for name in ("reference", "band 2"))
    assert found.parts[2].nll == pytest.approx(after - before)


def test_one_band_of_all_channels_is_the_whole(tiny):
    asked = DiagnosisSpec(length=96, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(1))
    found = predicted(tiny(), asked=asked)
    assert [part.name for part in found.parts] == ["band 0"]
    assert found.parts[0].nll == found.whole.nll
    assert found.sum.apart == 0
    assert found.diagnostics[0].by_band is None  # one band has no order
    assert "cannot be compared with" in found.headline


def test_a_planted_outlier_band_costs_least_itself_and_dearly_beside(planted):
    """k of the band is 16 times larger, q 16 times smaller: its own errors vanish, the others share its coarse step."""
    case = planted(layer=1, kv_head=0, band=2, factor=16.0)
    asked = DiagnosisSpec(length=96, short_length=32, paired_tokens=16, windows=2, eps=0.02, bands=BandSpec(4))
    spec = PredictionSpec(length=96, windows=4, grid_windows=4, grid_length=96)
    found, plain = predicted(case.loaded, spec=spec, asked=asked), predicted(case.plain, spec=spec, asked=asked)
    kl, clean = torch.tensor(found.kl), torch.tensor(plain.kl)
    others = [0, 1, 3]
    assert int(kl[1].argmin()) == 2
    assert float((kl[1, others] / clean[1, others]).min()) > 3
    assert kl[0].tolist() == pytest.approx(clean[0].tolist(), rel=0.5)
    largest = next(d for d in found.diagnostics if d.name == "k_absmax")
    assert max(range(4), key=lambda b: largest.layers[1][b]) == 2  # so the baseline gets this layer backwards
    assert found.sum.ratio is not None
    assert Prediction.model_validate_json(found.to_json()).findings == found.findings


def test_unrotated_channels_are_a_part_of_their_own(byte_tokenizer, tokenizer_folder):
    from tests.models.families_table import CASES, loaded_of

    for name in ("stablelm", "smollm3"):
        case = next(key for key in CASES if key.split(",")[0] == name)
        loaded = loaded_of(CASES[case], byte_tokenizer, tokenizer_folder, dtype=torch.float32)
        geo = loaded.geometry
        of_channel = predict.parts_of(geo, ((0, 0), (1, geo.n_pairs - 1)))
        assert bool((of_channel[:, geo.rotary_dim :] == 2).all())
        for layer in range(geo.n_layers):
            still = layer in geo.without_rope
            assert set(of_channel[layer, : geo.rotary_dim].tolist()) == ({2} if still else {0, 1})
        bands = BandSpec(2)
        asked = DiagnosisSpec(length=64, short_length=32, paired_tokens=16, windows=2, eps=0.05, bands=bands)
        spec = PredictionSpec(length=64, windows=2, grid_windows=1, grid_length=48)
        diagnosis = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=asked), TEXT)
        found = predict.run(loaded, Setting(RopeSpec(), INT4), spec, TEXT, diagnosis)
        assert [part.name for part in found.parts] == ["band 0", "band 1", "unrotated channels"]
        assert [row == [None, None] for row in found.kl] == [i in geo.without_rope for i in range(geo.n_layers)]


REFUSED = {
    "weights": (QuantSpec(WeightQuantSpec(4), QuantizerSpec(4)), "only K and the q and k activations have bands"),
    "V": (QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4)), "only K and the q and k activations have bands"),
    "nothing": (QuantSpec(), "nothing is quantized that has bands"),
    "rotation": (QuantSpec(k=QuantizerSpec(4, rotation="hadamard")), "no band is rounded by itself"),
    "rotated activations": (QuantSpec(qk=QuantizerSpec(8, rotation="hadamard")), "no band is rounded by itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_band_alone_is_refused_with_the_reason(tiny, name):
    quant, said = REFUSED[name]
    loaded = tiny()
    diagnosis = diagnose.run(loaded, Setting(YARN, INT4, diagnosis=ASKED), TEXT)
    with pytest.raises(BadSpec, match=said):
        predict.run(loaded, Setting(YARN, quant), SPEC, TEXT, diagnosis)


def test_a_diagnosis_of_another_model_and_too_little_text_are_refused(tiny):
    diagnosis = diagnose.run(tiny(layers=1), Setting(YARN, INT4, diagnosis=ASKED), TEXT)
    with pytest.raises(BadSpec, match="of another model"):
        predict.run(tiny(), Setting(YARN, INT4), SPEC, TEXT, diagnosis)
    fits = diagnose.run(tiny(), Setting(YARN, INT4, diagnosis=ASKED), TEXT)
    with pytest.raises(BadText):
        predict.run(tiny(), Setting(YARN, INT4), PredictionSpec(length=2000), TEXT, fits)


def test_progress_runs_from_zero_to_one_and_a_cancelled_run_leaves_the_model_alone(tiny):
    loaded, seen = tiny(), []
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    predicted(loaded, on_step=seen.append)
    shares = [step.fraction for step in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0.8
    assert {step.stage for step in seen} == {"predict"}

    def stop(step):
        if step.fraction > 0.9:  # inside the backward passes
            raise Cancelled("predict")

    with pytest.raises(Cancelled):
        predicted(loaded, on_step=stop)
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())
    assert predicted(loaded).window_nll == predicted(loaded).window_nll


def test_the_map_can_be_left_out(tiny):
    found = predicted(tiny(), spec=PredictionSpec(length=96, windows=2, grid_windows=0))
    assert (found.kl, found.kl_windows, found.estimate) == ([], 0, None)
    assert all(d.by_cell is None for d in found.diagnostics)
