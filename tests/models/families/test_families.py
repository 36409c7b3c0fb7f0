"""Every family on small random models in float64: q and k are the model's own, scales are exact and come off again."""

from __future__ import annotations

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.exporters import hf
from qroar_core.models.families import FAMILIES
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales, from_nested
from tests.models.families.scaled import EXACT, Taps, bands_of, pair_of, random_g, scales_of, streamed
from tests.models.families_table import CASES, LENGTH, VOCAB, WIDE, loaded_of, model_of, plain_logits, recorded

ALL = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    """`build(name)` -> LoadedModel of a case of the table."""

    def one(name, **options):
        return loaded_of(CASES[name], byte_tokenizer, tokenizer_folder, **options)

    return one


@pytest.fixture
def tokens():
    return torch.randint(0, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(5))


def test_every_family_is_in_the_table():
    assert {case.family for case in CASES.values()} == {family.name for family in FAMILIES}


@ALL
def test_q_and_k_are_the_models_own_after_rope(build, tokens, name):
    loaded, taps = build(name), Taps()
    with WIDE():
        with recorded(loaded.model) as own, torch.no_grad():
            loaded.model(tokens, use_cache=False)
        streamed(loaded, tokens, taps=taps)
    case = CASES[name]
    assert sorted(own) == sorted(taps.q) == list(range(case.layers))
    for layer, (q, k) in own.items():
        if case.arrives:
            q, k = q[..., case.arrives], k[..., case.arrives]
        assert q.shape == (case.heads, LENGTH, case.head_dim)
        assert k.shape == (case.kv_heads, LENGTH, case.head_dim)
        torch.testing.assert_close(taps.q[layer], q, **EXACT)
        torch.testing.assert_close(taps.k[layer], k, **EXACT)


@ALL
def test_stream_logits_are_the_models_own(build, tokens, name):
    loaded = build(name)
    with WIDE():
        expected = plain_logits(loaded.model, tokens)
        with recorded(loaded.model), torch.no_grad():
            spelled = loaded.model(tokens, use_cache=False).logits  # attention from its definition
        for chunk in (LENGTH, 13):
            torch.testing.assert_close(streamed(loaded, tokens, chunk=chunk), expected, **EXACT)
    torch.testing.assert_close(spelled, expected, **EXACT)


@ALL
def test_symmetric_scales_leave_all_logits_and_a_one_sided_scale_does_not(build, tokens, name, monkeypatch):
    loaded, case = build(name), CASES[name]
    before, after, one_sided = Taps(), Taps(), None
    with WIDE():
        plain = streamed(loaded, tokens, taps=before)
        scaled = streamed(loaded, tokens, Condition(scales=scales_of(case)), taps=after)
        torch.testing.assert_close(scaled, plain, **EXACT)
        for layer in before.q:
            here, there = (t.q[layer] @ t.k[layer].repeat_interleave(case.group, 0).mT for t in (before, after))
            torch.testing.assert_close(there, here, **EXACT)
        from qroar_core.models import patch

        gains = patch.channel_gains
        monkeypatch.setattr(patch, "channel_gains", lambda *a: (torch.ones_like(gains(*a)[0]), gains(*a)[1]))
        one_sided = streamed(loaded, tokens, Condition(scales=scales_of(case)))
    assert float((one_sided - plain).abs().max()) > 1e-2


@pytest.mark.slow
@ALL
def test_shared_scales_multiply_each_bands_part_by_g_squared(build, tokens, name):
    """One layer scaled at a time, so that what comes into it is unchanged."""
    loaded, case, before = build(name), CASES[name], Taps()
    band_of = {None: None} | {p: b for b, (first, last) in enumerate(bands_of(case)) for p in range(first, last + 1)}
    channels = {b: [c for c in range(case.head_dim) if band_of[pair_of(case, c)] == b] for b in (None, 0, 1)}
    with WIDE():
        streamed(loaded, tokens, taps=before)
        for layer in range(case.layers):
            g, after = torch.ones(case.layers, case.kv_heads, 2, dtype=torch.float64), Taps()
            g[layer] = random_g(case, seed=layer)[layer]
            streamed(loaded, tokens, Condition(scales=Scales("shared", case.finest, bands_of(case), g)), taps=after)
            for band, picked in channels.items():
                if not picked:
                    continue
                turned = layer not in case.unrotated and band is not None
                for head in range(case.heads):
                    kv = head // case.group
                    factor = float(g[layer, kv, band]) ** 2 if turned else 1.0
                    part, scaled = (t.q[layer][head][:, picked] @ t.k[layer][kv][:, picked].T for t in (before, after))
                    torch.testing.assert_close(scaled, factor * part, rtol=1e-11, atol=1e-11)


