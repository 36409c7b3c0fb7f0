"""The gate, on every family: what a file holds is the model, tensor by tensor, or one line says what is not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from qroar_core.errors import QRoarError
from qroar_core.models.config_check import check_raw
from qroar_core.models.config_keys import check_keys
from qroar_core.models.families import BY_ARCHITECTURE, family_of
from qroar_core.models.fill_weights import filled, refuse_non_finite
from qroar_core.models.formats.folder_tensors import headers
from qroar_core.models.formats.stored import StoredTensor
from qroar_core.models.load import run as load_model
from tests.helpers.largest_tensor import LargestTensor
from tests.models.families_table import CASES, config_of, model_of

ALL = pytest.mark.parametrize("name", CASES)


def stored_of(tensors):
    return {name: StoredTensor(tuple(t.shape), lambda t=t: t) for name, t in tensors.items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`saved(name)` -> (config, its tensors as save_pretrained writes them, the model)."""
    kept = {}

    def one(name):
        if name not in kept:
            folder = tmp_path_factory.mktemp("saved")
            model = model_of(CASES[name], dtype=torch.float32)
            model.save_pretrained(folder)
            kept.clear()
            kept[name] = (model.config, load_file(folder / "model.safetensors"), model)
        return kept[name]

    return one


def fill(config, tensors):
    return filled(config, stored_of(tensors), torch.float32, family_of(config.architectures, "here"), "here")


@ALL
def test_a_saved_family_is_filled_to_the_last_bit(saved, name):
    config, tensors, model = saved(name)
    own, again = model.state_dict(), fill(config, tensors).state_dict()
    assert own.keys() == again.keys()
    for key, value in own.items():
        assert torch.equal(again[key], value), key


@ALL
@pytest.mark.slow
def test_a_tensor_removed_renamed_reshaped_or_added_is_refused(saved, name):
    """Every tensor of every family is removed, and changed in one of the other ways, which take turns."""
    config, tensors, _ = saved(name)
    seen = set()
    for key, value in tensors.items():
        kind = "".join(c for c in key if not c.isdigit())
        if kind in seen:  # of the layers and experts one of each will do
            continue
        seen.add(kind)
        others = {k: v for k, v in tensors.items() if k != key}
        grown = torch.cat([value, value[:1]]) if value.ndim else value[None]
        changed = {
            "renamed": others | {key.replace("weight", "wieght") + ".": value},
            "reshaped": others | {key: grown},
            "added": tensors | {f"{key}_scale": torch.full((1,), 2.0)},
            "another layer": tensors | {"model.layers.77.self_attn.q_proj.weight": value},
        }
        turn = list(changed)[len(seen) % len(changed)]
        for what, table in {"removed": others, turn: changed[turn]}.items():
            with pytest.raises(QRoarError) as error:
                fill(config, table)
            assert "\n" not in str(error.value), what


def test_tensors_known_to_be_harmless_change_nothing(saved):
    config, tensors, model = saved("llama, 1 KV head")
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(5), "mtp.fc.weight": torch.ones(3, 3)}
    again = fill(config, tensors | more).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


def test_layers_that_guess_several_tokens_may_follow_the_last(saved):
    config, tensors, model = saved("deepseek_v3")
    layer = f"model.layers.{config.num_hidden_layers}"
    more = tensors | {f"{layer}.eh_proj.weight": torch.ones(3, 3), f"{layer}.enorm.weight": torch.ones(3)}
    config.num_nextn_predict_layers = 1
    again = fill(config, more).state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())
    config.num_nextn_predict_layers = 0
    with pytest.raises(QRoarError, match=f"2 weights have no place .*, first {layer}.eh_proj"):
        fill(config, more)


def test_a_tied_head_may_lie_in_the_file_only_as_the_embedding_again(saved):
    config, tensors, _ = saved("llama, 1 KV head")
    tied = type(config).from_dict(config.to_dict() | {"tie_word_embeddings": True})
    embedding = tensors["model.embed_tokens.weight"]
    alone = {k: v for k, v in tensors.items() if k != "lm_head.weight"}
    for table in (alone, alone | {"lm_head.weight": embedding.clone()}):
        model = fill(tied, table)
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert torch.equal(model.lm_head.weight, embedding)
    with pytest.raises(QRoarError, match="an output head of its own with other values; set tie_word_embeddings"):
        fill(tied, tensors)


