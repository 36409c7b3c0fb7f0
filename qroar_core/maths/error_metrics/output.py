"""| o^(g) - o |^2 of the attention output."""

from torch import Tensor

from qroar_core.maths.error_metric import ErrorMetric, MovedRows


def _error(moved: MovedRows) -> Tensor:
    return moved.by_kv_head(moved.output_change().square().sum(-1))


METRIC = ErrorMetric("square error of the attention output", 30, _error, "|o^ - o|^2")
