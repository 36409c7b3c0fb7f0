"""StarCoder2: separate projections with biases on q and k, which carry the scale too; optional sliding window."""

from qroar_core.models.families.base import Family

STARCODER2 = Family(
    "starcoder2",
    ("Starcoder2ForCausalLM",),
    sliding="all",
    key_bias="use_bias",
    source="transformers/models/starcoder2/modeling_starcoder2.py",
)
