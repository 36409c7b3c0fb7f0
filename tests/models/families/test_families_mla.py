"""Multi-head latent attention: what a scale may touch, what a quantizer may, and that the stages run on the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import BadSpec
from qroar_core.evaluation import run as evaluate
from qroar_core.exporters import hf
from qroar_core.interpolations.bands import band_of_channel
from qroar_core.maths.attention_error import attention_error
from qroar_core.models.capture import capture
from qroar_core.models.differentiable import open_trainable
from qroar_core.models.patch import scaled_parameters
from qroar_core.models.stream import Condition, open_stream
from qroar_core.scale_search import run as search
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales, from_nested
from tests.models.families.noise import ROWS, noise_of
from tests.models.families_table import CASES, WIDE, loaded_of
from tests.models.small_specs import ASKED, SMALL, TEXT, TEXTS

ACTIVE = QuantSpec(qk=QuantizerSpec(4))
NAMES = [name for name, case in CASES.items() if case.latent]


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    def one(name, dtype=torch.float32):
        return loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=dtype)

    return one


@pytest.mark.parametrize("name", NAMES)
def test_only_the_rows_of_the_turned_channels_are_scaled(build, name):
    """Row by row: pair i of every head's queries times g, the one rotated key's by 1/g, all else as it was."""
    loaded, case = build(name, torch.float64), CASES[name]
    g = torch.tensor([[4.0, 0.5], [2.0, 8.0]], dtype=torch.float64)
    scales = from_nested(g.tolist(), "symmetric", "layer", ((0, 0), (1, 2)), 2, case.kv_heads)
    old, new = dict(loaded.model.named_parameters()), scaled_parameters(loaded, scales)
    plain, latent = case.head_dim - 6, loaded.model.config.kv_lora_rank
    low_rank = loaded.model.config.q_lora_rank is not None
    halves = not getattr(loaded.model.config, "rope_interleave", True)
    stems = {
        f"model.layers.{i}.self_attn.{p}"
        for i in range(2)
        for p in ("kv_a_proj_with_mqa", "q_b_proj" if low_rank else "q_proj")
    }
    assert {key.rsplit(".", 1)[0] for key in new} == stems
    for layer in range(2):
        pair = [c % 3 if halves else c // 2 for c in range(6)]
        turned = [float(g[layer, 0 if p == 0 else 1]) for p in pair]
        of_q = torch.tensor(([1.0] * plain + turned) * case.heads, dtype=torch.float64)
        of_k = torch.tensor([1.0] * latent + [1 / x for x in turned], dtype=torch.float64)
        for key, tensor in new.items():
            if f"layers.{layer}." in key:
                gain = of_k if "kv_a" in key else of_q
                before = old[key].data
                assert torch.equal(tensor, before * (gain if before.ndim == 1 else gain[:, None]))


@pytest.mark.parametrize("part", ["k", "v"])
def test_a_quantizer_of_a_cache_that_does_not_exist_is_refused_by_every_stage(build, part):
    loaded = build("deepseek_v3")
    quant = QuantSpec(**{part: QuantizerSpec(4)})
    spec = EvaluationSpec(lengths=(40,), windows=2)

    def streamed():
        with open_stream(loaded, Condition(quant=quant), 16):
            raise AssertionError("a stream was opened")

    for stage in (
        streamed,
        lambda: diagnose.run(loaded, Setting(RopeSpec(), quant, diagnosis=SMALL), []),
        lambda: search.run(loaded, Setting(RopeSpec(), quant, search=ASKED), {}),
        lambda: evaluate.run(loaded, Setting(RopeSpec(), quant, evaluation=spec), None, None, TEXT),
    ):
        with pytest.raises(
            BadSpec, match="--kv: deepseek_v3's cache holds a latent and one rotated key per token, not K and V of its"
        ) as error:
            stage()
        assert "\n" not in str(error.value)


def test_an_interpolation_over_one_that_sets_the_softmax_scale_is_refused(build, tmp_path):
    loaded = build("deepseek_v3, yarn, in halves")
    for ask in (
        lambda: hf.run(loaded, RopeSpec("yarn", 4.0), None, tmp_path / "out"),
        lambda: diagnose.run(loaded, Setting(RopeSpec("linear", 2.0), ACTIVE, diagnosis=SMALL), TEXT),
    ):
        with pytest.raises(BadSpec, match=r"own interpolation's factor \(mscale_all_dim\).*keep --rope default"):
            ask()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_diagnosed_searched_and_evaluated(build, name):
    loaded, case = build(name), CASES[name]
    own_only = "mscale_all_dim" in loaded.model.config.rope_parameters
    rope = RopeSpec() if own_only else RopeSpec("linear", 2.0)
    found = diagnose.run(loaded, Setting(rope, ACTIVE, diagnosis=SMALL), TEXT)
    assert (found.rotary_dim, found.head_dim, found.n_kv_heads) == (6, case.head_dim, case.kv_heads)
    assert found.verdict.acts == "yes"
    own = diagnose.run(loaded, Setting(RopeSpec(), ACTIVE, diagnosis=ROWS), TEXT).logit_noise
    assert own.rms == pytest.approx(noise_of(loaded, own.position, ACTIVE.qk.bits, ACTIVE.qk.bits), rel=1e-3)
    keys = torch.tensor(found.outliers.maps["k/pre"])[:, :, :6]  # the rotated key is the same for all heads
    assert torch.equal(keys, keys[:, :1].expand_as(keys))
    outcome = search.run(loaded, Setting(rope, ACTIVE, search=ASKED), TEXTS, diagnosis=found)
    assert outcome.report.trials > 0
    assert outcome.report.objective_found <= 1.0
    assert torch.equal(outcome.found.g, outcome.found.g[:, :1].expand_as(outcome.found.g))
    spec = EvaluationSpec(lengths=(40,), windows=2, rotation=False)
    tuned = from_nested([[4.0, 0.5], [2.0, 8.0]], "symmetric", "layer", ((0, 0), (1, 2)), 2, case.kv_heads)
    measured = evaluate.run(loaded, Setting(rope, ACTIVE, evaluation=spec), tuned, None, TEXT)
    nll = {(row.model, row.scales): row.nll for row in measured.rows}
    assert nll["reference", "tuned"] == pytest.approx(nll["reference", "identity"], abs=1e-4)
    assert nll["quantized", "tuned"] != pytest.approx(nll["quantized", "identity"], abs=1e-5)


@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3"])
def test_the_cached_error_is_that_of_the_scaled_model(build, name):
    """E(g) against the first layer's attention output of a stream whose weights carry g; values of 7 channels."""
    loaded, case = build(name, torch.float64), CASES[name]
    problem = SearchProblem(loaded, RopeSpec("linear", 3.0), ACTIVE, ASKED, TEXTS)
    ids = problem.windows("calibration", problem.length, 1)
    log2_g = torch.zeros(2, case.kv_heads, 2)
    log2_g[0] = torch.tensor([1.5, -1.0])
    outputs = {}

    class Outputs:
        def on_attention(self, tap):
            outputs[tap.layer] = tap.out.clone()

        def on_layer(self, *args):
            pass

    with WIDE():
        objective = problem.objective(capture(loaded, problem.rope, ids, 8))
        setup = replace(objective.setup, error_metric="projected")  # the one that sees W_O
        condition = Condition(problem.rope, ACTIVE, problem.scales(log2_g))
        with open_stream(loaded, condition, problem.length, chunk=problem.length) as stream:
            list(stream.run(ids[:1], (Outputs(),)))
    taken = objective.capture.windows[0][0]
    assert taken.out.shape[-1] == 7
    moved = outputs[0][:, taken.rows] - taken.out
    weight = loaded.model.model.layers[0].self_attn.o_proj.weight.double().view(-1, case.heads, 7)
    expected = torch.einsum("ehd,hrd->hre", weight, moved).square().sum(-1)
    found = attention_error(taken, log2_g[0], objective.capture.metric[0], setup)
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("name", NAMES)
def test_scales_on_q_and_k_with_a_gradient_are_those_in_the_weights(build, name):
    """Hidden states of the differentiable pass under log2 g against a stream whose weights carry g."""
    loaded, case = build(name, torch.float64), CASES[name]
    bands, geo = ((0, 0), (1, 2)), loaded.geometry
    g = torch.tensor([[4.0, 0.5], [0.25, 8.0]]).double()[:, None].expand(2, case.kv_heads, 2).contiguous()
    scales, log2_g = Scales("symmetric", "layer", bands, g), g.log2()
    ids = torch.arange(40) * 7 % 256
    with WIDE(), torch.no_grad():
        with open_stream(loaded, Condition(quant=ACTIVE, scales=scales), 40) as stream:
            (piece,) = stream.run(ids)
        band = band_of_channel(bands, geo.head_dim, geo.rotary_dim, geo.pairing)
        with open_trainable(loaded, Condition(quant=ACTIVE), 40, band, "symmetric") as model:
            torch.testing.assert_close(model.hidden(ids, log2_g), piece.hidden[0], rtol=0, atol=1e-9)
            plain = model.hidden(ids, 0 * log2_g)
    assert float((plain - piece.hidden[0]).abs().max()) > 1e-3


def test_weights_that_share_one_scale_a_matrix_feel_the_scales(build):
    """kv_a_proj_with_mqa holds the latent's rows and the rotated key's: one scale for all of them."""
    found = diagnose.run(
        build("deepseek_v2"),
        Setting(RopeSpec(), QuantSpec(weights=WeightQuantSpec(4, "tensor")), diagnosis=SMALL),
        TEXT,
    )
    assert found.verdict.acts == "yes"
    assert "weights share one scale a matrix" in found.verdict.reason


def test_scales_that_differ_by_head_have_no_place(build):
    g = torch.tensor([1.0, 2.0]).double().repeat(2, 3, 1)[..., None].flatten(1, 2)  # (2, 6, 1), heads alternate
    scales = Scales("symmetric", "kv_head", ((0, 2),), g)
    with pytest.raises(BadSpec, match="deepseek_v2 has one rotated key for all 6 heads of a layer"):
        scaled_parameters(build("deepseek_v2"), scales)
