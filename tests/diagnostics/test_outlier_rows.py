"""Rows of W_Q and W_K by head and channel, in every way that families lay out their projections."""

import pytest
import torch

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.outliers.weights import matrices_of, unavailable
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, RopeSpec
from tests.models.families_table import CASES, loaded_of
from tests.models.small_specs import INT4, SMALL, TEXT


@pytest.fixture
def build(byte_tokenizer, tokenizer_folder):
    return lambda name: loaded_of(CASES[name], byte_tokenizer, tokenizer_folder)


def by_hand(loaded, layer):
    """W_Q (heads, head_dim, in) and W_K, sliced as transformers' own attention cuts its projections."""
    geo = loaded.geometry
    if geo.family == "gpt_neox":  # a head's q, k and v lie together
        fused = loaded.model.gpt_neox.layers[layer].attention.query_key_value.weight.data
        cut = fused.view(geo.n_heads, 3, geo.head_dim, -1)
        return cut[:, 0], cut[:, 1]
    if geo.family == "falcon":  # the query heads of a group, then its k, then its v
        fused = loaded.model.transformer.h[layer].self_attention.query_key_value.weight.data
        cut = fused.view(geo.n_kv_heads, geo.queries_per_kv + 2, geo.head_dim, -1)
        return cut[:, :-2].flatten(0, 1), cut[:, -2]
    block = loaded.model.model.layers[geo.decoder_layer(layer)].self_attn
    if geo.family == "phi3":  # all of q, then all of k, then all of v
        fused = block.qkv_proj.weight.data
        q, k = fused.split([geo.n_heads * geo.head_dim, geo.n_kv_heads * geo.head_dim, geo.n_kv_heads * geo.head_dim])[
            :2
        ]
    else:
        q, k = block.q_proj.weight.data, block.k_proj.weight.data
    if geo.family == "qwen3_next":  # a head's gate lies behind its q
        q = q.view(geo.n_heads, 2 * geo.head_dim, -1)[:, : geo.head_dim]
    return q.reshape(geo.n_heads, geo.head_dim, -1), k.view(geo.n_kv_heads, geo.head_dim, -1)


@pytest.mark.parametrize(
    "name",
    [
        "llama, 1 KV head",
        "qwen2",
        "qwen3",
        "phi3",
        "phi3, longrope, partial",
        "gpt_neox",
        "cohere",
        "glm4",
        "falcon",
        "falcon, multi-query",
        "qwen3_next",
        "smollm3",
    ],
)
def test_rows_and_columns_are_those_of_the_modules(build, name):
    loaded = build(name)
    found = matrices_of(loaded, None, None)
    for layer in range(loaded.geometry.n_layers):
        for matrix, w in zip(("W_Q", "W_K"), by_hand(loaded, layer), strict=True):
            size = w.double().abs()
            assert found[matrix].rows[layer].numpy() == pytest.approx(size.mean(-1).numpy())
            assert found[matrix].columns[layer].numpy() == pytest.approx(size.mean((0, 1)).numpy())


def test_a_fused_projection_is_rounded_whole(build):
    """One scale for the matrix is that of q, k and v together: a large row of v coarsens K's."""
    loaded = build("phi3")
    geo = loaded.geometry
    whole = loaded.model.model.layers[0].self_attn.qkv_proj.weight.data
    whole[-1] *= 40
    error = matrices_of(loaded, None, None)["W_K"].row_error["int8 per tensor"][0].flatten()
    step = whole.double().abs().max() / 127
    first = geo.n_heads * geo.head_dim
    k = whole[first : first + geo.n_kv_heads * geo.head_dim].double()
    assert error.numpy() == pytest.approx((((k / step).round() * step - k) ** 2).sum(1).numpy(), rel=1e-3)


@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3"])
def test_latent_attention_says_why_it_has_none(build, name):
    loaded = build(name)
    assert f"{CASES[name].family} makes K from a latent" in unavailable(loaded)
    assert matrices_of(loaded, None, None) == {}
    assert unavailable(build("qwen2")) == ""
    assert torch.is_tensor(matrices_of(build("qwen2"), None, None)["W_K"].rows)


def test_layers_without_rope_have_no_bands(build):
    loaded = build("smollm3")
    still = loaded.geometry.without_rope
    assert still
    found = diagnose.run(loaded, Setting(RopeSpec(), INT4, diagnosis=SMALL), TEXT).outliers
    for layer in range(loaded.geometry.n_layers):
        for table in (found.count["k/post"], found.entry_share, found.error_share["int4"], found.matrices["W_K"].count):
            assert (table[layer] == [None, None]) == (layer in still)


def test_a_whole_diagnosis_says_why_latent_attention_has_no_rows(build):
    found = diagnose.run(build("deepseek_v2"), Setting(RopeSpec(), QuantSpec(), diagnosis=SMALL), TEXT).outliers
    assert found.matrices == found.matrix_maps == {}
    assert "latent" in found.no_matrices
