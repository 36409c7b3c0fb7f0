"""The chunked stream against transformers' own full forward pass: logits, NLL, windows, every PI method."""

from __future__ import annotations

import copy

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import rope_parameters
from qroar_core.models.score import logits_of, token_nll
from qroar_core.models.stream import Condition, open_stream
from qroar_core.models.window_losses import last_hidden
from qroar_core.specs import RopeSpec

LENGTH = 96  # past the tiny models' native window of 64
FLOAT64 = {"rtol": 1e-10, "atol": 1e-10}
CLOSE = {"sdpa": FLOAT64, "eager": {"rtol": 0.0, "atol": 3e-5}}  # eager takes its softmax in float32


def streamed(loaded, tokens, chunk, condition=None, length=None):
    """Final hidden states of a stream, (B, T, hidden)."""
    batch = 1 if tokens.ndim == 1 else tokens.shape[0]
    with open_stream(loaded, condition or Condition(), length or LENGTH, chunk=chunk, batch=batch) as stream:
        return torch.cat([piece.hidden for piece in stream.run(tokens)], dim=1)


def plain_logits(model, tokens, implementation):
    """transformers, one forward pass."""
    model.set_attn_implementation(implementation)
    try:
        with torch.inference_mode():
            return model(tokens, use_cache=False).logits
    finally:
        model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_logits_equal_transformers(tiny, ids, family, implementation):
    loaded, tokens = tiny(family, torch.float64), ids(2, LENGTH)
    expected = plain_logits(loaded.model, tokens, implementation)
    for chunk in (1000, 96, 32, 7, 1):
        got = logits_of(loaded, streamed(loaded, tokens, chunk))
        torch.testing.assert_close(got, expected, **CLOSE[implementation], msg=lambda m, c=chunk: f"chunk {c}: {m}")


def test_a_single_row_may_come_without_a_batch_axis(tiny, ids):
    loaded, tokens = tiny(dtype=torch.float64), ids(2, 40)
    one = streamed(loaded, tokens[1], 16)
    torch.testing.assert_close(one[0], streamed(loaded, tokens, 16)[1], **FLOAT64)


def test_nll_is_the_mean_log_loss_of_transformers(tiny, ids):
    loaded, tokens, targets = tiny(dtype=torch.float64), ids(2, LENGTH), 50
    with open_stream(loaded, Condition(), LENGTH, chunk=13, batch=2) as stream:
        hidden = last_hidden(stream.run(tokens), LENGTH, targets)
        nll = token_nll(loaded, hidden, tokens[:, -targets:])
    labels = tokens.clone()
    labels[:, :-targets] = -100
    with torch.inference_mode():
        expected = loaded.model(tokens, labels=labels, use_cache=False).loss
    assert nll.shape == (2, targets)
    assert float(nll.mean()) == pytest.approx(float(expected), rel=1e-6)  # transformers takes the loss in float32


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
@pytest.mark.parametrize("window", [1, 5, 24])
def test_sliding_window_equals_transformers(tiny, ids, family, window):
    options = {"sliding_window": window}
    if family == "qwen2":  # its first layer is full, its second slides
        options |= {"use_sliding_window": True, "max_window_layers": 1}
    loaded, tokens = tiny(family, torch.float64, **options), ids(2, 60)
    expected = plain_logits(loaded.model, tokens, "sdpa")
    for chunk in (60, 16, 7, 1):
        torch.testing.assert_close(logits_of(loaded, streamed(loaded, tokens, chunk)), expected, **FLOAT64)
    full = tiny(family, torch.float64)
    assert not torch.allclose(plain_logits(full.model, tokens, "sdpa"), expected, atol=1e-2)


def test_query_blocks_of_one_row_change_nothing(tiny, ids, monkeypatch):
    loaded, tokens = tiny("mistral", torch.float64, sliding_window=9), ids(50)
    expected = streamed(loaded, tokens, 50)
    monkeypatch.setattr("qroar_core.models.attention.MASK_ENTRIES", 1)
    torch.testing.assert_close(streamed(loaded, tokens, 20), expected, **FLOAT64)


SPECS = {
    "default": RopeSpec(),
    "linear": RopeSpec("linear", 2.0),
    "ntk": RopeSpec("ntk", 2.0),
    "dynamic": RopeSpec("dynamic", 2.0),
    "yarn": RopeSpec("yarn", 4.0, original_context=32),
    "longrope": RopeSpec("longrope", 2.0, long_factor=tuple(1 + 0.3 * i for i in range(8)), short_factor=(1.1,) * 8),
    "llama3": RopeSpec("llama3", 8.0, original_context=16),
}


def interpolated_by_transformers(loaded, spec):
    """A fresh transformers model with the same weights whose config asks for the method."""
    config = copy.deepcopy(loaded.model.config)
    config.rope_parameters = rope_parameters(loaded.model.config, loaded.geometry, spec)
    if spec.method == "ntk":
        config.rope_parameters = {"rope_type": "default", "rope_theta": 10_000.0 * spec.factor ** (16 / 14)}
    model = type(loaded.model)(config)
    model.load_state_dict(loaded.model.state_dict())
    model.to(torch.float64).eval()
    for new, old in zip(model.modules(), loaded.model.modules(), strict=True):
        if "forward" in vars(old):  # the float64 norms of the fixture
            new.forward = type(old.forward)(old.forward.__func__, new)
    return model


@pytest.mark.parametrize("length", [48, LENGTH])
@pytest.mark.parametrize("method", SPECS)
def test_every_method_streams_as_transformers_runs_it(tiny, ids, method, length):
    loaded, tokens, spec = tiny(dtype=torch.float64), ids(2, length), SPECS[method]
    expected = plain_logits(interpolated_by_transformers(loaded, spec), tokens, "sdpa")
    hidden = streamed(loaded, tokens, 17, Condition(rope=spec), length)
    torch.testing.assert_close(logits_of(loaded, hidden), expected, **FLOAT64)
    same_as_native = method == "default" or (method == "dynamic" and length <= 64)
    unscaled = plain_logits(loaded.model, tokens, "sdpa")
    assert torch.allclose(expected, unscaled, atol=1e-3) == same_as_native


def test_more_tokens_than_opened_for_are_refused(tiny, ids):
    loaded = tiny()
    with open_stream(loaded, Condition(), 32) as stream, pytest.raises(BadSpec, match="33 tokens"):
        next(stream.run(ids(33)))


def test_an_uncalibrated_tensor_scale_is_refused(tiny):
    from qroar_core.specs import QuantizerSpec, QuantSpec

    condition = Condition(quant=QuantSpec(k=QuantizerSpec(4, "tensor")))
    with pytest.raises(BadSpec, match="calibrated"), open_stream(tiny(), condition, 32):
        pass
