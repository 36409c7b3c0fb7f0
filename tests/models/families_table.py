"""Small random models of every family, built from transformers' own config classes with awkward sizes.

One table feeds all family tests. `WIDE` keeps transformers' code in float64 where it would step down to
float32 (norms, Cohere's rotation, softmax, routers), so that equalities hold to 1e-9; nothing else of a
model is touched. Attention of the oracle is written out here and shares nothing with the core.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import transformers
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

VOCAB = 256
CONTEXT = 64  # native window of the small models, tokens
LENGTH = 80  # past it, and past every sliding window below
DEFAULT = {"rope_type": "default", "rope_theta": 10_000.0}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0 + 0.05 * i for i in range(3)],
    "long_factor": [1.0 + 0.7 * i for i in range(3)],
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "beta_fast": 4.0, "truncate": False}


@dataclass(frozen=True)
class Case:
    """One small model: its family, class stem, sizes and what differs from the defaults."""

    family: str
    stem: str  # of <stem>Config and <stem>ForCausalLM
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    finest: str = "kv_head"
    pairing: str = "half"
    layers: int = 2
    options: dict = field(default_factory=dict)
    named: str = ""  # config class, where it is not <stem>Config
    unrotated: tuple = ()  # layers without RoPE
    arrives: tuple = ()  # where each channel stands in transformers' q and k, rotated ones first; (): as counted here
    latent: bool = False  # its cache holds no K and V of heads
    decoder: tuple = ()  # where the layers with attention stand among all; (): there are no others
    stateful: bool = False  # some layers carry a state from token to token

    @property
    def group(self):
        return self.heads // self.kv_heads


SLIDES = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 11}
GEMMA3_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0},
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MLA = {
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 5,
    "qk_rope_head_dim": 6,
    "v_head_dim": 7,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 1,
}
DELTA = {
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 5,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_conv_kernel_dim": 3,
}
IMAGES = {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1], "mrope_interleaved": True}
MAMBA = {"mamba_n_heads": 2, "mamba_d_state": 5, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_chunk_size": 16}


def mixed(kind, attends, total):
    """Options of a decoder of `total` layers, of which `attends` have attention and the others are of `kind`."""
    kinds = ["full_attention" if i in attends else kind for i in range(total)]
    return {"num_hidden_layers": total, "layer_types": kinds}


LAST = (*range(5, 11), *range(5))  # five plain channels come before the six that turn
CASES = {
    "llama, 1 KV head": Case("llama", "Llama", 3, 1, 10, 10),
    "mistral, window": Case("mistral", "Mistral", 6, 2, 8, 8, options={"sliding_window": 13}),
    "qwen2": Case("qwen2", "Qwen2", 5, 5, 6, 6),
    "qwen3": Case("qwen3", "Qwen3", 6, 3, 12, 12, "layer"),
    "qwen3, bias, 1 KV head": Case("qwen3", "Qwen3", 5, 1, 8, 8, options={"attention_bias": True}),
    "qwen3, window": Case(
        "qwen3",
        "Qwen3",
        4,
        2,
        8,
        8,
        "layer",
        options={"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "mixtral": Case("mixtral", "Mixtral", 6, 2, 10, 10, options={"num_local_experts": 4, "sliding_window": None}),
    "mixtral, window": Case("mixtral", "Mixtral", 3, 3, 6, 6, options={"num_local_experts": 3, "sliding_window": 7}),
    "qwen2_moe": Case(
        "qwen2_moe",
        "Qwen2Moe",
        6,
        2,
        8,
        8,
        options=MOE | {"shared_expert_intermediate_size": 20},
    ),
    "qwen3_moe": Case("qwen3_moe", "Qwen3Moe", 6, 2, 8, 8, "layer", options=MOE),
    "granite": Case(
        "granite",
        "Granite",
        6,
        3,
        8,
        8,
        options={
            "attention_multiplier": 0.3,
            "logits_scaling": 3.0,
            "residual_multiplier": 0.7,
            "embedding_multiplier": 2.0,
            "attention_bias": True,
        },
    ),
    "starcoder2": Case("starcoder2", "Starcoder2", 6, 2, 8, 8, options={"sliding_window": None}),
    "starcoder2, window": Case("starcoder2", "Starcoder2", 5, 1, 8, 8, options={"sliding_window": 10}),
    "stablelm": Case(
        "stablelm",
        "StableLm",
        6,
        3,
        16,
        4,
        options={"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.25}, "use_qkv_bias": True},
    ),
    "stablelm, parallel": Case(
        "stablelm",
        "StableLm",
        3,
        3,
        8,
        6,
        options={"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.75}, "use_parallel_residual": True},
    ),
    "phi3": Case("phi3", "Phi3", 6, 2, 8, 8, options={"sliding_window": None}),
    "phi3, longrope, partial": Case(
        "phi3",
        "Phi3",
        5,
        1,
        8,
        6,
        options={
            "rope_parameters": DEFAULT | LONGROPE | {"partial_rotary_factor": 0.75},
            "sliding_window": 12,
            "original_max_position_embeddings": 32,
        },
    ),
    "gpt_neox": Case(
        "gpt_neox", "GPTNeoX", 5, 5, 16, 4, options={"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.25}}
    ),
    "gpt_neox, all turns, serial": Case(
        "gpt_neox",
        "GPTNeoX",
        3,
        3,
        8,
        8,
        options={"rope_parameters": DEFAULT | {"partial_rotary_factor": 1.0}, "use_parallel_residual": False},
    ),
    "olmo2": Case("olmo2", "Olmo2", 6, 3, 8, 8),
    "olmo2, 1 KV head": Case("olmo2", "Olmo2", 5, 1, 6, 6, options={"attention_bias": True}),
    "smollm3": Case(
        "smollm3",
        "SmolLM3",
        6,
        2,
        8,
        8,
        layers=4,
        unrotated=(1, 3),
        options={"no_rope_layers": [1, 0, 1, 0], "use_sliding_window": False},
    ),
    "cohere": Case("cohere", "Cohere", 6, 3, 8, 8, pairing="interleaved", options={"logit_scale": 0.3}),
    "cohere, norms, bias": Case(
        "cohere",
        "Cohere",
        5,
        1,
        8,
        8,
        pairing="interleaved",
        options={"use_qk_norm": True, "attention_bias": True, "logit_scale": 0.5},
    ),
    "smollm3, window": Case(
        "smollm3",
        "SmolLM3",
        4,
        2,
        8,
        8,
        unrotated=(0,),
        options={"no_rope_layers": [0, 1], "use_sliding_window": True, "sliding_window": 9},
    ),
    "cohere2": Case(
        "cohere2",
        "Cohere2",
        6,
        3,
        8,
        8,
        pairing="interleaved",
        unrotated=(1,),
        options=SLIDES | {"logit_scale": 0.3, "attention_bias": True},
    ),
    "glm4": Case(
        "glm4",
        "Glm4",
        6,
        2,
        8,
        4,
        pairing="interleaved",
        options={"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.5}, "attention_bias": True},
    ),
    "gemma2": Case(
        "gemma2",
        "Gemma2",
        6,
        3,
        8,
        8,
        options=SLIDES | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0, "query_pre_attn_scalar": 5},
    ),
    "gemma2, no caps": Case(
        "gemma2",
        "Gemma2",
        3,
        1,
        8,
        8,
        options=SLIDES | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "query_pre_attn_scalar": 8},
    ),
    "gemma3": Case(
        "gemma3",
        "Gemma3",
        6,
        2,
        8,
        8,
        "layer",
        named="Gemma3TextConfig",
        options=SLIDES | {"rope_parameters": GEMMA3_ROPE, "query_pre_attn_scalar": 6},
    ),
    "gemma3, 1 KV head": Case(
        "gemma3",
        "Gemma3",
        5,
        1,
        8,
        8,
        named="Gemma3TextConfig",
        options=SLIDES | {"rope_parameters": GEMMA3_ROPE, "final_logit_softcapping": 4.0, "query_pre_attn_scalar": 8},
    ),
    "falcon": Case(
        "falcon",
        "Falcon",
        6,
        2,
        8,
        8,
        options={"new_decoder_architecture": True, "num_kv_heads": 2, "bias": False, "num_ln_in_parallel_attn": 2},
    ),
    "falcon, multi-query": Case(
        "falcon",
        "Falcon",
        5,
        1,
        8,
        8,
        options={"new_decoder_architecture": False, "multi_query": True, "parallel_attn": True, "bias": True},
    ),
    "falcon, every head its own": Case(
        "falcon",
        "Falcon",
        3,
        3,
        8,
        8,
        options={"new_decoder_architecture": False, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "gpt_oss": Case(
        "gpt_oss",
        "GptOss",
        6,
        3,
        8,
        8,
        options=SLIDES
        | {"rope_parameters": DEFAULT | YARN, "num_local_experts": 4, "num_experts_per_tok": 2, "attention_bias": True},
    ),
    "deepseek_v2": Case(
        "deepseek_v2",
        "DeepseekV2",
        6,
        6,
        10,
        6,
        "layer",
        pairing="interleaved",
        latent=True,
        arrives=(*range(4, 10), *range(4)),
        options=MLA | {"qk_nope_head_dim": 4, "first_k_dense_replace": 1, "topk_method": "greedy"},
    ),
    "deepseek_v2, q in one, bias, 1 head": Case(
        "deepseek_v2",
        "DeepseekV2",
        1,
        1,
        10,
        6,
        pairing="interleaved",
        latent=True,
        arrives=(*range(4, 10), *range(4)),
        options=MLA | {"qk_nope_head_dim": 4, "first_k_dense_replace": 2, "q_lora_rank": None, "attention_bias": True},
    ),
    "deepseek_v3": Case(
        "deepseek_v3",
        "DeepseekV3",
        5,
        5,
        11,
        6,
        "layer",
        pairing="interleaved",
        latent=True,
        arrives=(5, 8, 6, 9, 7, 10, *range(5)),
        options=MLA | {"hidden_size": 60, "first_k_dense_replace": 1, "attention_bias": True},
    ),
    "deepseek_v3, yarn, in halves": Case(
        "deepseek_v3",
        "DeepseekV3",
        4,
        4,
        11,
        6,
        "layer",
        latent=True,
        arrives=LAST,
        options=MLA
        | {
            "first_k_dense_replace": 1,
            "q_lora_rank": None,
            "rope_interleave": False,
            "rope_parameters": DEFAULT | YARN | {"mscale": 0.7, "mscale_all_dim": 1.3},
        },
    ),
}
CASES |= {  # hybrids: `layers` counts those with attention
    "qwen3_next": Case(
        "qwen3_next",
        "Qwen3Next",
        6,
        3,
        12,
        6,
        "layer",
        decoder=(1, 4),
        stateful=True,
        options=mixed("linear_attention", (1, 4), 5)
        | MOE
        | DELTA
        | {"shared_expert_intermediate_size": 20, "rope_parameters": DEFAULT | {"partial_rotary_factor": 0.5}},
    ),
    "qwen3_next, attention first, bias, 1 KV head": Case(
        "qwen3_next",
        "Qwen3Next",
        3,
        1,
        16,
        4,
        decoder=(0, 3),
        stateful=True,
        options=mixed("linear_attention", (0, 3), 4)
        | DELTA
        | {"num_experts": 0, "attention_bias": True, "rope_parameters": DEFAULT | {"partial_rotary_factor": 0.25}},
    ),
    "qwen3_5": Case(
        "qwen3_5",
        "Qwen3_5",
        4,
        2,
        12,
        6,
        "layer",
        decoder=(1, 3),
        stateful=True,
        named="Qwen3_5TextConfig",
        options=mixed("linear_attention", (1, 3), 4) | DELTA | {"rope_parameters": DEFAULT | IMAGES},
    ),
    "qwen3_5_moe": Case(
        "qwen3_5_moe",
        "Qwen3_5Moe",
        4,
        2,
        12,
        6,
        "layer",
        decoder=(1, 2),
        stateful=True,
        named="Qwen3_5MoeTextConfig",
        options=mixed("linear_attention", (1, 2), 3)
        | DELTA
        | MOE
        | {"shared_expert_intermediate_size": 20, "rope_parameters": DEFAULT | IMAGES},
    ),
    "lfm2": Case(
        "lfm2",
        "Lfm2",
        6,
        3,
        8,
        8,
        "layer",
        decoder=(1, 4),
        stateful=True,
        options=mixed("conv", (1, 4), 5) | {"block_multiple_of": 8, "conv_L_cache": 4, "conv_bias": True},
    ),
    "lfm2, attention first, 1 KV head": Case(
        "lfm2",
        "Lfm2",
        3,
        1,
        6,
        6,
        decoder=(0, 2),
        stateful=True,
        options=mixed("conv", (0, 2), 3) | {"block_multiple_of": 8},
    ),
    "lfm2_moe": Case(
        "lfm2_moe",
        "Lfm2Moe",
        6,
        2,
        8,
        8,
        "layer",
        decoder=(1, 3),
        stateful=True,
        options=mixed("conv", (1, 3), 4) | MOE | {"num_dense_layers": 1},
    ),
    "bamba": Case(
        "bamba",
        "Bamba",
        6,
        2,
        16,
        8,
        decoder=(1, 3),
        stateful=True,
        options=MAMBA
        | {
            "num_hidden_layers": 4,
            "attn_layer_indices": [1, 3],
            "attention_bias": True,
            "rope_parameters": DEFAULT | {"partial_rotary_factor": 0.5},
        },
    ),
    "falcon_h1": Case(
        "falcon_h1",
        "FalconH1",
        6,
        2,
        8,
        8,
        stateful=True,
        options=MAMBA
        | {
            "mamba_d_ssm": 12,
            "key_multiplier": 0.4,
            "lm_head_multiplier": 0.3,
            "attention_in_multiplier": 0.9,
            "attention_out_multiplier": 1.2,
            "embedding_multiplier": 2.0,
            "ssm_multipliers": [0.5, 1.5, 0.7, 1.1, 0.9],
            "projectors_bias": True,
        },
    ),
    "granitemoehybrid": Case(
        "granitemoehybrid",
        "GraniteMoeHybrid",
        5,
        1,
        8,
        8,
        decoder=(0, 2),
        stateful=True,
        options=mixed("linear_attention", (0, 2), 4)
        | MAMBA
        | {
            "position_embedding_type": "rope",
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 20,
            "attention_multiplier": 0.3,
            "logits_scaling": 3.0,
            "residual_multiplier": 0.7,
            "embedding_multiplier": 2.0,
        },
    ),
}
EAGER = {"gemma2", "gemma3", "gpt_oss"}


class WIDE(TorchFunctionMode):
    """Inside, a float64 tensor stays float64 where code asks for float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, torch.Tensor) and x.dtype == torch.float64:
            if func is torch.Tensor.float:
                return x
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
            if func in (torch.Tensor.to, torch.Tensor.type):
                args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        return func(*args, **kwargs)


