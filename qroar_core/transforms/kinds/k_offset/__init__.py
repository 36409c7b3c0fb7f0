"""K offset: a constant taken off K's channels that do not turn, which no softmax sees."""

from qroar_core.transforms.kind import Switch, TransformKind

KIND = TransformKind(
    "K offset",
    50,
    version=5,
    holds="a constant taken off K per layer and KV head",
    formula="k → M (k − b) = M k − c on channels that do not turn, c = M b",
    exact="−q · b is the same for every key of a row, and a softmax does not see it; where channels turn it does",
    folded="bias of W_K, which comes with it where there is none",
    taken_by="pairs tied to stand still, channels past the rotated ones, layers without RoPE; no QK-norm, latent "
    "cache, sink or cap",
    switch=Switch(
        option="also take a constant off K's channels that do not turn, which no softmax sees",
        toggle="Also take a constant off K",
        help="A vector per layer and KV head on the channels of K that do not turn: pairs tied to stand still, "
        "channels past the rotated ones, layers without RoPE. It adds the same number to all logits of a row, which "
        "the softmax does not see, and takes K's constant part out of the quantizer's range. It goes into W_K's bias.",
        by_gradient=True,
        cached_only=True,
    ),
)