@pytest.mark.slow
@ALL
def test_an_export_reloads_in_plain_transformers_with_the_same_logits(build, tokens, name, tmp_path):
    from transformers import AutoModelForCausalLM

    loaded, case = build(name), CASES[name]
    scales = scales_of(case, "shared", seed=3)
    with WIDE():
        patched = streamed(loaded, tokens, Condition(scales=scales))
        bare = streamed(loaded, tokens)
        folder = hf.run(loaded, RopeSpec(), scales, tmp_path / "out")
        again = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
        )
        torch.testing.assert_close(plain_logits(again.eval(), tokens), patched, **EXACT)
    assert float((bare - patched).abs().max()) > 1e-2


PI = {"linear": RopeSpec("linear", 3.0), "ntk": RopeSpec("ntk", 2.0), "yarn": RopeSpec("yarn", 2.0)}


@pytest.mark.slow
@pytest.mark.parametrize("method", PI)
@pytest.mark.parametrize(
    "name",
    ["qwen3", "stablelm", "gpt_neox", "smollm3", "glm4", "gemma3", "falcon", "gpt_oss", "cohere2"]
    + ["deepseek_v2", "deepseek_v3", "qwen3_next", "qwen3_5", "lfm2", "lfm2_moe", "bamba", "falcon_h1"]
    + ["granitemoehybrid"],
)
def test_an_exported_interpolation_is_what_the_stream_ran(build, tokens, name, method, tmp_path):
    from transformers import AutoModelForCausalLM

    loaded, rope = build(name), PI[method]
    with WIDE():
        ours = streamed(loaded, tokens, Condition(rope))
        bare = streamed(loaded, tokens)
        folder = hf.run(loaded, rope, None, tmp_path / "out")
        again = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
        )
        torch.testing.assert_close(plain_logits(again.eval(), tokens), ours, **EXACT)
    assert float((bare - ours).abs().max()) > 1e-3


def state(model):
    """Every byte of parameters and buffers, the rotary module's plain attributes, and where each parameter lies."""
    held = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    held |= {name: (b.data_ptr(), b.clone()) for name, b in model.named_buffers()}
    plain = {
        f"{path}.{key}": value
        for path, module in model.named_modules()
        for key, value in vars(module).items()
        if key == "forward" or "attention_scaling" in key or key == "rope_type"
    }
    return held, plain, model.config.to_dict(), model.config._attn_implementation


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("fails", [False, True])
def test_quantized_scaled_and_undone_restores_every_byte(build, tokens, name, fails):
    loaded, case = build(name), CASES[name]
    held, *rest = state(loaded.model)
    cache = {} if case.latent else {"k": QuantizerSpec(4), "v": QuantizerSpec(4)}
    quant = QuantSpec(weights=WeightQuantSpec(4, "tensor"), qk=QuantizerSpec(8), **cache)
    own_only = "mscale_all_dim" in case.options.get("rope_parameters", {})
    interpolated = RopeSpec() if own_only else RopeSpec("linear", 2.0)
    with WIDE():
        exact = streamed(loaded, tokens)
        try:
            condition = Condition(interpolated, quant, scales_of(case, "shared"))
            with open_stream(loaded, condition, LENGTH) as stream:
                moved = logits_of(loaded, torch.cat([piece.hidden for piece in stream.run(tokens)], 1))
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert fails
        assert float((moved - exact).abs().max()) > 1e-2
        apply_scales(loaded, scales_of(case))
        undo_scales(loaded)
    again, *rest_again = state(loaded.model)
    assert rest_again == rest
    assert again.keys() == held.keys()
    for key, (where, values) in held.items():
        assert again[key][0] == where, key
        assert again[key][1].flatten().view(torch.uint8).equal(values.flatten().view(torch.uint8)), key


@ALL
def test_the_finest_exact_granularity(build, name):
    loaded, case = build(name), CASES[name]
    assert loaded.geometry.finest == case.finest
    too_fine = Scales("symmetric", "kv_head", bands_of(case), random_g(case, finest="kv_head"))
    if case.finest == "kv_head":
        apply_scales(loaded, too_fine)
        undo_scales(loaded)
        return
    shared = "has one rotated key for all" if case.latent else "shares its QK-norm gain"
    with pytest.raises(
        BadSpec, match=rf"--granularity kv_head: {case.family} {shared} .*choose --granularity layer"
    ) as error:
        apply_scales(loaded, too_fine)
    assert "\n" not in str(error.value)
    assert loaded.applied is None
    per_layer = from_nested(
        random_g(case)[:, 0].tolist(), "symmetric", "layer", bands_of(case), case.layers, case.kv_heads
    )
    apply_scales(loaded, per_layer)
    undo_scales(loaded)


