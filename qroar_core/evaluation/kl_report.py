"""How close one model's predictions stay to another's, token by token: what llama.cpp's perplexity tool reports.

From the NLL of the true tokens under both and the KL of the whole predictions: the correlation of the two NLL,
KL percentiles, and Delta p, the change of the true token's probability in percentage points. llama.cpp counts
errors over tokens as if they were independent; here they are over windows, which are.
Source: llama.cpp, tools/perplexity/README.md, "KL divergence".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qroar_core.evaluation.result import KLReport

KL_AT = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
DELTA_P_AT = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)


def kl_report(reference: Tensor, nll: Tensor, kl: Tensor, same_top1: Tensor) -> KLReport:
    """Everything about one condition against the reference.

    Args:
        reference, nll: NLL of the same targets, nats, (windows, targets). kl: KL(reference || condition), nats.
        same_top1: bool, whether the likeliest token is the same.
    """
    reference, nll, kl = reference.double(), nll.double(), kl.double().clamp_min(0)
    moved = 100 * ((-nll).exp() - (-reference).exp())  # percentage points
    rms, square_se = math.sqrt(float(moved.square().mean())), _se(moved.square())
    both = torch.stack((reference.flatten(), nll.flatten()))
    spread = bool((both.std(-1) > 0).all())
    return KLReport(
        ln_ratio=float((nll - reference).mean()),
        ln_ratio_se=_se(nll - reference),
        correlation=float(torch.corrcoef(both)[0, 1]) if spread else None,
        kl_mean=float(kl.mean()),
        kl_mean_se=_se(kl),
        kl=percentiles(kl, KL_AT),
        delta_p_mean=float(moved.mean()),
        delta_p_mean_se=_se(moved),
        delta_p_rms=rms,
        delta_p_rms_se=None if square_se is None or not rms else square_se / (2 * rms),
        delta_p=percentiles(moved, DELTA_P_AT),
        same_top1=float(same_top1.double().mean()),
        same_top1_se=_se(same_top1.double()),
    )


def percentiles(values: Tensor, at: tuple[float, ...]) -> dict[str, float]:
    """Share -> value, linear between sorted values as llama.cpp does it; the key of 0.99 is "99"."""
    ordered = values.flatten().sort().values
    out = {}
    for share in at:
        place = share * (len(ordered) - 1)
        low = min(int(place), len(ordered) - 1)
        high = min(low + 1, len(ordered) - 1)
        out[f"{100 * share:g}"] = float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return out


def _se(values: Tensor) -> float | None:
    """Standard error of the mean over windows, (windows, targets); None with one window."""
    each = values.mean(1)
    return float(each.std() / math.sqrt(len(each))) if len(each) > 1 else None
