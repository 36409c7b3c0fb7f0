"""Pair angles: one more turn of every RoPE pair, the same in q and k."""

from qroar_core.transforms.kind import Kind, Switch

KIND = Kind(
    "pair angles",
    20,
    version=2,
    holds="an angle per RoPE pair",
    formula="every pair of q and of k turned by one angle",
    exact="turns of one plane commute",
    folded="rows of W_Q and W_K and their biases",
    taken_by="families without a QK-norm before RoPE",
    switch=Switch(
        option="also search an angle for every RoPE pair of q and k",
        toggle="Also search pair angles",
        help="One angle per RoPE pair beside one scale per band. Turns of a plane commute with RoPE's, so nothing "
        "changes in full precision and at run time, but the values suit the quantizer better. It needs an unquantized "
        "checkpoint.",
        by_gradient=True,
        on_remedies=True,
    ),
)
