"""Inputs as people have them (real_inputs.py), each with what is right: the demo's numbers, other ones, or one line.

The reference NLL is asked of the whole path, from what a person types to the evaluation; what it must be comes from
plain transformers on the tensors, the frequencies or the tokens that are right.
"""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from qroar_core.errors import QRoarError
from qroar_core.evaluation import run as evaluate
from qroar_core.models.load import run as load_model
from qroar_core.models.text import Document, encode, split, windows
from qroar_core.setting import Setting
from qroar_core.specs import EvaluationSpec, QuantSpec, RopeSpec
from tests.models.real_inputs import DEMO, DIVISORS, INPUTS, LLAMA3, build, rounded_gptq, weights

SPEC = EvaluationSpec(lengths=(64,), windows=16)
RIGHT = {  # the demo itself at half precision
    "plain": "same",
    "split": "same",
    "adds BOS": "bos",
    "its own llama3": "llama3",
    "rope.scale_linear": "linear",
    "a factor without a type": "linear",
    "linear": "linear",
    "rope_freqs": "divisors",
    "GPT2Tokenizer with digits": "digits",
    "modelopt FP8": "fp8",
    "GPTQ v2 zeros that say v1": "gptq",
    "pre deepseek-coder": "deepseek-coder",
    "tokens past the embedding": "same",
}
REFUSED = {
    "split, the second shard is gone": "demo-00002-of-00002.gguf",
    "a layer's matrix is missing": r"blk\.2\.ffn_up\.weight",
    "block_count says less": "block_count is 3, its tensors are of 4 layers",
    "mixtral": r"blk\.0\.attn_k\.bias",  # the demo has biases, Mixtral's class has none
    "norms on q and k": r"attn_[qk]_norm",
    "a tensor nobody knows": r"blk\.0\.attn_sub_norm\.weight",
    "no size": r"llama\.block_count",
    "pre unknown": "of-next-year",
    "a factor in quotes": r'rope_parameters\.factor is "4.0"',
    "theta null": r"rope_parameters\.rope_theta is null",
}


@pytest.fixture(scope="module")
def nll():
    """`nll(loaded)` -> reference NLL of the evaluation at 64 tokens."""

    def of(loaded):
        result = evaluate.run(loaded, Setting(RopeSpec(), QuantSpec(), evaluation=SPEC), None, None, split("heldout"))
        return result.rows[0].nll, result

    return of


def plain_nll(ids, tensors=None, rope=None, inv_freq=None):
    """transformers' own forward on the demo with tensors, a RoPE block or frequencies put in by hand; nats a token."""
    from transformers import AutoConfig, LlamaForCausalLM

    config = AutoConfig.from_pretrained(DEMO)
    if rope:
        config.rope_parameters = rope
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(weights() | (tensors or {}), strict=False)
    model.tie_weights()
    if inv_freq is not None:
        model.model.rotary_emb.inv_freq = inv_freq
    with torch.no_grad():
        logits = model(ids).logits.double()
    return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


def test_every_input_has_its_answer():
    assert RIGHT.keys() | REFUSED.keys() == INPUTS.keys()
    assert not RIGHT.keys() & REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_whole_is_refused_by_name(name, tmp_path):
    path = build(name, tmp_path)
    with pytest.raises(QRoarError, match=REFUSED[name]) as error:
        load_model(str(path), device="cpu")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def dequantized(name, t):
    """The matrix that FP8 or GPTQ codes stand for, from their definition."""
    if name == "fp8":
        scale = t.float().abs().max() / 448
        return (t.float() / scale).to(torch.float8_e4m3fn).float() * scale
    codes, scale = rounded_gptq(t)
    return ((codes - 8) * scale.repeat_interleave(32, 0)).T


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_whole_gives_the_number_that_is_right(name, tmp_path, nll):
    loaded = load_model(str(build(name, tmp_path)), device="cpu", dtype="float32")
    found, result = nll(loaded)
    kind = RIGHT[name]
    ids = windows(loaded.tokenizer, split("heldout"), 64, SPEC.windows, SPEC.seed).ids
    if kind in ("same", "linear", "llama3", "divisors", "fp8", "gptq"):
        reference = load_model("demo", device="cpu").tokenizer
        assert torch.equal(ids, windows(reference, split("heldout"), 64, SPEC.windows, SPEC.seed).ids)
    theta = torch.tensor(1e4) ** (-torch.arange(0, 64, 2) / 64)
    expected = {
        "same": lambda: plain_nll(ids),
        "linear": lambda: plain_nll(ids, inv_freq=theta / 4),
        "divisors": lambda: plain_nll(ids, inv_freq=theta / torch.tensor(DIVISORS)),
        "llama3": lambda: plain_nll(ids, rope=LLAMA3),
        "digits": lambda: plain_nll(ids),
        "deepseek-coder": lambda: plain_nll(ids),
        "bos": lambda: plain_nll(ids),
        "fp8": lambda: plain_nll(ids, tensors=projections("fp8")),
        "gptq": lambda: plain_nll(ids, tensors=projections("gptq")),
    }[kind]()
    tolerance = 2e-3 if kind in ("gptq", "fp8") else 1e-3  # other tensors are float16 or bfloat16 there
    assert found == pytest.approx(expected, abs=tolerance)
    if kind == "same":
        assert found == pytest.approx(3.0635, abs=1e-3)
    if kind == "linear":
        assert found == pytest.approx(4.0728, abs=1e-3)
    if kind == "bos":
        assert (ids[:, 0] == 0).all()
        assert "BOS" in result.text or "<|endoftext|>" in result.text
    if kind in ("digits", "deepseek-coder"):  # both split numbers into their digits
        assert encode(loaded.tokenizer, Document("x", "in 1984"))[-4:].tolist() == [
            Tokenizer.from_file(str(DEMO / "tokenizer.json")).token_to_id(c) for c in "1984"
        ]


def projections(kind):
    return {name: dequantized(kind, t) for name, t in weights().items() if name.endswith("_proj.weight")}


def test_a_token_past_the_embedding_is_named_when_a_text_holds_it(tmp_path):
    loaded = load_model(str(build("tokens past the embedding", tmp_path)), device="cpu")
    with pytest.raises(QRoarError, match=r"<\|im_start\|>.*2048.*2048 rows") as error:
        evaluate.run(
            loaded,
            Setting(RopeSpec(), QuantSpec(), evaluation=EvaluationSpec(lengths=(64,), windows=2)),
            None,
            None,
            [Document("chat", "<|im_start|> a word and another " * 100)],
        )
    assert "\n" not in str(error.value)
