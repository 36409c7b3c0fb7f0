"""Numbers that overflow end every stage in one line that says what, where and what to do; nothing is written."""

from __future__ import annotations

import math

import pytest
import torch

from qroar_core.errors import NonFinite
from qroar_core.interpolations.frequencies import Rope, rope_of
from qroar_core.models.finite import Watch, require_finite, require_finite_parameters
from qroar_core.models.stream import Condition, drain, open_stream
from qroar_core.models.window_losses import hidden_states, measure
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales

INT4 = QuantSpec(k=QuantizerSpec(4))


@pytest.fixture
def ids():
    return torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(1))


def grown(tiny, times: float, dtype=torch.float16, name="model.layers.1.self_attn.k_proj.weight"):
    """A tiny model whose weight of one name is so many times larger."""
    loaded = tiny(dtype=dtype)
    with torch.no_grad():
        loaded.model.get_parameter(name).mul_(times)
    return loaded


def test_an_overflow_names_the_first_layer_the_position_the_setting_and_the_way_out(tiny, ids):
    loaded = grown(tiny, 30_000.0)
    with pytest.raises(NonFinite) as told:
        measure(loaded, Condition(RopeSpec("yarn", 2.0), INT4), ids, 39)
    assert str(told.value) == (
        "YaRN ×2, K int4 per token, float16: k of layer 1 at position 0 is not finite; "
        "float16 ends at 65504: take --dtype bfloat16 or float32"
    )


def test_the_position_is_that_of_the_first_token_that_overflowed(tiny, ids):
    loaded = tiny(dtype=torch.float16)
    loaded.model.get_input_embeddings().weight.data[7] = float("inf")
    text = ids.clone()
    text[text == 7] = 8
    text[1, 23] = 7
    with pytest.raises(NonFinite, match="q of layer 0 at position 23 is"):
        measure(loaded, Condition(), text, 39, chunk=8)


def test_an_overflow_behind_the_last_attention_is_seen_in_the_final_state(tiny, ids):
    loaded = grown(tiny, math.inf, torch.float32, "model.layers.1.mlp.down_proj.weight")
    with pytest.raises(NonFinite, match=r"float32: the final hidden state at position 0 .* weights overflow"):
        hidden_states(loaded, Condition(), ids, 4)


def test_a_key_of_minus_infinity_is_not_hidden_by_softmax():
    """q . k of -inf gives weight 0 and a finite output: only a look at k itself sees it."""
    watch = Watch(Condition(), torch.float16)
    k = torch.ones(1, 2, 5, 4, dtype=torch.float16)
    k[0, 1, 3, 2] = -math.inf
    watch.look("k of layer 0", 10, k)
    with pytest.raises(NonFinite, match="k of layer 0 at position 13"):
        watch.ask()


def test_asking_names_the_first_place_of_all_that_was_looked_at():
    watch = Watch(Condition(), torch.float32)
    late = torch.zeros(1, 1, 4, 2)
    late[0, 0, 3, 1] = -math.inf
    watch.look("q of layer 0", 0, torch.zeros(1, 1, 4, 2))
    watch.look("k of layer 1", 4, late)
    watch.look("q of layer 0", 8, torch.full((1, 1, 2, 2), math.nan))
    with pytest.raises(NonFinite, match="k of layer 1 at position 7"):
        watch.ask()
    watch.ask()  # asked and told: the next run begins anew


def test_large_but_finite_numbers_pass(tiny, ids):
    seen = measure(grown(tiny, 100.0, torch.float32, "lm_head.weight"), Condition(), ids, 39)
    assert bool(seen.nll.isfinite().all())
    assert float(seen.nll.mean()) > 100


def test_a_head_that_overflows_is_named_by_window_and_target(tiny, ids):
    loaded = grown(tiny, 20_000.0, name="lm_head.weight")
    with pytest.raises(NonFinite, match=r"float16: the NLL of window 0, target 0, is not finite"):
        measure(loaded, Condition(), ids, 39)


def test_require_finite_names_the_place():
    x = torch.zeros(3, 5)
    x[2, 4] = math.inf
    with pytest.raises(NonFinite, match="the NLL of window 2, target 4, is not finite"):
        require_finite(x, "the NLL", None, torch.float32)


def test_an_observer_that_fails_over_nan_is_not_what_is_said(tiny, ids):
    class Picky:
        def on_attention(self, tap):
            if not bool(tap.out.isfinite().all()):
                raise IndexError("index 5 is out of bounds")

        def on_layer(self, layer, row, start, hidden):
            pass

    loaded = grown(tiny, 30_000.0)
    with pytest.raises(NonFinite, match="k of layer 1"), open_stream(loaded, Condition(), 40) as stream:
        drain(stream.run(ids[0], (Picky(),)))


def test_frequencies_that_are_no_numbers_are_refused_before_any_pass(tiny, monkeypatch):
    loaded = tiny()
    rotary = loaded.family.rotary(loaded.model)
    broken = lambda config, **kind: (torch.tensor([1.0] * 7 + [math.nan]), 1.0)  # noqa: E731
    monkeypatch.setattr(rotary, "compute_default_rope_parameters", broken)
    with pytest.raises(NonFinite, match="own RoPE: the frequency of RoPE pair 7 is not finite; check rope_theta"):
        rope_of(loaded, RopeSpec(), 64)


def test_an_infinite_attention_factor_is_refused(tiny, monkeypatch):
    loaded = tiny()
    rotary = loaded.family.rotary(loaded.model)
    monkeypatch.setattr(rotary, "compute_default_rope_parameters", lambda config, **kind: (torch.ones(8), math.inf))
    with pytest.raises(NonFinite, match="the attention factor is not finite"):
        rope_of(loaded, RopeSpec(), 64)


def test_a_usual_rope_is_what_it_was(tiny):
    assert isinstance(rope_of(tiny(), RopeSpec("yarn", 4.0), 64), Rope)


def of_all(loaded, log2: float) -> Scales:
    geo = loaded.geometry
    g = torch.full((geo.n_layers, geo.n_kv_heads, 1), 2.0**log2, dtype=torch.float64)
    return Scales("shared", "kv_head", ((0, geo.n_pairs - 1),), g)


def test_scales_that_leave_the_number_format_are_refused_with_the_weight_named(tiny, ids):
    loaded = tiny(dtype=torch.float16)
    with pytest.raises(NonFinite) as told:
        measure(loaded, Condition(scales=of_all(loaded, 20.0)), ids, 39)
    assert str(told.value).startswith("float16: model.layers.0.self_attn.q_proj.weight times its scales is not finite")
    assert "scales closer to 1" in str(told.value)


def test_finite_parameters_pass():
    require_finite_parameters({"a": torch.tensor([65504.0], dtype=torch.float16)}, torch.float16)


def test_a_line_about_tuned_weights_says_so(tiny, ids):
    loaded = grown(tiny, 10.0)
    scales = of_all(loaded, 12.0)
    with pytest.raises(NonFinite, match=r"^with scales, own RoPE, .*, float16: .* or scales closer to 1"):
        measure(loaded, Condition(scales=scales), ids, 39)
