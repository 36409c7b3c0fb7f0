"""All layers' and heads' cached errors at once, relative to identity: what the methods minimise."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qroar_core.maths.attention_error import CapturedLayer, ErrorSetup, attention_error
from qroar_core.maths.scatter_gather import gathered, sent
from qroar_core.models.capture import Capture
from qroar_core.scale_search.key_constants import KeyConstants
from qroar_core.scale_search.l2_penalty import price
from qroar_core.specs import Granularity
from qroar_core.transforms.scales import pooled

Report = Callable[..., None]  # step, label, objective, and the best so far (left out where only a few rows were seen)


@dataclass(slots=True, eq=False)
class CachedObjective:
    """E(g) / E(identity) per layer and KV head, on captured windows, and the price of leaving 1 if there is one.

    `point` is (layers, n_kv_heads, bands [+ pairs]), on the host as all that is returned; each layer is computed
    where it was captured, and the host waits once a window. The scalar objective is the mean over layers and heads.
    """

    capture: Capture
    setup: ErrorSetup
    granularity: Granularity
    pull: Tensor | None = None  # (layers, bands); see scale_search/l2_penalty.py
    kept: Collection[int] = ()  # layers whose cache is not rounded: scales have nothing to repair there
    identity: Tensor = field(init=False)  # (windows, layers, kv, rows): E at identity

    def __post_init__(self) -> None:
        bands = int(self.setup.band.max()) + 1
        layers, kv = len(self.capture.metric), self.capture.k_absmax.shape[1]
        zero = torch.zeros(layers, kv, bands)
        self.identity = torch.stack([self._window(w, zero) for w in range(len(self.capture.windows))])

    @property
    def devices(self) -> list[torch.device]:
        """Of every layer."""
        return [layer.k.device for layer in self.capture.windows[0]]

    @property
    def unit(self) -> Granularity:
        """What may be chosen by itself: heads of a layer may not where one scale over the layer couples them."""
        quant = self.setup.quant
        coupled = any(s is not None and s.needs_calibration for s in (quant.k, quant.qk))
        return "layer" if coupled and self.granularity == "kv_head" else self.granularity

    @property
    def floor(self) -> Tensor:
        """E at identity over all windows, (layers, kv), kept off zero."""
        return self.identity.sum((0, 3)).clamp_min(1e-30)

    def per_head(self, point: Tensor) -> Tensor:
        """E(g)/E(identity), (layers, n_kv_heads), over all windows and rows."""
        if not point.any():
            return torch.ones(point.shape[:2])
        with torch.no_grad():
            total = torch.as_tensor(sum(self._window(w, point).sum(-1) for w in range(len(self.capture.windows))))
        exact = (total == 0) & (self.identity.sum((0, 3)) == 0)  # nothing to repair, and nothing is damaged
        relative = (total / self.floor).masked_fill(exact, 1.0)
        return relative if self.pull is None else relative + price(point, self.pull[:, None])

    def value(self, point: Tensor) -> float:
        """The scalar objective; 1 at identity."""
        return float(self.per_head(point).mean())

    def gradient(self, point: Tensor, window: int, pick: Tensor) -> tuple[Tensor, float]:
        """d log E / d point of every head on some rows of one window, pooled to the granularity.

        The second value is the scalar objective on just these rows.
        """
        slopes, errors = [], []
        layers = self.capture.windows[window]
        floor = self.identity[window][..., pick].sum(-1).clamp_min(1e-30)
        for i, (layer, mine) in enumerate(zip(layers, sent(point, self.devices), strict=True)):
            x = mine.clone().requires_grad_(True)
            with torch.enable_grad():
                here = self._error(i, layer, x, pick).sum(-1)
                paid = 0.0 if self.pull is None else floor[i].to(here) * price(x.to(here), self.pull[i].to(here))
                (here + paid).clamp_min(1e-30).log().sum().backward()
            slopes.append(torch.as_tensor(x.grad))
            errors.append((here + paid).detach())
        relative = gathered(errors) / floor
        return self._shared(gathered(slopes)), float(relative.mean())

    def rates(self, point: Tensor) -> Tensor:
        """What a gradient step counts as in each number of a point.

        Where log2 g moves by an octave, an offset of K moves by its channel's standard deviation.
        """
        rates = torch.ones_like(point)
        if self.setup.offset:
            constants = KeyConstants.of(self.capture.windows)
            rates[..., -self.setup.offset :] = constants.before_rope(constants.deviation)
        return rates

    def _shared(self, slopes: Tensor) -> Tensor:
        """Pooled to the granularity; an offset of K is every head's own at any."""
        end = slopes.shape[-1] - self.setup.offset
        return torch.cat((pooled(slopes[..., :end], self.granularity), slopes[..., end:]), dim=-1)

    def _window(self, w: int, point: Tensor) -> Tensor:
        layers = self.capture.windows[w]
        each = zip(layers, sent(point, self.devices), strict=True)
        with torch.no_grad():
            return gathered([self._error(i, layer, mine) for i, (layer, mine) in enumerate(each)])

    def _error(self, index: int, layer: CapturedLayer, point: Tensor, pick: Tensor | None = None) -> Tensor:
        """E of one layer's KV heads, row by row; exactly 0 where nothing is rounded, whatever float32 makes of it."""
        setup = self.setup
        if index in self.kept:
            setup = replace(setup, quant=replace(setup.quant, k=None, v=None))
        if setup.quant.k is None and setup.quant.qk is None and index in self.kept:
            rows = len(layer.rows) if pick is None else len(pick)
            return 0 * point.sum(-1, keepdim=True).expand(-1, rows)
        return attention_error(layer, point, self.capture.metric[index], setup, pick=pick)


def choose(options: list[Tensor], errors: list[Tensor], granularity: Granularity) -> tuple[Tensor, Tensor]:
    """Of several (layers, kv, bands) candidates with their per-head errors, the best for each unit shared.

    Returns the mixture and its per-head errors. The first option wins ties, so identity first means
    identity unless something is better.
    """
    shared = torch.stack([_shared(e, granularity) for e in errors])  # (options, layers, kv)
    best = shared.argmin(0)
    stacked = torch.stack(options)  # (options, layers, kv, bands)
    mixture = stacked.gather(0, best[None, :, :, None].expand(1, *stacked.shape[1:]))[0]
    return mixture, torch.stack(errors).gather(0, best[None])[0]


def _shared(error: Tensor, granularity: Granularity) -> Tensor:
    return pooled(error[..., None], granularity)[..., 0]
