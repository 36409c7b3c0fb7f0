"""What the quantizers make of q and K with quantized weights, against transformers' own model rounded by hand."""

from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache
from transformers.models.llama import modeling_llama

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.rounding.figure import lengths
from qroar_core.models.text import Document
from qroar_core.quantizers.presets import preset_quant
from qroar_core.setting import Setting
from qroar_core.specs import BandSpec, DiagnosisSpec, QuantizerSpec, QuantSpec, RopeSpec, WeightQuantSpec

LENGTH, HEAD, BANDS = 300, 64, 4
LOUD = "Z"  # a token whose keys are large in the first layer; at the end, where a cache of blocks is exact
TEXT = [Document("a", "".join(chr(97 + (i * i + 3 * i) % 26) for i in range(LENGTH - 40)) + LOUD * 40)]
SPEC = DiagnosisSpec(
    length=LENGTH,
    short_length=32,
    paired_tokens=16,
    windows=2,
    eps=0.02,
    bands=BandSpec(BANDS),
    chunk=64,
    position_bins=5,
    query_rows=12,
)
WEIGHTS = WeightQuantSpec(4, "channel")


def between(x, dim, steps):
    """To `steps` steps from the least to the greatest value along `dim`."""
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    step = (high - low) / steps
    return low + ((x - low) / step).round() * step


def per_token(x, levels=7):
    step = x.abs().amax(-1, keepdim=True) / levels
    return (x / step).round() * step


# tokens that the cache rounds together, and what becomes of keys (heads, tokens, channels) that start at a block
CACHES = {
    "int4": (QuantSpec(k=QuantizerSpec(4)), 1, per_token),
    "kivi2": (preset_quant("kivi2"), 128, lambda x: torch.cat([between(part, 1, 3) for part in x.split(32, 1)], 1)),
    "quanto4": (preset_quant("quanto4"), 128, lambda x: between(x, 2, 15)),
}


def made(tiny):
    loaded = tiny(dtype=torch.float64, head_dim=HEAD)
    model = loaded.model.model
    (token,) = loaded.tokenizer(LOUD, add_special_tokens=False).input_ids
    model.embed_tokens.weight.data[token] = torch.linalg.svd(model.layers[0].self_attn.k_proj.weight.data)[2][0]
    return loaded