def test_two_tensors_for_one_weight_are_refused(saved):
    """transformers reads `layers.0` as `model.layers.0` where that prefix is missing, and keeps one of the two."""
    config, tensors, _ = saved("llama, 1 KV head")
    double = tensors | {"layers.0.mlp.up_proj.weight": tensors["model.layers.0.mlp.up_proj.weight"] + 1}
    with pytest.raises(QRoarError):
        fill(config, double)


def test_sizes_past_the_file_are_refused_before_anything_is_built(saved):
    config, tensors, _ = saved("llama, 1 KV head")
    for key, message in (
        ("num_hidden_layers", "says 1000000000 layers, the weights hold 2"),
        ("vocab_size", "a model of 60000012150 values, the weights hold 27510"),
    ):
        with pytest.raises(QRoarError, match=message):
            fill(type(config).from_dict(config.to_dict() | {key: 10**9}), tensors)


@ALL
def test_a_familys_own_config_passes_the_check(name):
    config = config_of(CASES[name])
    config.architectures = [CASES[name].stem + "ForCausalLM"]
    raw = json.loads(config.to_json_string())
    check_raw(raw, "config.json")
    check_keys(raw, config, "config.json")


WRONG = {
    'rope_parameters.factor is "4.0", a number of at least 1': {
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": "4.0"}
    },
    "rope_parameters.factor is missing, linear needs it": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": None}
    },
    "rope_parameters.rope_theta is null, a number above 1": {
        "rope_parameters": {"rope_type": "default", "rope_theta": None}
    },
    "rope_parameters.rope_theta is 0": {"rope_parameters": {"rope_type": "default", "rope_theta": 0}},
    r"rope_parameters.rope_theta is \[10000.0\]": {"rope_parameters": {"rope_theta": [1e4]}},
    "rope_parameters.rope_theta is Infinity": {"rope_parameters": {"rope_theta": float("inf")}},
    "rope_theta is -10000.0": {"rope_theta": -1e4},
    "rope_theta is null": {"rope_theta": None},
    'rope_scaling is "linear", a table belongs': {"rope_scaling": "linear"},
    r"rope_parameters.long_factor is \[1.0, 0.0\]": {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0],
            "long_factor": [1.0, 0.0],
        }
    },
    "rope_parameters.attn_factor is not known": {"rope_parameters": {"rope_theta": 1e4, "attn_factor": 1.2}},
    "rope_parameters.full_attention.factor is missing": {
        "rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}
    },
    "num_attention_heads is 0, a whole number above 0": {"num_attention_heads": 0},
    "num_attention_heads is true": {"num_attention_heads": True},
    "hidden_size is 48.5": {"hidden_size": 48.5},
    "config.json has no vocab_size": {"vocab_size": None},
    "max_position_embeddings is -1": {"max_position_embeddings": -1},
    "pad_token_id is 999, below the embedding's 256 rows": {"pad_token_id": 999},
    "rms_norm_eps is 0, a number above 0, below 0.1": {"rms_norm_eps": 0},
    'rms_norm_eps is "1e-5"': {"rms_norm_eps": "1e-5"},
    "partial_rotary_factor is 1.5": {"partial_rotary_factor": 1.5},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_number_of_a_wrong_kind_is_named(message):
    raw = json.loads(config_of(CASES["llama, 1 KV head"]).to_json_string())
    with pytest.raises(QRoarError, match=message) as error:
        check_raw(raw | WRONG[message], "config.json")
    assert str(error.value).endswith(("check config.json", "fetch it again; no size is made up"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", 30.0),
        ("final_logit_softcapping", 20.0),
        ("logit_scale", 0.3),
        ("clip_qkv", 8.0),
        ("embedding_multiplier", 12.0),
        ("residual_multiplier", 0.2),
        ("attention_multiplier", 0.01),
        ("sliding_window", 512),
        ("use_bidirectional_attention", True),
        ("is_causal", False),
        ("use_qk_norm", True),
        ("num_experts", 8),
        ("alibi", True),
        ("layer_norm_eps_scale_multiplier", 2.0),
        ("no_rope_layers", [1, 0]),
        ("attention_chunk_size", 128),
        ("dual_chunk_attention_config", {"chunk_size": 8}),
        ("norm_eps", 3e-4),
        ("scoring_func", "softmax"),
        ("theta", 5e5),
        ("scale_emb", 12),
        ("rope_interleaved", True),
        ("attn_temperature_tuning", True),
    ],
)
def test_a_key_that_llama_does_not_compute_is_refused_unless_neutral(key, value):
    raw = json.loads(config_of(CASES["llama, 1 KV head"]).to_json_string())

    def check(**more):
        check_keys(raw | more, LlamaConfig.from_dict(raw | more), "config.json")

    with pytest.raises(QRoarError, match=f"^config.json: {key} is .*, which a llama model does not compute; check"):
        check(**{key: value})
    check(**{key: None})
    check(theta=1e4, norm_eps=raw["rms_norm_eps"], rotary_scaling_factor=1.0, sliding_window=None, num_experts=0)
    check(_name_or_path="x", transformers_version="4", unsloth_fixed=True, rope_theta=1e4)


