"""Small models with the config.json of a well-known checkpoint, written to folders."""

from __future__ import annotations

import torch
import transformers

IDS = torch.arange(1, 151)[None] % 250


def random_model(config):
    """Random weights as large as trained ones, bfloat16."""
    with torch.random.fork_rng():  # what decays in a state is drawn by the model itself
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).float()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "A_log" not in name:
            matrix = weight.ndim > 1 and "norm" not in name
            noise = torch.randn(weight.shape, generator=generator)
            weight.data = noise * 1.2 * weight.shape[-1] ** -0.5 if matrix else weight.data + 0.2 * noise
    return model.to(torch.bfloat16)