def config_of(case, **changes):
    """The case's config; `changes` go over its options."""
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": case.heads * case.head_dim,
        "intermediate_size": 40,
        "num_hidden_layers": case.layers,
        "num_attention_heads": case.heads,
        "num_key_value_heads": case.kv_heads,
        "head_dim": case.head_dim,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": DEFAULT,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "attention_dropout": 0.0,
    }
    without_head_dim = {"StableLm", "GPTNeoX", "Falcon", "DeepseekV2", "DeepseekV3"}
    if case.stem in without_head_dim:
        del sizes["head_dim"]
    if case.stem in ("GPTNeoX", "Falcon"):
        del sizes["num_key_value_heads"]
    if case.stem == "Falcon":
        del sizes["intermediate_size"]
    options = {k: (dict(v) if isinstance(v, dict) else v) for k, v in (sizes | case.options | changes).items()}
    return getattr(transformers, case.named or f"{case.stem}Config")(**options)


def model_of(case, seed=0, dtype=torch.float64, **changes):
    """A random model of the case whose attention is far from uniform."""
    with torch.random.fork_rng():  # what decays in a state is drawn by the model itself
        torch.manual_seed(seed)
        model = getattr(transformers, f"{case.stem}ForCausalLM")(config_of(case, **changes)).to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name.endswith("sinks"):
            parameter.data.copy_(noise)
        elif name.endswith("bias"):
            parameter.data.copy_(0.5 * noise)
        elif parameter.ndim >= 2 and "norm" not in name:
            parameter.data.copy_(1.5 * parameter.shape[-1] ** -0.5 * noise)
        else:  # a norm's gain, around 1 or, stored as 1 + w, around 0
            parameter.data.add_(0.2 * noise)
    model.to(dtype).eval()
    for module in model.modules():  # frequencies are float32 in every loaded model
        for name, buffer in module.named_buffers(recurse=False):
            if "inv_freq" in name:
                setattr(module, name, buffer.float())
            if name == "embed_scale":  # made in the model's own dtype when loaded
                setattr(module, name, torch.tensor(module.scalar_embed_scale, dtype=dtype))
    model.set_experts_implementation("eager")  # the grouped kernel knows no float64
    model.config.architectures = [type(model).__name__]
    model.set_attn_implementation("eager" if case.family in EAGER else "sdpa")
    return model


