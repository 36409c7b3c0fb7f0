"""Band scales: one real number a band on q, its inverse (or the same) on k."""

from qroar_core.transforms.kind import Kind

KIND = Kind(
    "band scales",
    10,
    version=1,
    holds="a scale per band",
    formula="q of band b times g_b, k over g_b (`symmetric`) or times g_b (`shared`)",
    exact="`symmetric`: one g for both channels of a pair; `shared` changes the model, by a temperature g_b² per band",
    folded="rows of W_Q and W_K and their biases, or the gains of a QK-norm",
    taken_by="every family",
)
