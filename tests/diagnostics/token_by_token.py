"""A cache of blocks that is run token by token in float64."""

import torch

from qroar_core.models.stream import open_stream


def nearest(x, levels):
    """The closest of `levels`, whose last axis runs over the levels and whose others broadcast to x."""
    at = (x[..., None] - levels).abs().argmin(-1, keepdim=True)
    return levels.expand(*x.shape, -1).gather(-1, at)[..., 0]


def per_token(bits):
    most = 2 ** (bits - 1) - 1
    levels = torch.arange(-most, most + 1, dtype=torch.float64)
    return lambda x: nearest(x, (x.abs().amax(-1, keepdim=True) / most)[..., None] * levels)


def reads(k, block, rounded, rows):
    """K as the queries at `rows` read it, from a cache that takes one token at a time: {row: (heads, row + 1, ...)}."""
    store, waiting, seen = k[:, :0], 0, {}
    for t in range(k.shape[1]):
        token = k[:, t : t + 1]
        store = torch.cat([store, rounded(token) if block == 1 else token], 1)
        if t in rows:
            seen[t] = store.clone()
        waiting += 1
        if waiting == block and block > 1:  # full: the query of its last token has read it
            store = torch.cat([store[:, :-block], rounded(store[:, -block:])], 1)
            waiting = 0
    return seen


def taken(loaded, condition, ids, length=300):
    """q and K of every layer before any cache rounds them, and the softmax's factor."""
    kept = {}

    class Keep:
        def on_attention(self, tap):
            kept.setdefault(tap.layer, []).append((tap.q.clone(), tap.k.clone(), tap.scaling))

        def on_layer(self, *args):
            pass

    with open_stream(loaded, condition, length, chunk=length) as stream:
        list(stream.run(ids, (Keep(),)))
    return [(*(torch.cat([p[i] for p in parts], 1) for i in (0, 1)), parts[0][2]) for parts in kept.values()]


def noise_and_kl(q, k, q_hat, k_hat, scaling):
    """One row: q (heads, channels), k (kv, keys, channels) -> RMS over heads and keys, and mean KL over heads."""
    group = len(q) // len(k)
    logits, moved = (
        torch.einsum("hc,hnc->hn", a, b.repeat_interleave(group, 0)) * scaling for a, b in ((q, k), (q_hat, k_hat))
    )
    p, log_p, log_moved = logits.softmax(-1), logits.log_softmax(-1), moved.log_softmax(-1)
    return float((moved - logits).square().mean().sqrt()), float((p * (log_p - log_moved)).sum(-1).mean())
