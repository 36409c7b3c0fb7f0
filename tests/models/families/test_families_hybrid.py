"""Hybrids: layers with attention are counted and scaled, the others carry their state from chunk to chunk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import UnsupportedModel
from qroar_core.evaluation import run as evaluate
from qroar_core.interpolations.bands import band_of_channel
from qroar_core.maths.attention_error import attention_error
from qroar_core.models.cache_snapshot import forced_log_prob, mark, rewind
from qroar_core.models.capture import capture
from qroar_core.models.decode import decode, decode_from, read
from qroar_core.models.differentiable import open_trainable
from qroar_core.models.families import Family, family_of
from qroar_core.models.families.hybrid import Hybrid
from qroar_core.models.patch import scaled_parameters
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.scale_search import run as search
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, RopeSpec
from qroar_core.transforms.scales import from_nested
from tests.models import small_specs
from tests.models.families.noise import ROWS, noise_of
from tests.models.families.scaled import EXACT, Taps, random_g, scales_of, streamed
from tests.models.families_table import CASES, DEFAULT, LENGTH, VOCAB, WIDE, loaded_of, model_of, plain_logits
from tests.models.small_specs import ASKED, INT4, TEXT, TEXTS

pytestmark = pytest.mark.slow

NAMES = [name for name, case in CASES.items() if case.stateful]
FEW = ["qwen3_next", "lfm2", "bamba", "falcon_h1"]  # one of each kind of state, and both side by side
ALL = pytest.mark.parametrize("name", NAMES)
SOME = pytest.mark.parametrize("name", FEW)
SMALL = replace(small_specs.SMALL, chunk=40)


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    def one(name, dtype=torch.float64, **options):
        return loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, dtype=dtype, **options)

    return one


@pytest.fixture
def tokens():
    return torch.randint(0, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(5))


def places(case):
    """The decoder layers with attention, as the case's config was written."""
    return case.decoder or tuple(range(case.layers))


@ALL
def test_layers_are_those_with_attention_and_their_outputs_the_decoder_layers_own(build, tokens, name):
    """Oracle: hooks of this test on the decoder's own modules."""
    loaded, case, seen, own = build(name), CASES[name], {}, {}

    class Outputs(Taps):
        def on_layer(self, layer, row, start, hidden):
            seen.setdefault(layer, []).append(hidden.clone())

    assert (loaded.geometry.n_layers, loaded.geometry.decoder_layers) == (case.layers, case.decoder)
    for layer in range(case.layers):
        assert loaded.geometry.attention_layer(loaded.geometry.decoder_layer(layer)) == layer
    modules = loaded.model.model.layers
    with WIDE():
        streamed(loaded, tokens, taps=Outputs())
        for i, module in enumerate(modules):
            module.register_forward_hook(
                lambda m, a, out, i=i: own.update({i: (out[0] if isinstance(out, tuple) else out).clone()})
            )
        plain_logits(loaded.model, tokens)
    assert sorted(own) == list(range(len(modules)))
    assert sorted(seen) == list(range(case.layers))
    for layer, at in enumerate(places(case)):
        torch.testing.assert_close(torch.cat(seen[layer])[None], own[at].view(1, LENGTH, -1), **EXACT)


@pytest.mark.parametrize(
    ("name", "chunk"), [(n, c) for n in NAMES for c in (3, 79)] + [(n, c) for n in FEW for c in (1, 64)]
)
def test_a_stream_in_chunks_is_one_whole_pass(build, tokens, name, chunk, monkeypatch):
    loaded = build(name)
    with WIDE():
        expected = plain_logits(loaded.model, tokens)  # without any cache
        torch.testing.assert_close(streamed(loaded, tokens, chunk=chunk), expected, **EXACT)
        for family in (Hybrid, type(loaded.family)):  # and without what is carried it is not
            monkeypatch.setattr(family, "layer_state", Family.layer_state)
        assert float((streamed(loaded, tokens, chunk=chunk) - expected).abs().max()) > 1e-2


