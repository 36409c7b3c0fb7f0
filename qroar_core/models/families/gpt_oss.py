"""gpt-oss: attention sinks, sliding windows in every second layer, YaRN in the checkpoint itself, biases."""

from qroar_core.models.families.base import Family

GPT_OSS = Family(
    "gpt_oss",
    ("GptOssForCausalLM",),
    sliding="by type",
    implementation="eager",
    source="transformers/models/gpt_oss/modeling_gpt_oss.py",
)