def rounded_by_hand(model):
    """int4 with one symmetric step a row, of every linear of the decoder."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            module.weight.data = per_token(module.weight.data)


def keys_of(model, ids, rounded, block):
    """What the cache is given, layer by layer, when each layer reads the ones before as their caches hold them."""
    given = {}

    class Cache(DynamicCache):
        def update(self, k, v, layer, *args, **kwargs):
            super().update(k, v, layer, *args, **kwargs)
            given.setdefault(layer, []).append(k[0])
            read = torch.cat(given[layer], 1)
            t = read.shape[1] - 1  # the query that reads
            last = t + 1 if block == 1 else t // block * block
            if last:
                read[:, :last] = torch.cat([rounded(part) for part in read[:, :last].split(block, 1)], 1)
            return read[None], self.layers[layer].values

    cache = Cache()
    with torch.no_grad():
        for t in range(LENGTH):  # one at a time
            at = torch.tensor([[t]])
            model(ids[None, t : t + 1], position_ids=at, past_key_values=cache, use_cache=True)
    return [torch.cat(given[layer], 1) for layer in sorted(given)]


@pytest.mark.parametrize("name", CACHES)
def test_the_error_in_force_is_of_the_keys_of_the_model_with_quantized_weights(tiny, name):
    """Shares by channel, of outliers by band, their limit and their null; int8's and int4's stay with exact weights."""
    quant, block, rounded = CACHES[name]
    loaded = made(tiny)
    quant = replace(quant, weights=WEIGHTS, v=None)
    found = diagnose.run(loaded, Setting(RopeSpec(), quant, diagnosis=SPEC), TEXT).outliers
    ids = diagnose.plan(loaded, Setting(RopeSpec(), quant, diagnosis=SPEC), TEXT).ids
    rounded_by_hand(loaded.model)
    read = LENGTH if block == 1 else (LENGTH - 1) // block * block
    for layer, k in enumerate(keys_of(loaded.model, ids, rounded, block)):
        kept = torch.cat([rounded(part) for part in k[:, :read].split(block, 1)], 1)
        square = (kept - k[:, :read]).square()
        by_channel = square.sum((0, 1)) / square.sum()
        assert found.error_by_channel["in force"][layer] == pytest.approx(by_channel.tolist(), rel=2e-3)
        size = k.abs().flatten(1)
        q1, q3 = size.quantile(torch.tensor([0.25, 0.75], dtype=k.dtype), -1)
        limit = torch.tensor(found.entry_limit_in_force[layer], dtype=k.dtype)
        assert limit.tolist() == pytest.approx((q3 + 1.5 * (q3 - q1)).tolist(), rel=0.03)
        far = k.abs()[:, :read] >= 2 ** ((limit.log2() * 32).round() / 32)[:, None, None]
        for band in range(BANDS):
            here = torch.tensor([c % 32 // 8 == band for c in range(HEAD)])
            share = float((square * far)[..., here].sum() / square[..., here].sum())
            assert found.error_share["in force"][layer][band] == pytest.approx(share, rel=2e-3, abs=1e-6)
            null = float(far[..., here].double().mean())
            assert found.entry_share_in_force[layer][band] == pytest.approx(null, rel=2e-3)
    exact = diagnose.run(made(tiny), Setting(RopeSpec(), replace(quant, weights=None), diagnosis=SPEC), TEXT)
    for probe in ("int8", "int4"):
        assert found.error_by_channel[probe] == exact.outliers.error_by_channel[probe]
    assert found.entry_share == exact.outliers.entry_share
    assert found.error_by_channel["in force"] != exact.outliers.error_by_channel["in force"]
    assert (found.of_quantized_model, exact.outliers.of_quantized_model) == (True, False)


CLIPS = QuantizerSpec(3, scale="tensor", static_scale=0.3)  # levels -0.9 .. 0.9


def to_levels(x):
    return (x / 0.3).round().clamp(-3, 3) * 0.3


def queries_of(loaded, ids, monkeypatch, rounded=None):
    """q of every layer after RoPE, (heads, tokens, channels) each, as transformers makes it; q and K rounded so."""
    made, inner = [], modeling_llama.apply_rotary_pos_emb

    def turned(q, k, *args, **kwargs):
        q, k = inner(q, k, *args, **kwargs)
        made.append(q[0])
        return (q, k) if rounded is None else (rounded(q), rounded(k))

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(modeling_llama, "apply_rotary_pos_emb", turned)
        loaded.model(ids[None])
    return made


@pytest.mark.parametrize("rounds", [True, False])
def test_with_quantized_weights_q_is_that_of_the_quantized_model(tiny, monkeypatch, rounds):
    """Clipped and zeroed values of every query; errors and lengths at the sampled rows, which is said."""
    loaded = made(tiny)
    quant = QuantSpec(weights=WEIGHTS, qk=CLIPS if rounds else None)
    found = diagnose.run(loaded, Setting(RopeSpec(), quant, diagnosis=SPEC), TEXT)
    ids = diagnose.plan(loaded, Setting(RopeSpec(), quant, diagnosis=SPEC), TEXT).ids
    exact = queries_of(loaded, ids, monkeypatch)
    rounded_by_hand(loaded.model)
    rows, seen = found.logit_noise.position, found.rounding
    assert seen.q_rows == len(rows) < LENGTH
    for layer, (q, own) in enumerate(zip(exact, queries_of(loaded, ids, monkeypatch, to_levels if rounds else None))):
        if rounds:
            beyond, values = own.abs() > 1.05, own.unflatten(0, (2, -1))  # half a step past the last level
            zeroed = (own != 0) & (own.abs() < 0.15)
            assert 0.001 < beyond.double().mean() < 0.9
            for name, of in (("clipped", beyond), ("zeroed", zeroed)):
                share = of.view_as(values).double().mean((1, 2, 3))
                assert getattr(seen.q, name)[layer] == pytest.approx(share.tolist(), abs=1e-9)
        else:
            assert seen.q.clipped[layer] == seen.q.zeroed[layer] == [None, None]
        read = (to_levels(own) if rounds else own)[:, rows]
        off = (read - q[:, rows]).unflatten(0, (2, -1))
        assert seen.q.rms[layer] == pytest.approx(off.square().mean((1, 2, 3)).sqrt().tolist(), rel=1e-4)
        assert seen.q.largest[layer] == pytest.approx(off.abs().amax((1, 2, 3)).tolist(), rel=1e-4)
        longer = (read.norm(dim=-1) / q[:, rows].norm(dim=-1) - 1).unflatten(0, (2, -1))
        assert seen.q.norm_mean[layer] == pytest.approx(longer.mean((1, 2)).tolist(), rel=1e-4, abs=1e-6)
    said = lengths(found)
    assert f"are of the {len(rows)} sampled query rows, not of all tokens" in said.how_to_read
    assert ("These shares are of q as the quantizer is given it, at all tokens" in said.how_to_read) is rounds
    assert ("No quantizer rounds q itself here" in said.how_to_read) is not rounds
    assert said.table.groupby("tensor")["tokens"].first().to_dict() == {"K": LENGTH, "q": len(rows)}
    assert any(row.quantity.endswith(f", {len(rows)} sampled query rows") for row in seen.null_rows())
