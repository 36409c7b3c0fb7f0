"""Errors of coordinates and lengths of vectors, as the file keeps them."""

from __future__ import annotations

from typing import Annotated

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, LayerHead, Number, Result
from qroar_core.result_shapes import axes


class RoundedTensor(Result):
    """q or K after RoPE, before against after quantization, [layer][KV head] unless said otherwise.

    Query heads that read one KV head count together.
    """

    largest: LayerHead  # largest |x^ - x|
    rms: LayerHead  # of x^ - x
    relative_to_value: LayerHead  # 0.99 quantile of |x^ - x| / |x|, values that are not zero, within 0.1 % of itself
    relative_to_vector: LayerHead  # largest |x^ - x| over the largest |x| of its own vector
    norm_mean: LayerHead  # of |v^| / |v| - 1, v the whole vector of a token and head
    norm_rms: LayerHead
    # share of the values given to the quantizer that lie beyond the grid's end, on its own axes: with quantized weights
    # those of the model that has them; None: no quantizer of its own
    clipped: LayerHead
    zeroed: LayerHead  # share of the values given to it that are not zero and become zero, likewise
    band_largest: LayerBand  # [layer][band], None where the layer is not rotated
    band_rms: LayerBand
    rest_largest: Annotated[list[Number], axes("layer")]  # [layer], of the channels without rotation
    rest_rms: Annotated[list[Number], axes("layer")]
    null_norm_mean: LayerHead  # of errors as large, each pair's turned to a random angle; mean over draws
    null_norm_rms: LayerHead


class Roundings(Result):
    """What quantization does to the coordinates of K and q, and to the lengths of their vectors.

    With quantized weights both are those of the quantized model against those of the unquantized one.
    """

    k: RoundedTensor
    q: RoundedTensor | None = None  # None: q does not change, or an older file with quantized weights
    # sampled query rows that q's errors and lengths are of, beside its clipped and zeroed values of all; None: all rows
    q_rows: int | None = None
    sample: Sample | None = None

    def tensors(self) -> dict[str, RoundedTensor]:
        """Those that are there."""
        return {"K": self.k} | ({"q": self.q} if self.q is not None else {})

    def null_rows(self) -> list[NullRow]:
        """Mean and RMS distortion of the length, over layers and heads, beside their null."""
        rows = "" if self.q_rows is None else f", {self.q_rows:,} sampled query rows"
        return [
            NullRow(
                diagnostic="Rounding",
                quantity=f"{name}: {what} of |v^|/|v| - 1 over layers and KV heads{rows if name == 'q' else ''}",
                measured=measured,
                null=null,
                control="errors of the same size, each pair's turned to a random angle",
            )
            for name, tensor in self.tensors().items()
            for what, measured, null in (
                ("mean", mean(tensor.norm_mean), mean(tensor.null_norm_mean)),
                ("RMS", mean(tensor.norm_rms, 2), mean(tensor.null_norm_rms, 2)),
            )
        ]


def mean(values: LayerHead, power: int = 1) -> Number:
    """Mean over layers and heads; root mean square with power 2."""
    there = [v**power for row in values for v in row if v is not None]
    if not there:
        return None
    return sum(there) / len(there) if power == 1 else (sum(there) / len(there)) ** (1 / power)
