"""KL(p || p^(g)) of the attention weights of each row."""

from torch import Tensor

from qroar_core.maths.error_metric import ErrorMetric, MovedRows

MOST = 80.0  # a logit's move that is still told from a larger one: float32 ends at e^88


def _error(moved: MovedRows) -> Tensor:
    """A sink counted as one more key: ln sum p e^d - sum p d of the moves d of a row's logits.

    Around their mean m it is ln(1 + sum p (e^(d - m) - 1)), which loses no digits where the moves are small.
    """
    rule, exact, logits = moved.rule, moved.exact_logits(), moved.logits
    p = rule.weights(exact, moved.apart)
    if rule.softcap is not None:
        exact, logits = rule.capped(exact), rule.capped(logits)
    moves = (logits - exact).masked_fill(~rule.visible(moved.apart), 0)
    mean = (p * moves).sum(-1, keepdim=True)
    grown = (p * (moves - mean).clamp(max=MOST).expm1()).sum(-1)
    if rule.sinks is not None:
        grown = grown + (1 - p.sum(-1)) * (-mean[..., 0]).expm1()
    return grown.log1p().sum(1)


METRIC = ErrorMetric("KL of the attention rows", 20, _error, "KL(p || p^)")
