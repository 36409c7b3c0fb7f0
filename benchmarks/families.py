"""Every supported family on a small random model of its own config class: what scales leave alone and what they change.

Float64 on the CPU, a minute. "exact": symmetric scales move no logit, a scale on q alone does. "g squared": shared
scales multiply each band's part of q . k by g^2. "undone": quantized, scaled and put back, every byte is as it was. "in
chunks", for families some of whose layers carry a state: read in pieces, the logits are those of one pass.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch.overrides import TorchFunctionMode

from qroar_core.models.families import FAMILIES, Family
from qroar_core.models.load import as_loaded
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import replaced_parameters, scaled_parameters
from qroar_core.models.score import logits_of
from qroar_core.models.sources import Source
from qroar_core.models.stream import AttentionTap, Condition, open_stream
from qroar_core.specs import QuantizerSpec, QuantSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales

LENGTH, LAYERS, HEADS, HEAD_DIM = 48, 2, 6, 16
CHUNK = 13  # tokens a piece
BOUND = 1e-9
SLIDES = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 11}

LATENT = {
    "num_key_value_heads": HEADS,
    "q_lora_rank": 24,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}


def mixed(kind: str) -> dict[str, Any]:
    """A hybrid's layers: LAYERS of attention, each behind one of `kind`."""
    return {"num_hidden_layers": 2 * LAYERS, "layer_types": [kind, "full_attention"] * LAYERS}


DELTA = mixed("linear_attention") | {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 6,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 6, "mamba_n_groups": 1, "mamba_chunk_size": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
SHARED = EXPERTS | {"shared_expert_intermediate_size": 24}


def rope(**block: Any) -> dict[str, Any]:
    """A rope_parameters block."""
    return {"rope_type": "default", "rope_theta": 10_000.0} | block


OPTIONS: dict[str, dict[str, Any]] = {  # what a family's small config needs beyond the sizes
    "qwen3_moe": EXPERTS,
    "mixtral": {"num_local_experts": 4},
    "granite": {"attention_multiplier": 0.3, "logits_scaling": 3.0},
    "stablelm": {"rope_parameters": rope(partial_rotary_factor=0.25)},
    "phi3": {"rope_parameters": rope(partial_rotary_factor=0.75)},
    "gpt_neox": {"rope_parameters": rope(partial_rotary_factor=0.25)},
    "smollm3": {"no_rope_layers": [1, 0]},
    "cohere": {"use_qk_norm": True},
    "cohere2": SLIDES,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT | {"n_group": 2, "topk_group": 1},
    "glm4": {"rope_parameters": rope(partial_rotary_factor=0.5), "attention_bias": True},
    "gemma2": SLIDES,
    "gemma3": SLIDES | {"rope_parameters": {"sliding_attention": rope(rope_theta=100.0), "full_attention": rope()}},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 2},
    "gpt_oss": SLIDES
    | {
        "rope_parameters": rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=8),
        "num_local_experts": 4,
    },
    "qwen3_next": DELTA | SHARED | {"rope_parameters": rope(partial_rotary_factor=0.25)},
    "qwen3_5": DELTA | {"rope_parameters": rope(partial_rotary_factor=0.25)},
    "qwen3_5_moe": DELTA | SHARED | {"rope_parameters": rope(partial_rotary_factor=0.25)},
    "lfm2": mixed("conv"),
    "lfm2_moe": mixed("conv") | EXPERTS | {"num_dense_layers": 1},
    "bamba": MAMBA
    | {
        "num_hidden_layers": 2 * LAYERS,
        "attn_layer_indices": [1, 3],
        "rope_parameters": rope(partial_rotary_factor=0.5),
    },
    "falcon_h1": MAMBA | {"mamba_d_ssm": 32, "key_multiplier": 0.4, "lm_head_multiplier": 0.3},
    "granitemoehybrid": mixed("linear_attention")
    | MAMBA
    | {
        "position_embedding_type": "rope",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 24,
        "attention_multiplier": 0.3,
        "logits_scaling": 3.0,
    },
}


