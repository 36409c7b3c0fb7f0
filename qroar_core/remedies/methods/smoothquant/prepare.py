"""SmoothQuant: outliers of a linear's inputs moved into its weights, before both are rounded.

y = W x = (W diag(s)) (x / s) with s_j = max|x_j|^alpha / max|W_j|^(1 - alpha): exact in full precision. Linears that
read the same inputs share s, and the norm before them takes 1/s.
"""

from __future__ import annotations

from torch import Tensor

from qroar_core.remedies.prepared import Prepared, RemedyInputs

ALPHA = 0.5  # the paper's default
FLOOR = 1e-5  # of the weights' range and of s, as in its code


def smoothquant(x_absmax: Tensor, w: Tensor, alpha: float = ALPHA) -> Tensor:
    """The scale of every input channel.

    Args:
        x_absmax: largest |x_j| on calibration text, (in_features,).
        w: weights of all linears that read these inputs, stacked by rows; (rows, in_features).
        alpha: 0 leaves the inputs' outliers where they are, 1 moves all of them into the weights.
    Returns:
        s, (in_features,), in the dtype of x_absmax.
    Source: SmoothQuant, arXiv 2211.10438, equation 4; mit-han-lab/smoothquant, smoothquant/smooth.py.
    """
    reach = w.detach().abs().amax(0).clamp_min(FLOOR).to(x_absmax)
    return (x_absmax.pow(alpha) / reach.pow(1 - alpha)).clamp_min(FLOOR)


def prepare(given: RemedyInputs) -> Prepared:
    """Linears that read the normed residual stream are smoothed, as in the paper's code; W_O and W_down are not."""
    geo, outputs, made = given.loaded.geometry, given.outputs(), Prepared(given.quant)
    for inputs, own, stacked in given.inputs("SmoothQuant:"):
        if len(inputs.absmax) == geo.hidden_size and outputs.isdisjoint(own):
            made.scale_inputs(own, smoothquant(inputs.absmax, stacked))
    return made