PEOPLE_HAVE = {  # what checkpoints on the hub say beside a family's own keys: all of it changes nothing
    "llama, 1 KV head": {
        "is_llama_config": True,
        "rope_interleaved": False,
        "rope_scaling": None,
        "bias": False,
        "transformers.js_config": {"kv_cache_dtype": {}},
        "max_sequence_length": 9,
    },
    "starcoder2": {
        "activation_function": "gelu_pytorch_tanh",
        "attention_softmax_in_fp32": True,
        "norm_type": "layer_norm",
        "mlp_type": "default",
        "scale_attention_softmax_in_fp32": True,
        "scale_attn_weights": True,
    },
    "stablelm": {"rotary_scaling_factor": 1.0, "rope_pct": 0.25, "norm_eps": 1e-5, "tie_word_embeddings": False},
    "cohere2": {
        "position_embedding_type": "rope_gptj",
        "order_of_interleaved_layers": "local_attn_first",
        "rotary_pct": 1.0,
        "layer_switch": 2,  # as its layer_types here, one full layer in two
        "cache_implementation": "hybrid",
    },
    "gpt_oss": {"experts_per_token": 2, "initial_context_length": 4096, "swiglu_limit": 7.0},
    "deepseek_v2": {"moe_layer_freq": 1, "scoring_func": "softmax", "seq_aux": True, "aux_loss_alpha": 0.001},
    "deepseek_v3": {"moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "ep_size": 1},
    "lfm2": {"block_norm_eps": 1e-5, "theta": 1e4, "use_pos_enc": True, "block_use_swiglu": True},
    "bamba": {"attn_rotary_emb": 8},
    "gemma3": {"sliding_window_pattern": 2, "attn_logit_softcapping": None},
    "phi3": {"interpolate_factor": 1, "lm_head_bias": False, "full_attn_mod": 1, "auto_map": {}},
    "qwen2": {"use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 70},
}


@pytest.mark.parametrize("name", PEOPLE_HAVE)
def test_keys_that_real_checkpoints_carry_are_no_reason_to_refuse(name):
    own = config_of(CASES[name])
    raw = json.loads(own.to_json_string()) | PEOPLE_HAVE[name]
    raw.pop("time_step_limit", None)  # infinity, which only transformers' own reader decodes
    check_raw(raw, "config.json")
    check_keys(raw, type(own).from_dict(raw), "config.json")


def test_an_architecture_of_another_model_type_is_refused(saved, tmp_path):
    _, _, model = saved("llama, 1 KV head")
    assert BY_ARCHITECTURE[type(model).__name__].name == "llama"
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["MistralForCausalLM"]}))
    with pytest.raises(QRoarError, match=r"MistralForCausalLM, its model_type llama makes a LlamaForCausalLM"):
        load_model(str(tmp_path), device="cpu")


