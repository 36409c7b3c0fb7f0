"""Maps: a matrix on each group of channels of K that turn alike, its inverse's transpose on q."""

from qroar_core.transforms.kind import Kind, Switch

KIND = Kind(
    "channel maps",
    30,
    version=3,
    holds="a matrix per group of channels that turn alike",
    formula="k → M k, q → M⁻ᵀ q on channels that turn alike; M complex where they turn, real where not",
    exact="M commutes with a turning that its channels share; across channels that turn apart it does not",
    folded="rows of W_Q and W_K and their biases",
    taken_by="tied pairs, and channels past the rotated ones; no QK-norm, no latent cache",
    switch=Switch(
        option="angles, and a matrix for each group of channels that turn alike",
        toggle="Also mix channels that turn alike",
        help="A matrix for each group of channels that turn alike: tied pairs, and channels past the rotated ones. It "
        "commutes with RoPE, so nothing changes at run time, and it spreads large values over the group. It needs "
        "angles.",
        needs=("angles",),
        by_gradient=True,
    ),
)
