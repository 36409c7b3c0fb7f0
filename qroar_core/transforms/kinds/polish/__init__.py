"""Polish: rows of W_Q and W_K of tied pairs, changed to take back what the tie costs."""

from qroar_core.transforms.kind import Switch, TransformKind

KIND = TransformKind(
    "polish of tied pairs",
    60,
    version=6,
    holds="a polish of tied pairs",
    formula="q → P_q q, k → P_k k before RoPE on the channels of each tied group, P of every query head and KV head",
    exact="not exact: it changes the model, towards the one without the tie, and what is left of the cost is measured",
    folded="rows of W_Q and W_K and their biases, before all others",
    taken_by="tied pairs; no QK-norm, no latent cache, one set of frequencies for all layers",
    switch=Switch(
        option="first change W_Q and W_K's rows of tied pairs, so that the tie costs less; it changes the model",
        toggle="Also polish tied pairs",
        help="A tie turns pairs by other angles than the model was trained with. One matrix for each query head and KV "
        "head on the channels of each tied group brings the attention output near that of the model without the tie, "
        "on calibration text. It goes into W_Q and W_K and costs nothing at run time, but it is not exact: it changes "
        "the model. What the tie costs with and without it is measured on development text.",
        cached_only=True,
    ),
    free=False,
)