ODD = (None, 0, -1, "x", [], {}, 1e9, 10**12, True, 3, 0.5, float("nan"), [0])
TURNS = 4  # a key is given one in so many of them, its neighbour the next ones


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama, 1 KV head", "falcon", "deepseek_v2", "lfm2_moe"])
def test_whatever_stands_at_a_key_ends_in_one_line_or_in_a_model_that_runs(saved, name, tmp_path, byte_tokenizer):
    _, _, model = saved(name)
    model.save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    refused = []
    for at, key in enumerate(raw):
        for value in ODD[at % TURNS :: TURNS]:
            path.write_text(json.dumps(raw | {key: value}))
            try:
                load_model(str(tmp_path), device="cpu")
            except QRoarError as error:
                refused.append(str(error))
    assert len(refused) > 100 / TURNS
    assert not [line for line in refused if "\n" in line]


def test_an_index_is_the_law(saved, tmp_path):
    _, tensors, model = saved("llama, 1 KV head")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert headers(tmp_path).keys() == tensors.keys()
    (tmp_path / "consolidated.safetensors").write_bytes(b"another copy, never read")
    assert headers(tmp_path).keys() == tensors.keys()
    index = tmp_path / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    first = min(said["weight_map"])
    for change, message in (
        ({first: "model-00099.safetensors"}, "names model-00099.safetensors, which is not there"),
        ({first: "../model.safetensors"}, r"names ../model.safetensors, which is not there"),
        ({"model.extra": said["weight_map"][first]}, "puts model.extra in .*, it lies in none"),
        ({first: 3}, "cannot be read"),
    ):
        index.write_text(json.dumps(said | {"weight_map": said["weight_map"] | change}))
        with pytest.raises(QRoarError, match=message):
            headers(tmp_path)
    index.unlink()
    with pytest.raises(QRoarError, match=r"safetensors files .* and no model.safetensors.index.json"):
        headers(tmp_path)


def test_a_second_copy_beside_an_index_must_be_the_same_tensors(saved, tmp_path, byte_tokenizer):
    _, tensors, model = saved("llama, 1 KV head")
    byte_tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    sharded = load_model(str(tmp_path), device="cpu").checksum
    single, last = tmp_path / "model.safetensors", max(tensors)
    held = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(held, single)
    assert load_model(str(tmp_path), device="cpu").checksum == sharded
    other = held[last].clone()
    other.view(-1)[-1] += 1
    for changed, message in (
        (held | {last: other}, f"{last} has other values"),
        (held | {last: held[last].double()}, f"{last} is F64 .* or F32"),
        (held | {last: held[last][None]}, f"{last} is F32 .* or F32"),
        ({name: value for name, value in held.items() if name != last}, f"only the latter holds {last}"),
        (held | {"model.extra": other}, "only the former holds model.extra"),
    ):
        save_file(changed, single)
        with pytest.raises(QRoarError, match=message) as caught:
            load_model(str(tmp_path), device="cpu")
        assert "remove model.safetensors, which transformers reads, or model.safetensors.index.json" in str(
            caught.value
        )
    for shard in tmp_path.glob("model-*.safetensors"):
        shard.unlink()
    save_file(held, single)  # the index names the single file
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(held, single.name)}))
    assert load_model(str(tmp_path), device="cpu").checksum == sharded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_search_for_nan_copies_no_weight(dtype):
    model = torch.nn.Linear(300, 200).to(dtype)
    with LargestTensor(0) as made:
        refuse_non_finite(model, "m")
    assert made.largest <= 8, made.op
    for odd in (float("nan"), float("inf"), float("-inf")):
        before = model.weight.data[150, 299].clone()
        model.weight.data[150, 299] = odd
        with pytest.raises(QRoarError, match="weight holds NaN or infinity"):
            refuse_non_finite(model, "m")
        model.weight.data[150, 299] = before
