"""OLMo 2: an RMSNorm over all heads of q and of k at once; its gain has a row for every channel of every head."""

from qroar_core.models.families.base import Family

OLMO2 = Family(
    "olmo2", ("Olmo2ForCausalLM",), norms=("q_norm", "k_norm"), source="transformers/models/olmo2/modeling_olmo2.py"
)
