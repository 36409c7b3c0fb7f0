"""Mean over the keys that a row sees of (l^(g) - l)^2."""

from torch import Tensor

from qroar_core.maths.error_metric import ErrorMetric, MovedRows


def _error(moved: MovedRows) -> Tensor:
    exact, visible = moved.exact_logits(), moved.rule.visible(moved.apart)
    return ((moved.logits - exact).square().masked_fill(~visible, 0).sum(-1) / visible.sum(-1)).sum(1)


METRIC = ErrorMetric("mean square error of the logits", 10, _error, "mean over the keys a row sees of (l^ - l)^2")