def loaded_of(case, tokenizer, folder, model=None, **options):
    """The case as a LoadedModel."""
    from qroar_core.models.families import family_of
    from qroar_core.models.load import as_loaded
    from qroar_core.models.sources import Source

    model = model if model is not None else model_of(case, **options)
    found = Source(f"tiny-{case.family}", f"tiny-{case.family}", folder)
    return as_loaded(model, tokenizer, family_of(model.config.architectures, found.label), found, torch.device("cpu"))


def plain_logits(model, tokens):
    """transformers' own eager forward, (B, T, vocabulary)."""
    before = model.config._attn_implementation_internal
    model.config._attn_implementation_internal = "eager"
    try:
        with torch.no_grad():
            return model(tokens, use_cache=False).logits
    finally:
        model.config._attn_implementation_internal = before


RECORD = {}
SEEN = {}  # layer in RECORD -> which keys a query sees by transformers' own mask, (T, T), and the softmax's scaling


def _recording(module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, **kwargs):
    """Attention from its definition under transformers' own mask, remembering what came in."""
    SEEN[len(RECORD)] = attention_mask[0, 0] == 0, query.shape[-1] ** -0.5 if scaling is None else scaling
    RECORD[len(RECORD)] = query[0], key[0]
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    weight = torch.exp(logits + attention_mask.to(logits))
    total = weight.sum(-1, keepdim=True)
    if s_aux is not None:
        total = total + s_aux.exp()[None, :, None, None]
    return torch.einsum("bhqk,bhkd->bqhd", weight / total, value), None