@SOME
def test_every_row_of_a_batch_and_every_run_of_a_stream_begins_anew(build, name):
    loaded = build(name)
    ids = torch.randint(0, VOCAB, (2, 30), generator=torch.Generator().manual_seed(1))
    with WIDE():
        alone = [plain_logits(loaded.model, row[None]) for row in ids]
        with open_stream(loaded, Condition(), 30, chunk=11, batch=2) as stream:
            for batch, expected in ((ids[:1], alone[0]), (ids, torch.cat(alone)), (ids[1:], alone[1])):
                hidden = torch.cat([piece.hidden for piece in stream.run(batch)], 1)
                torch.testing.assert_close(logits_of(loaded, hidden), expected, **EXACT)
                assert stream.state is None


@SOME
def test_a_greedy_continuation_is_transformers_own(build, tokens, name):
    """Oracle: transformers' generate with its own cache."""
    loaded = build(name)
    prompt = tokens[0, :23]
    with WIDE():
        expected = loaded.model.generate(
            prompt[None], max_new_tokens=12, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        chosen = decode(loaded, Condition(), prompt, 12, length=LENGTH, chunk=10)
    picked = expected.sequences[0, 23:]
    assert chosen.tokens == picked.tolist()
    log_p = torch.stack([x[0] for x in expected.logits]).double().log_softmax(-1).gather(1, picked[:, None])[:, 0]
    assert chosen.log_prob == pytest.approx(log_p.tolist(), abs=1e-9)


@SOME
def test_a_branch_leaves_the_state_where_it_stood(build, tokens, name):
    """Answers in turn, twice over, each as a whole pass of its own; then on from the prompt as if none had been."""
    loaded, prompt = build(name), tokens[0, :23]
    answers = [tokens[0, 40:45], tokens[0, 50:57], tokens[0, 60:62]]
    with WIDE():
        untouched = decode(loaded, Condition(), prompt, 8, length=LENGTH)
        with open_stream(loaded, Condition(), LENGTH, chunk=9) as stream:
            hidden = read(loaded, stream, prompt)
            for answer in answers * 2:
                whole = torch.cat([prompt, answer])[None]
                log_p = plain_logits(loaded.model, whole)[0, 22:-1].log_softmax(-1)
                expected = log_p.gather(1, answer[:, None])[:, 0]
                torch.testing.assert_close(forced_log_prob(loaded, stream, hidden, answer), expected, **EXACT)
            here = mark(stream)
            for _ in range(3):  # a mark may be gone back to more than once
                again = decode_from(loaded, stream, hidden, 8)
                rewind(stream, here)
                assert again.tokens == untouched.tokens
                assert again.log_prob == pytest.approx(untouched.log_prob, abs=1e-9)


@ALL
def test_scales_land_on_the_attention_layers_q_and_k_and_on_nothing_else(build, name):
    loaded, case = build(name), CASES[name]
    scales = scales_of(case)
    old, new = dict(loaded.model.named_parameters()), scaled_parameters(loaded, scales)
    half = case.rotary_dim // 2
    gain = torch.ones(case.layers, case.kv_heads, case.head_dim, dtype=torch.float64)
    for channel in range(case.rotary_dim):
        gain[..., channel] = scales.g[..., 0 if channel % half == 0 else 1]
    stem = {at: f"model.layers.{at}.self_attn." for at in places(case)}
    first = stem[places(case)[0]]
    norms = [p for p in ("q_norm", "k_norm", "q_layernorm", "k_layernorm") if f"{first}{p}.weight" in old]
    parts = norms or ["q_proj", "k_proj"]
    leaves = [f"{part}.{leaf}" for part in parts for leaf in ("weight", "bias")]
    assert set(new) == {s + leaf for s in stem.values() for leaf in leaves} & set(old)
    one = 1.0 if case.family.startswith("qwen3") else 0.0
    for layer, at in enumerate(places(case)):
        for part, sign, heads in ((parts[0], 1, case.heads), (parts[1], -1, case.kv_heads)):
            per_head = gain[layer].repeat_interleave(heads // case.kv_heads, 0) ** sign  # (heads, head_dim)
            rows = per_head[0] if norms else per_head.flatten()
            for key in {f"{stem[at]}{part}.weight", f"{stem[at]}{part}.bias"} & set(new):
                before = old[key].data + (one if norms else 0.0)
                expected = before * (rows if before.ndim == 1 else rows[:, None])
                torch.testing.assert_close(new[key] + (one if norms else 0.0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["qwen3_next", "qwen3_5"])
def test_the_query_rows_of_a_gated_projection_are_found_head_by_head(build, name):
    """Oracle: transformers' own split. These rows at zero, half of all, leave no queries; the others are the gates."""
    loaded, case, queries = build(name), CASES[name], []
    slot = loaded.slots()[0][0]
    assert slot.weight == f"model.layers.{case.decoder[0]}.self_attn.q_proj.weight"
    assert len(set(slot.rows.tolist())) == case.heads * case.head_dim
    attention = loaded.model.model.layers[case.decoder[0]].self_attn
    attention.q_norm.register_forward_hook(lambda module, args, out: queries.append(args[0].clone()))
    inputs = torch.randn(1, 5, case.heads * case.head_dim, dtype=torch.float64)
    turn = (torch.ones(1, 5, case.rotary_dim).double(), torch.zeros(1, 5, case.rotary_dim).double())
    for rows, left in ((slot.rows[:-1], 5), (slot.rows, 0)):
        attention.q_proj.weight.data[rows] = 0.0
        with WIDE(), torch.no_grad():
            attention(inputs, position_embeddings=turn, attention_mask=None)
        assert int(queries.pop().count_nonzero()) == left


@SOME
def test_scales_on_q_and_k_with_a_gradient_are_those_in_the_weights(build, name):
    """The differentiable pass against a stream whose weights carry g; its gradient against a finite difference."""
    loaded, case = build(name), CASES[name]
    scales, geo = scales_of(case, "shared"), loaded.geometry
    log2_g = scales.g.log2() / 4
    scales = type(scales)("shared", scales.granularity, scales.bands, log2_g.exp2())
    ids = torch.arange(40) * 7 % VOCAB
    band = band_of_channel(scales.bands, geo.head_dim, geo.rotary_dim, geo.pairing)
    with WIDE():
        with open_stream(loaded, Condition(scales=scales), 40, chunk=13) as stream:
            hidden = torch.cat([piece.hidden for piece in stream.run(ids)], 1)[0]
        with open_trainable(loaded, Condition(), 40, band, "shared") as model:
            wanted = log2_g.clone().requires_grad_(True)
            found = model.hidden(ids, wanted)
            torch.testing.assert_close(found.detach(), hidden, **EXACT)
            found.square().mean().backward()
            for layer in range(case.layers):
                step = torch.zeros_like(log2_g)
                step[layer, :, 1] = 1e-5
                with torch.no_grad():
                    up, down = (model.hidden(ids, log2_g + sign * step).square().mean() for sign in (1, -1))
                slope = float(wanted.grad[layer, :, 1].sum())
                assert slope == pytest.approx(float(up - down) / 2e-5, rel=1e-4, abs=1e-9)
                assert abs(slope) > 1e-8


@pytest.mark.parametrize("name", ["qwen3_next", "lfm2", "bamba"])
def test_the_cached_error_is_that_of_the_scaled_model(build, name):
    """E(g) against what W_O gives out in a stream whose weights carry g: behind the gates, where there are any."""
    loaded, case = build(name, torch.float32), CASES[name]
    problem = SearchProblem(loaded, RopeSpec("linear", 3.0), INT4, ASKED, TEXTS)
    ids = problem.windows("calibration", problem.length, 1)
    objective = problem.objective(capture(loaded, problem.rope, ids, 8, chunk=20))
    log2_g = torch.linspace(-2, 2, case.layers * 2).view(case.layers, 1, 2).expand(-1, case.kv_heads, -1).contiguous()
    for layer, taken in enumerate(objective.capture.windows[0]):
        only, inputs = torch.zeros_like(log2_g), []
        only[layer] = log2_g[layer]
        attention = loaded.model.model.layers[case.decoder[layer]].self_attn
        out = getattr(attention, "out_proj", None) or attention.o_proj
        hook = out.register_forward_pre_hook(lambda module, args, inputs=inputs: inputs.append(args[0][0].clone()))
        for condition in (Condition(problem.rope), Condition(problem.rope, INT4, problem.scales(only))):
            with open_stream(loaded, condition, problem.length) as stream:
                for k, _v in stream.begin(1)[:layer]:
                    k.round = None  # layers below stay exact, so that what comes into this one is unchanged
                stream.feed(ids[:1])
        hook.remove()
        moved = (inputs[1] - inputs[0])[taken.rows].view(-1, case.heads, case.head_dim)
        weight = out.weight.view(-1, case.heads, case.head_dim)
        expected = torch.einsum("ehd,rhd->hre", weight, moved).square().sum(-1)
        expected = expected.view(case.kv_heads, -1, len(taken.rows)).sum(1)
        setup = replace(objective.setup, error_metric="projected")  # the one that sees the gates
        found = attention_error(taken, only[layer], objective.capture.metric[layer], setup)
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-4 * float(expected.max()))
        some = torch.tensor([5, 1])
        picked = attention_error(taken, only[layer], objective.capture.metric[layer], setup, pick=some)
        torch.testing.assert_close(picked, found[:, some], rtol=1e-4, atol=1e-6 * float(expected.max()))


@ALL
def test_it_is_diagnosed_searched_and_evaluated(build, name):
    loaded, case = build(name, torch.float32), CASES[name]
    rope = RopeSpec("yarn", 2.0)
    found = diagnose.run(loaded, Setting(rope, INT4, diagnosis=SMALL), TEXT)
    assert found.decoder_layers == list(case.decoder)
    assert [found.layer_number(layer) for layer in range(case.layers)] == list(places(case))
    assert found.verdict.acts == "yes"
    own = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=ROWS), TEXT).logit_noise
    assert own.rms == pytest.approx(noise_of(loaded, own.position, 4), rel=1e-3)
    for per_layer in (found.logit_noise.by_band, found.tail_inflation["post"]["k"], found.hidden.sqnr_db):
        assert len(per_layer) == case.layers
    outcome = search.run(loaded, Setting(rope, INT4, search=ASKED), TEXTS, diagnosis=found)
    assert outcome.report.trials > 0
    assert outcome.report.objective_found <= 1.0
    g = random_g(case)[:, 0].tolist()
    pairs = case.rotary_dim // 2
    tuned = from_nested(g, "symmetric", "layer", ((0, 0), (1, pairs - 1)), case.layers, case.kv_heads)
    spec = EvaluationSpec(lengths=(40,), windows=2, rotation=False)
    measured = evaluate.run(loaded, Setting(rope, INT4, evaluation=spec), tuned, None, TEXT)
    nll = {(row.model, row.scales): row.nll for row in measured.rows}
    assert nll["reference", "tuned"] == pytest.approx(nll["reference", "identity"], abs=1e-3)
    assert nll["quantized", "tuned"] != pytest.approx(nll["quantized", "identity"], abs=1e-5)