class Float64(TorchFunctionMode):
    """Keeps transformers' code in float64 where it would step down to float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
            if func in (torch.Tensor.to, torch.Tensor.type):
                args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        return func(*args, **kwargs)


class Logits:
    """q and k of every layer of a stream of one chunk."""

    def __init__(self) -> None:
        self.q: dict[int, torch.Tensor] = {}
        self.k: dict[int, torch.Tensor] = {}

    def on_attention(self, tap: AttentionTap) -> None:
        """Keep both."""
        self.q[tap.layer], self.k[tap.layer] = tap.q.clone(), tap.k.clone()

    def on_layer(self, layer: int, row: int, start: int, hidden: torch.Tensor) -> None:
        """Nothing to keep."""


def small(family: Family) -> LoadedModel:
    """A random model of the family, large enough in its weights for attention to be far from uniform."""
    stem = family.architectures[0].removesuffix("ForCausalLM")
    config_class = getattr(transformers, f"{stem}TextConfig", None) or getattr(transformers, f"{stem}Config")
    sizes = {
        "vocab_size": 64,
        "hidden_size": HEADS * HEAD_DIM,
        "intermediate_size": 40,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 64,
        "rope_parameters": rope(),
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if stem in ("GPTNeoX", "Falcon", "StableLm", "DeepseekV2", "DeepseekV3"):
        del sizes["head_dim"]
    if stem in ("GPTNeoX", "Falcon"):
        del sizes["num_key_value_heads"]
    if stem == "Falcon":
        del sizes["intermediate_size"]
    config = config_class(**(sizes | OPTIONS.get(family.name, {})))
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():  # what decays in a state is drawn by the model itself
        torch.manual_seed(0)
        model = getattr(transformers, family.architectures[0])(config).double()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        matrix = parameter.ndim >= 2 and "norm" not in name and not name.endswith("bias")
        parameter.data = (
            1.5 * parameter.shape[-1] ** -0.5 * noise if matrix else parameter.data.nan_to_num() + 0.2 * noise
        )
    model.set_attn_implementation(family.implementation)
    model.set_experts_implementation("eager")
    return as_loaded(model, None, family, Source(family.name, family.name, None), torch.device("cpu"))


def run(
    loaded: LoadedModel, ids: torch.Tensor, condition: Condition, chunk: int = LENGTH
) -> tuple[torch.Tensor, Logits]:
    """Vocabulary logits, and q and k."""
    seen = Logits()
    with open_stream(loaded, condition, LENGTH, chunk=chunk) as stream:
        hidden = torch.cat([piece.hidden for piece in stream.run(ids, (seen,))], 1)
    return logits_of(loaded, hidden), seen


def checked(loaded: LoadedModel) -> dict[str, bool]:
    """The three checks, and a fourth where layers carry a state."""
    geo = loaded.geometry
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, geo.vocab_size, (1, LENGTH), generator=generator)
    g = torch.exp2(torch.randn(geo.n_layers, geo.n_kv_heads, 2, generator=generator, dtype=torch.float64))
    if geo.finest != "kv_head":
        g = g[:, :1].expand_as(g).contiguous()
    bands = ((0, 0), (1, geo.n_pairs - 1))
    before = {name: p.detach().clone() for name, p in loaded.model.state_dict().items()}
    plain, seen = run(loaded, ids, Condition())
    symmetric, _ = run(loaded, ids, Condition(scales=Scales("symmetric", geo.finest, bands, g)))
    exact = float((symmetric - plain).abs().max()) < BOUND and one_sided(loaded, ids, g, bands, plain)
    cache = None if geo.latent_dim else QuantizerSpec(4)
    quant = QuantSpec(WeightQuantSpec(4, "tensor"), cache, cache, QuantizerSpec(8))
    noisy, _ = run(loaded, ids, Condition(quant=quant, scales=Scales("shared", geo.finest, bands, g)))
    after = loaded.model.state_dict()
    undone = bool((noisy - plain).abs().max() > BOUND) and all(torch.equal(after[n], x) for n, x in before.items())
    checks = {"exact": exact, "g squared": squared(loaded, ids, g, bands, seen), "undone": undone}
    if loaded.family.layer_state(loaded.model.config) is not None:
        pieces, _ = run(loaded, ids, Condition(), CHUNK)
        checks["in chunks"] = float((pieces - plain).abs().max()) < BOUND
    return checks


def one_sided(loaded: LoadedModel, ids: torch.Tensor, g: torch.Tensor, bands: Any, plain: torch.Tensor) -> bool:
    """Whether a scale on one side shows: g and 1/g, then g on both, leave g^2 on q and nothing on k."""
    double = scaled_parameters(loaded, Scales("symmetric", loaded.geometry.finest, bands, g))
    with replaced_parameters(loaded.model, double):
        moved, _ = run(loaded, ids, Condition(scales=Scales("shared", loaded.geometry.finest, bands, g)))
    return bool((moved - plain).abs().max() > BOUND)


def squared(loaded: LoadedModel, ids: torch.Tensor, g: torch.Tensor, bands: Any, before: Logits) -> bool:
    """One layer scaled at a time: each band's part of its q . k grows by g^2, the rest stays."""
    geo = loaded.geometry
    band = geo.channel_band(bands)
    for layer in range(geo.n_layers):
        only = torch.ones_like(g)
        only[layer] = g[layer]
        _, after = run(loaded, ids, Condition(scales=Scales("shared", geo.finest, bands, only)))
        for b in (-1, 0, 1):
            part, scaled = (
                (x.q[layer] * (band == b)) @ (x.k[layer] * (band == b)).repeat_interleave(geo.queries_per_kv, 0).mT
                for x in (before, after)
            )
            turned = b >= 0 and layer not in geo.without_rope
            factor = g[layer, :, b].square().repeat_interleave(geo.queries_per_kv)[:, None, None] if turned else 1.0
            if float((scaled - factor * part).abs().max()) > BOUND:
                return False
    return True


def described(loaded: LoadedModel) -> list[str]:
    """A family's line of the table without its checks."""
    family, geo = loaded.family, loaded.geometry
    share = "all channels" if geo.rotary_dim == geo.head_dim else f"{geo.rotary_dim} of {geo.head_dim}"
    if geo.decoder_layers:
        share += ", some layers no attention"
    if geo.without_rope:
        share += ", some layers none"
    if len(set(geo.rope_kinds)) > 1:
        share += ", theta by layer"
    if len(set(geo.windows)) > 1:
        share += ", window by layer"
    norm = "none" if not geo.scaled_gain else "gain of all heads" if family.gain_shared else "gain of each head"
    return [family.name, geo.pairing, share, norm, geo.finest]


def row(family: Family) -> tuple[list[str], bool]:
    """One line of the table, and whether every check passed."""
    loaded = small(family)
    with Float64():
        checks = checked(loaded)
    passed = ", ".join(name if good else f"**{name} FAILED**" for name, good in checks.items())
    return [*described(loaded), passed], all(checks.values())


def main() -> None:
    """Print the table; SystemExit 1 when a check failed."""
    print("| family | pairing | rotary part | QK-norm before RoPE | finest exact granularity | checks passed |")
    print("|---|---|---|---|---|---|")
    passed = []
    for family in FAMILIES:
        cells, good = row(family)
        passed.append(good)
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{sum(passed)} of {len(passed)} families pass.")
    if not all(passed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