def test_a_gain_without_scale_or_with_the_scale_on_w_is_wrong(build, tokens):
    """Why the gain: rows of W_Q and W_K would be normalised away, all at once or mixed."""
    loaded = build("qwen3")
    with WIDE():
        plain = streamed(loaded, tokens)
        for parameter, factor in (("q_proj", 4.0), ("k_proj", 4.0)):
            for layer in loaded.model.model.layers:
                getattr(layer.self_attn, parameter).weight.data *= factor
        torch.testing.assert_close(streamed(loaded, tokens), plain, rtol=0, atol=1e-4)  # up to the norm's eps
        for layer in loaded.model.model.layers:
            layer.self_attn.k_norm.weight.data *= 4.0
        assert float((streamed(loaded, tokens) - plain).abs().max()) > 1e-2


def test_a_gain_stored_as_one_plus_w(build):
    loaded, case = build("gemma3"), CASES["gemma3"]
    from qroar_core.models.patch import scaled_parameters

    scales = scales_of(case)
    new = scaled_parameters(loaded, scales)
    assert sorted({name.split(".")[-2] for name in new}) == ["k_norm", "q_norm"]
    for layer in range(case.layers):
        old = dict(loaded.model.named_parameters())
        for norm, sign in (("q_norm", 1), ("k_norm", -1)):
            name = f"model.layers.{layer}.self_attn.{norm}.weight"
            for channel in range(case.head_dim):
                g = float(scales.g[layer, 0, 0 if pair_of(case, channel) == 0 else 1]) ** sign
                assert 1 + float(new[name][channel]) == pytest.approx((1 + float(old[name][channel])) * g, rel=1e-12)


@ALL
def test_the_windows_read_from_the_config_are_those_the_layers_ask_for(build, tokens, name):
    """Oracle: what every layer hands to its attention function while it runs."""
    loaded, asked = build(name), {}

    class Windows(Taps):
        def on_attention(self, tap):
            asked[tap.layer] = tap.rule.window

    with WIDE():
        streamed(loaded, tokens, taps=Windows())
    assert [loaded.geometry.window_of(layer) for layer in range(CASES[name].layers)] == [
        asked[layer] for layer in range(CASES[name].layers)
    ]


def test_layers_without_rope_take_no_scale(build):
    from qroar_core.models.patch import scaled_parameters

    loaded = build("smollm3")
    assert loaded.geometry.without_rope == CASES["smollm3"].unrotated
    new = scaled_parameters(loaded, scales_of(CASES["smollm3"]))
    assert {name.split(".")[2] for name in new} == {"0", "2"}


def test_quantized_experts_are_rounded_matrix_by_matrix(build):
    """Mixtral keeps an expert's rows first, gpt-oss its columns; routers and biases stay."""
    from qroar_core.models.patch import quantized_parameters

    for name, columns_first in (("mixtral", False), ("gpt_oss", True)):
        loaded = build(name)
        new = quantized_parameters(loaded, WeightQuantSpec(4, "channel"), {})
        stacked = [n for n in new if "experts" in n]
        assert sorted({n.split(".")[-1] for n in stacked}) == ["down_proj", "gate_up_proj"]
        assert not any("router" in n or n.endswith("gate.weight") or n.endswith("bias") for n in new)
        for parameter in stacked:
            for expert, rounded in zip(loaded.model.get_parameter(parameter), new[parameter]):
                rows, got = (expert.T, rounded.T) if columns_first else (expert, rounded)
                step = rows.abs().amax(1, keepdim=True) / 7
                torch.testing.assert_close(got, (rows / step).round() * step, rtol=0, atol=1e-12)