AttentionInterface.register("family_recorder", _recording)
AttentionMaskInterface.register("family_recorder", eager_mask)


@contextmanager
def recorded(model):
    """Run `model` once inside and find {layer with attention: (q, k)} after RoPE in RECORD, as its interface sees."""
    RECORD.clear()
    SEEN.clear()
    falcon = transformers.models.falcon.modeling_falcon
    before, rotate = model.config._attn_implementation_internal, falcon.apply_rotary_pos_emb

    def rotate_and_record(q, k, cos, sin, unsqueeze_dim=1):  # Falcon asks no interface; its K is repeated already
        q, k = rotate(q, k, cos, sin, unsqueeze_dim)
        kv_heads = model.config.num_kv_heads if model.config.new_decoder_architecture else k.shape[1]
        SEEN[len(RECORD)] = torch.ones(q.shape[2], q.shape[2]).tril().bool(), q.shape[-1] ** -0.5
        RECORD[len(RECORD)] = q[0], k[0, :: k.shape[1] // kv_heads]
        return q, k

    falcon.apply_rotary_pos_emb = rotate_and_record
    is_falcon = type(model).__name__ == "FalconForCausalLM"
    model.config._attn_implementation_internal = "eager" if is_falcon else "family_recorder"
    try:
        yield RECORD
    finally:
        model.config._attn_implementation_internal = before
        falcon.apply_rotary_pos_emb = rotate
