"""The real SmolLM2 file against transformers' own dequantization of it, which shares no code with the reader."""

from __future__ import annotations

import pytest
import torch

from qroar_core.models.formats.gguf.opened import open_gguf


@pytest.mark.slow
@pytest.mark.smollm2
def test_every_value_of_smollm2_is_the_one_transformers_reads(smollm2):
    from transformers import AutoModelForCausalLM

    from qroar_core.models.smollm2 import gguf_path

    path = gguf_path()
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    opened = open_gguf(path)
    expected = theirs.state_dict()
    assert opened.tensors.keys() == expected.keys() - {"lm_head.weight"}
    for name, stored in opened.tensors.items():
        torch.testing.assert_close(stored.values().float(), expected[name], rtol=0, atol=0, msg=name)
    for key in ("rope_parameters", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings", "head_dim"):
        assert opened.config[key] == pytest.approx(getattr(theirs.config, key)), key
    tokens = torch.arange(40)[None] + 100
    with torch.inference_mode():
        torch.testing.assert_close(smollm2.model(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-5)
