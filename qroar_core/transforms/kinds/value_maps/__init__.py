"""Value maps: a matrix on V of each KV head, its inverse in W_O."""

from qroar_core.transforms.kind import Kind, Switch

KIND = Kind(
    "value maps",
    40,
    version=4,
    holds="a map of V per layer and KV head",
    formula="v → M v, W_O → W_O M⁻¹, M any invertible matrix of a KV head",
    exact="V carries no RoPE, and attention adds values up channel by channel alike",
    folded="rows of W_V and its bias, columns of W_O",
    taken_by="families without a gate between V and W_O",
    switch=Switch(
        option="also a matrix for V of each KV head, its inverse in W_O",
        toggle="Also mix V's channels",
        help="A matrix for V of each KV head, folded into W_V, and its inverse into W_O. V carries no RoPE: no output "
        "changes, nothing is done at run time, and a quantized V cache loses less.",
        cached_only=True,
    ),
)
