"""The zoo's files are right: llama.cpp finds in them the log-probabilities of the transformers models they hold.

llama.cpp runs with float32 weights, a float32 cache and without its flash attention, which would round to float16:
what is left is the order of sums, and where a kind says so, a table of gelu.
"""

from __future__ import annotations

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

from tests.models.gguf_zoo import KINDS, placed, write
from tests.models.gguf_zoo.building import build, state
from tests.models.gguf_zoo.header import keys_of

pytestmark = pytest.mark.slow
COUNT = 40  # tokens, past every sliding window of the zoo
STRETCHED = [
    *[("llama", rope) for rope in ("linear", "linear, old", "linear, untyped", "yarn", "llama3")],
    *[(name, "yarn") for name in ("mistral", "mixtral", "qwen2", "qwen2moe", "qwen3", "qwen3moe")],
    *[(name, "yarn") for name in ("granite", "glm4", "olmo2", "smollm3")],
    *[(name, "linear") for name in ("gemma2", "gemma3", "starcoder2", "stablelm")],
    *[(name, "longrope") for name in ("phi3", "phi3, partial")],  # the first reads its short factors
]


@pytest.fixture
def tokens():
    return torch.randint(300, 2000, (COUNT,), generator=torch.Generator().manual_seed(1)).tolist()


def of_transformers(model, tokens):
    """ln p of every token but the first, float64."""
    with torch.inference_mode():
        found = model(torch.tensor([tokens])).logits[0, :-1].double().log_softmax(-1)
    return found.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


def of_llama_cpp(path, tokens, **settings):
    pytest.importorskip("xllamacpp")
    import xllamacpp

    from qroar_core.models.llama_cpp import LlamaCpp

    class Exact(LlamaCpp):
        def _prepare(self, params):
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type(0)  # float32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type(0)  # off
            for name, value in settings.items():
                setattr(params, name, value)

    return torch.tensor(Exact(path, 256).log_probabilities(tokens, 1)).double()


def largest(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.without])
def test_llama_cpp_gives_the_models_log_probabilities(name, tokens, tmp_path):
    model = write(name, tmp_path / "m.gguf", kind="F32")
    assert largest(of_llama_cpp(tmp_path / "m.gguf", tokens), of_transformers(model, tokens)) < KINDS[name].apart


@pytest.mark.parametrize(("name", "rope"), STRETCHED, ids=str)
def test_llama_cpp_stretches_positions_as_the_model_does(name, rope, tokens, tmp_path):
    model = write(name, tmp_path / "m.gguf", kind="F32", rope=rope)
    wanted = of_transformers(model, tokens)
    assert largest(of_llama_cpp(tmp_path / "m.gguf", tokens), wanted) < KINDS[name].apart
    if name != "phi3":  # its short factors are near one
        assert largest(of_transformers(build(KINDS[name]), tokens), wanted) > 20 * KINDS[name].apart


def test_yarn_bounds_mean_what_llama_cpps_options_mean(tokens, tmp_path):
    """They are in the file, but for Llama llama.cpp takes its own 32 and 1 unless told."""
    model = write("llama", tmp_path / "m.gguf", kind="F32", rope="yarn, betas")
    wanted = of_transformers(model, tokens)
    told = of_llama_cpp(tmp_path / "m.gguf", tokens, yarn_beta_fast=9.0, yarn_beta_slow=2.0)
    assert largest(told, wanted) < KINDS["llama"].apart
    assert largest(of_llama_cpp(tmp_path / "m.gguf", tokens), wanted) > 0.1


def test_yarns_attention_factor_is_left_unread_by_llama_cpp(tokens, tmp_path):
    """Nor can an option set it; without the key, it is the model with YaRN's usual factor."""
    model = write("llama", tmp_path / "m.gguf", kind="F32", rope="yarn, attention factor")
    found = of_llama_cpp(tmp_path / "m.gguf", tokens)
    assert largest(found, of_transformers(build(KINDS["llama"], "yarn"), tokens)) < KINDS["llama"].apart
    assert largest(found, of_transformers(model, tokens)) > 0.1
    field = gguf.GGUFReader(tmp_path / "m.gguf").fields["llama.rope.scaling.yarn_attn_factor"]
    assert field.contents() == pytest.approx(model.config.rope_parameters["attention_factor"])


@pytest.mark.parametrize("name", ["gemma2, 27B", "gemma3, 27B"])
def test_the_number_of_layers_alone_says_how_27b_scales_its_queries(name, tokens, tmp_path):
    write(name, tmp_path / "m.gguf", kind="F32")
    kind = KINDS[name]
    other = replace(kind, options=kind.options | {"query_pre_attn_scalar": kind.options["head_dim"]})
    assert largest(of_llama_cpp(tmp_path / "m.gguf", tokens), of_transformers(build(other), tokens)) > 1


