"""gpt-oss: attention sinks, sliding windows in every second layer, YaRN in the checkpoint itself, biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qroar_core.models.families.base import Family


@dataclass(frozen=True, slots=True)
class GptOss(Family):
    """A sink has a logit of its own in each softmax, to which keys add nothing."""

    def beside_softmax(self, config: Any) -> str:
        """The sinks."""
        return "has a sink beside the keys of each softmax"


GPT_OSS = GptOss(
    "gpt_oss",
    ("GptOssForCausalLM",),
    sliding="by type",
    implementation="eager",
    source="transformers/models/gpt_oss/modeling_gpt_oss.py",
)
