"""What transformers' own generate writes."""

import torch

from qroar_core.models.text import split
from qroar_core.specs import QuantizerSpec, QuantSpec

HELDOUT = split("heldout")
KIVI = QuantSpec(
    k=QuantizerSpec(2, scale="channel", levels="affine", group_size=8, residual=16),
    v=QuantizerSpec(2, scale="block", levels="affine", group_size=16, residual=16),
)


def generated(model, ids, tokens):
    """transformers' own greedy search, at most `tokens` of them."""
    with torch.inference_mode():
        out = model.generate(
            ids[None], attention_mask=torch.ones_like(ids)[None], do_sample=False, max_new_tokens=tokens, pad_token_id=0
        )
    return out[0, len(ids) :].tolist()


def transformers_demo(block):
    """The demo as transformers builds it from a config with this rope_parameters block."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from qroar_core.models.sources import DEMO

    config = AutoConfig.from_pretrained(DEMO)
    config.rope_parameters = {"rope_theta": 10_000.0} | block
    return AutoModelForCausalLM.from_pretrained(DEMO, config=config, dtype=torch.float32).eval()