def test_float16_weights_stay_within_their_rounding_of_activations(tokens, tmp_path):
    model = write("llama", tmp_path / "m.gguf", kind="F16")
    assert largest(of_llama_cpp(tmp_path / "m.gguf", tokens), of_transformers(model, tokens)) < 0.02


def test_shards_are_one_model(tokens, tmp_path):
    model = write("qwen2", tmp_path / "m.gguf", kind="F32", shard_tensors=9)
    shards = sorted(path.name for path in tmp_path.iterdir())
    assert shards == [f"m-{i:05}-of-00005.gguf" for i in range(1, 6)]
    first = of_llama_cpp(tmp_path / shards[0], tokens)
    assert largest(first, of_transformers(model, tokens)) < KINDS["qwen2"].apart


def test_a_file_does_not_say_whether_yarns_bounds_are_whole(tmp_path):
    """gpt-oss's are not, llama.cpp's always are: the proven file and the other are the same bytes."""
    for name in ("gpt-oss", "gpt-oss, whole bounds"):
        write(name, tmp_path / f"{name}.gguf", kind="F32")
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() == second.read_bytes()


def test_separate_experts_are_the_stacked_ones(tmp_path):
    """llama.cpp reads them no more; it reads the stacked file, and these are its slices."""
    one, other = (
        {t.name: t for t in gguf.GGUFReader(path).tensors}
        for path in (
            write_to("mixtral", tmp_path / "a.gguf"),
            write_to("mixtral, separate experts", tmp_path / "b.gguf"),
        )
    )
    for layer in range(3):
        for part in ("gate", "up", "down"):
            whole = one.pop(f"blk.{layer}.ffn_{part}_exps.weight").data
            apart = [other.pop(f"blk.{layer}.ffn_{part}.{i}.weight").data for i in range(4)]
            assert np.array_equal(whole, np.stack(apart))
    assert {name: t.data.tobytes() for name, t in one.items()} == {n: t.data.tobytes() for n, t in other.items()}


def write_to(name, path, **options):
    write(name, path, **options)
    return path


@pytest.mark.parametrize("name", [name for name in KINDS if "27B" not in name])  # those have nothing of their own
def test_every_tensor_of_a_kind_is_felt(name, tokens):
    """A third of noise on any one tensor moves a log-probability by far more than the check allows."""
    model, kind = build(KINDS[name]), KINDS[name]
    wanted = of_transformers(model, tokens)
    last = model.config.num_hidden_layers - 1
    tensors = state(model)
    some = last > 8  # the deep ones: first and last layers stand for all
    prefixes = tuple(f"{kind.layers}.{layer}." for layer in (0, last))
    for at, (source, tensor) in enumerate(tensors.items()):
        if some and source.startswith(kind.layers) and not source.startswith(prefixes):
            continue
        before = tensor.detach().clone()
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(at))
        tensor.data += noise * (before.square().mean().sqrt() * 0.3)
        moved = largest(of_transformers(model, tokens), wanted)
        tensor.data.copy_(before)
        if not source.endswith("k_proj.bias"):  # softmax hardly sees what it adds to every score of a query
            assert moved > 2 * kind.apart, source


@pytest.mark.parametrize("how", ["F16", "BF16", "Q8_0", "Q5_1", "Q4_0"])
@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3", "falcon", "gptneox", "gpt-oss", "deepseek2", "lfm2"])
def test_a_model_holds_exactly_what_its_file_holds(name, how, tmp_path):
    model = write(name, tmp_path / "m.gguf", kind=how)
    agrees(tmp_path / "m.gguf", KINDS[name], model, how)


def test_experts_in_mxfp4_are_exact_too(tmp_path):
    model = write("gpt-oss", tmp_path / "m.gguf", kind="MXFP4")
    agrees(tmp_path / "m.gguf", KINDS["gpt-oss"], model, "MXFP4")


def agrees(path, kind, model, how):
    wanted = {target: values for _, target, values in placed(kind, model)}
    reader = gguf.GGUFReader(path)
    assert {t.name for t in reader.tensors} == set(wanted)
    assert how in {t.tensor_type.name for t in reader.tensors}
    for tensor in reader.tensors:
        found = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(wanted[tensor.name].shape)
        assert np.array_equal(found, wanted[tensor.name].numpy()), tensor.name


def test_keys_are_stored_with_the_types_that_llama_cpp_asks_for(tmp_path):
    model = write("lfm2", tmp_path / "m.gguf")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    for key, value in keys_of(KINDS["lfm2"], model.config, None).items():
        field = fields[f"lfm2.{key}"]
        kinds = {int: "UINT32", float: "FLOAT32", bool: "BOOL", str: "STRING", list: "ARRAY"}
        assert field.types[0].name == kinds[type(value)]
        assert field.contents() == (pytest.approx(value) if isinstance(value, float) else value)
