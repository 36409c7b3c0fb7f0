"""Negative log-likelihood and divergence from final hidden states, in slices of constant memory.

The output projection is neither scaled nor quantized here, so a condition is fully described by its
final hidden states: keep those of the reference and every divergence can be formed later. Nothing here
waits for an accelerator: results stay on the device of the states.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.meters import onto
from qroar_core.models.loaded import LoadedModel

LOGIT_ENTRIES = 1 << 23  # tokens x vocabulary per slice (32 MiB of float32)


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """Per target token against the reference: KL(ref || this) in nats, and whether the top token agrees."""

    kl: Tensor
    same_top1: Tensor


def logits_of(loaded: LoadedModel, hidden: Tensor) -> Tensor:
    """float32 (or wider) logits of hidden states (n, hidden_size), where the output projection is."""
    out = loaded.family.logits(loaded.model, hidden)
    return out if out.dtype == torch.float64 else out.float()


@torch.inference_mode()
def token_nll(loaded: LoadedModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """-ln p of each target, nats; hidden (B, n, hidden_size), targets (B, n) -> (B, n)."""
    flat, wanted = hidden.flatten(0, 1), targets.flatten()
    step, parts = _slice(loaded), []
    for i in range(0, len(flat), step):
        logits = logits_of(loaded, flat[i : i + step])
        here = onto(wanted[i : i + step], logits.device)
        parts.append(torch.nn.functional.cross_entropy(logits, here, reduction="none"))
    return torch.cat(parts).view(targets.shape)


@torch.inference_mode()
def log_prob_and_top1(loaded: LoadedModel, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """ln p of each target, nats, and whether it is the most probable token; hidden (n, hidden_size), targets (n,)."""
    step, parts = _slice(loaded), []
    for i in range(0, len(hidden), step):
        log_p = logits_of(loaded, hidden[i : i + step]).log_softmax(-1)
        here = onto(targets[i : i + step], log_p.device)
        parts.append((log_p.gather(-1, here[:, None])[:, 0], log_p.argmax(-1) == here))
    log_p, first = (torch.cat(part) for part in zip(*parts, strict=True))
    return log_p, first


def divergence(loaded: LoadedModel, reference: Tensor, other: Tensor) -> Divergence:
    """KL and top-1 agreement of `other`'s hidden states against `reference`'s, both (B, n, hidden_size)."""
    nothing = torch.zeros(other.shape[:2], dtype=torch.int64)
    return nll_and_divergence(loaded, reference, other, nothing)[1]


@torch.inference_mode()
def nll_and_divergence(
    loaded: LoadedModel, reference: Tensor, other: Tensor, targets: Tensor
) -> tuple[Tensor, Divergence]:
    """`token_nll` of `other` and its divergence from `reference`, from one projection of each."""
    shape = targets.shape
    a, b, wanted = reference.flatten(0, 1), other.flatten(0, 1), targets.flatten()
    nll, kl, same = [], [], []
    step = _slice(loaded)
    for i in range(0, len(a), step):
        ref = logits_of(loaded, a[i : i + step]).log_softmax(-1)
        new = logits_of(loaded, b[i : i + step]).log_softmax(-1)
        nll.append(-new.gather(-1, onto(wanted[i : i + step, None], new.device))[:, 0])
        same.append(ref.argmax(-1) == new.argmax(-1))
        apart = torch.sub(ref, new, out=new)  # in place: these are the largest tensors there are
        kl.append(ref.exp_().mul_(apart).sum(-1))
    return torch.cat(nll).view(shape), Divergence(torch.cat(kl).view(shape), torch.cat(same).view(shape))


def kl_gradient(loaded: LoadedModel, reference: Tensor, hidden: Tensor) -> tuple[Tensor, float]:
    """Mean KL(reference || hidden) over tokens, nats, and its gradient in `hidden`; both (n, hidden_size).

    Slice by slice, so that the logits of all tokens never exist at once.
    """
    slope, total = torch.zeros_like(hidden), 0.0
    step = _slice(loaded) // 4 or 1
    for i in range(0, len(hidden), step):
        here = hidden[i : i + step].detach().clone().requires_grad_(True)
        with torch.no_grad():
            ref = logits_of(loaded, reference[i : i + step]).log_softmax(-1)
        with torch.enable_grad():
            new = logits_of(loaded, here).log_softmax(-1)
            kl = torch.nn.functional.kl_div(new, ref, reduction="sum", log_target=True) / len(hidden)
            kl.backward()
        slope[i : i + step], total = torch.as_tensor(here.grad), total + float(kl.detach())
    return slope, total


def _slice(loaded: LoadedModel) -> int:
    return max(1, LOGIT_ENTRIES // loaded.geometry.vocab_size)


@torch.inference_mode()
def forward_seconds(loaded: LoadedModel, ids: Tensor) -> float:
    """Wall seconds of transformers' own forward over ids (B, T), logits included: the unit of every cost.

    The logits of all tokens are made, slice by slice: at once they would not fit at 16k tokens.
    """
    import time

    ids = onto(ids, loaded.device)
    started = time.perf_counter()
    hidden = loaded.family.decoder(loaded.model)(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
    for part in hidden.split(_slice(loaded)):
        logits_of(loaded, part)
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
    return time.perf_counter() - started
