"""GLM-4 (0414): interleaved pairs on half of each head, biases on q and k."""

from qroar_core.models.families.base import Family

GLM4 = Family(
    "glm4",
    ("Glm4ForCausalLM",),
    pairing="interleaved",
    partial=True,
    source="transformers/models/glm4/modeling_glm4.py",
)