@pytest.mark.parametrize("name", ["qwen3_next", "qwen3_5", "lfm2"])
def test_a_saved_hybrid_is_loaded_from_its_folder(byte_tokenizer, tmp_path, tokens, name):
    from qroar_core.models.load import run as load_model

    model = model_of(CASES[name], dtype=torch.float32)
    model.save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu", dtype="float32")
    assert (loaded.family.name, loaded.geometry.decoder_layers) == (CASES[name].family, CASES[name].decoder)
    torch.testing.assert_close(streamed(loaded, tokens), plain_logits(model, tokens), rtol=0, atol=1e-3)


REFUSED = {
    "a kind of layer no one knows": (
        "lfm2",
        {"layer_types": ["conv", "full_attention", "sliding_attention"], "num_hidden_layers": 3},
        "lfm2: layers of kind sliding_attention are not known; known are full_attention, linear_attention, conv",
    ),
    "no attention": ("lfm2", {"layer_types": ["conv"] * 5}, "lfm2: no layer has attention; choose a model with rotary"),
    "no positions": (
        "granitemoehybrid",
        {"position_embedding_type": None},
        r"it has no RoPE \(position_embedding_type None\)",
    ),
    "bamba turns half": (
        "bamba",
        {"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.125}},
        "rotary_dim 2 must be even",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_hybrid_that_cannot_be_is_refused_with_its_reason(build, what):
    name, changes, reason = REFUSED[what]
    with pytest.raises(UnsupportedModel, match=reason) as error:
        build(name, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("JambaForCausalLM", r"JambaForCausalLM has no RoPE \(its attention layers carry no positions\)"),
        ("Qwen3_5ForConditionalGeneration", "reads images too; export its text model"),
        ("KimiLinearForCausalLM", r"unknown attention layout \(architecture KimiLinearForCausalLM\)"),
    ],
)
def test_a_hybrid_not_known_here_is_refused_in_one_line(architecture, reason):
    with pytest.raises(UnsupportedModel, match=reason) as error:
        family_of([architecture], "here")
    assert "\n" not in str(error.value)