def test_loading_a_saved_family_from_its_folder(byte_tokenizer, tmp_path, tokens):
    """Through `load.run`, with the attention implementation the family needs."""
    from qroar_core.models.load import run as load_model

    for name in ("gpt_oss", "gemma2", "falcon", "phi3, longrope, partial", "cohere2", "deepseek_v2", "deepseek_v3"):
        model = model_of(CASES[name], dtype=torch.float32)
        folder = tmp_path / name.split(",")[0]
        model.save_pretrained(folder)
        byte_tokenizer.save_pretrained(folder)
        loaded = load_model(str(folder), device="cpu", dtype="float32")
        assert loaded.family.name == CASES[name].family
        with torch.no_grad():
            expected = plain_logits(model, tokens)
            torch.testing.assert_close(loaded.model(tokens, use_cache=False).logits, expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(streamed(loaded, tokens), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["linear", "yarn", "dynamic", "llama3"])
def test_an_interpolation_transformers_would_not_load_is_refused_before_writing(build, tmp_path, method):
    with pytest.raises(
        BadSpec, match=rf"--rope {method}: transformers' phi3 configuration takes no {method} RoPE.*; export with"
    ) as error:
        hf.run(build("phi3"), RopeSpec(method, 2.0), None, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["phi3", "phi3, longrope, partial"])
@pytest.mark.parametrize("method", ["ntk", "longrope"])
def test_what_phi3_does_take_is_exported(build, tokens, tmp_path, name, method):
    from transformers import AutoModelForCausalLM

    pairs = CASES[name].rotary_dim // 2
    lists = {"long_factor": tuple(1 + 0.4 * i for i in range(pairs)), "short_factor": (1.0,) * pairs}
    rope = RopeSpec(method, 2.0, **(lists if method == "longrope" else {}))
    loaded = build(name)
    with WIDE():
        ours = streamed(loaded, tokens, Condition(rope))
        folder = hf.run(loaded, rope, None, tmp_path / "out")
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
        torch.testing.assert_close(plain_logits(again.eval(), tokens), ours, **EXACT)


BENT = ["mistral, window", "gemma2", "gpt_oss", "falcon", "phi3, longrope, partial", "granite", "deepseek_v3"]


@pytest.mark.parametrize("name", BENT)
def test_the_cached_objective_starts_from_the_models_own_attention(build, tokens, name):
    """What `capture` computes as attention output, by the layer's window, cap and sinks, is what the layer gave."""
    from qroar_core.models.capture import capture

    class Outputs(Taps):
        def on_attention(self, tap):
            assert tap.start == 0
            self.q[tap.layer] = tap.out.clone()

    loaded, outputs = build(name), Outputs()
    with WIDE():
        streamed(loaded, tokens, chunk=LENGTH, taps=outputs)
        taken = capture(loaded, RopeSpec(), tokens, 30)
    for layer, captured in enumerate(taken.windows[0]):
        expected = outputs.q[layer][:, captured.rows]
        torch.testing.assert_close(captured.out.double(), expected, rtol=0, atol=1e-4)


@ALL
def test_unrotated_q_and_k_of_a_repeated_token_are_alike_at_all_positions(build, name):
    """A repeated token has the same hidden state everywhere, so what differs by position is RoPE alone.

    A sink takes a share that falls with position, and a state grows: beside them only a decoder's first layer sees
    equal inputs.
    """
    from qroar_core.maths.rope import unrotate

    loaded, case = build(name), CASES[name]
    kept = []

    class Plain(Taps):
        def on_attention(self, tap):
            for x in (tap.q, tap.k):
                kept.append((tap.layer, x.clone(), unrotate(x, tap.cos, tap.sin, case.pairing)))

    with WIDE():
        streamed(loaded, torch.full((1, LENGTH), 7), chunk=LENGTH, taps=Plain())
    for layer, turned, plain in kept:
        if (case.family == "gpt_oss" or case.stateful) and (case.decoder or range(case.layers))[layer] > 0:
            continue
        size = float(turned.abs().max())
        assert float((plain - plain[:, :1]).abs().max()) < 1e-5 * size  # cos and sin are float32
        assert (float((turned - turned[:, :1]).abs().max()) > 1e-2 * size) == (layer not in case.unrotated)


def test_an_interpolation_of_gemma3_leaves_its_sliding_layers_alone(build, tokens, tmp_path):
    """They see a short window only; the checkpoint itself is extended in its full attention layers alone."""
    import json

    loaded, plain, moved = build("gemma3"), Taps(), Taps()
    with WIDE():
        streamed(loaded, tokens, taps=plain)
        streamed(loaded, tokens, Condition(RopeSpec("linear", 5.0)), taps=moved)
    assert torch.equal(moved.k[0], plain.k[0])
    assert not torch.allclose(moved.k[1], plain.k[1], atol=1e-2)
    folder = hf.run(loaded, RopeSpec("linear", 5.0), None, tmp_path / "out")
    blocks = json.loads((folder / "config.json").read_text())["rope_parameters"]
    assert blocks["sliding_attention"] == loaded.model.config.rope_parameters["sliding_attention"]
    assert blocks["full_attention"] == {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 5.0}
