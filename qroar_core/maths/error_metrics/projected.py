"""| W_O,h (o^(g) - o) |^2: the error of the attention output as the residual stream gets it."""

import torch
from torch import Tensor

from qroar_core.maths.error_metric import ErrorMetric, MovedRows


def _error(moved: MovedRows) -> Tensor:
    change = moved.output_change()
    if moved.gate is not None:
        change = change * moved.gate
    return moved.by_kv_head((torch.matmul(change, moved.w_o) * change).sum(-1))


METRIC = ErrorMetric("square error of the attention output after W_O", 40, _error, "|W_O (o^ - o)|^2")
