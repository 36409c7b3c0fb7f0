"""Numbers that left their format (NaN, infinity) end every stage in one line: what, at which layer and position.

The stream looks at every q, k, attention output and final hidden state as they pass. What a look finds stays on the
device, one number each, until the run ends: an accelerator is waited for once a run, however many chunks it has.
Whoever brings scores to the host asks `require_finite` there, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.errors import NonFinite, QRoarError
from qroar_core.models.condition import Condition
from qroar_core.specs.labels import setting_words

LIMITS = {
    torch.float16: "float16 ends at 65504: take --dtype bfloat16 or float32",
    torch.bfloat16: "take --dtype float32",
}
WEIGHTS = "the checkpoint's own weights overflow: check it, or fetch it again"
SCALED = "or scales closer to 1"
ROPE = "check rope_theta and the factors of its rope_parameters, or choose another --rope and --factor"
Look = tuple[str, int, Tensor]  # what, its tokens, position of the first that is not finite, past the end if none


@dataclass(slots=True, eq=False)
class Watch:
    """Looks at the tensors of one run; `ask` raises for the earliest that was not finite."""

    condition: Condition
    dtype: torch.dtype
    seen: list[Look] = field(default_factory=list)

    def look(self, what: str, start: int, x: Tensor) -> None:
        """Remember the first token at which x (..., t, channels), whose first is at position `start`, is not finite."""
        # amax hands NaN on; a tenth of the time of isfinite().all()
        largest = x.detach().abs().amax(dim=(*range(x.ndim - 2), -1))  # (t,)
        end = start + len(largest)
        at = torch.arange(start, end, device=largest.device)
        self.seen.append((what, end, torch.where(largest.isfinite(), end, at).amin()))

    def ask(self) -> None:
        """Ask about everything looked at so far; waits for the device.

        Raises:
            NonFinite: names the first layer and position.
        """
        looks, self.seen = self.seen, []
        by_device: dict[torch.device, list[int]] = {}
        for i, (_, _, first) in enumerate(looks):
            by_device.setdefault(first.device, []).append(i)
        bad: dict[int, int] = {}  # look -> position
        for places in by_device.values():
            found = torch.stack([looks[i][2] for i in places]).tolist()  # the one wait
            bad |= {i: first for i, first in zip(places, found, strict=True) if first < looks[i][1]}
        if bad:
            earliest = min(bad)
            raise non_finite(f"{looks[earliest][0]} at position {bad[earliest]}", self.condition, self.dtype)

    @contextmanager
    def asked_first(self) -> Iterator[None]:
        """An error inside, of code that met NaN and says so in its own words, comes after what `ask` has to say."""
        try:
            yield
        except QRoarError:
            raise
        except Exception:
            self.ask()
            raise


def require_finite(x: Tensor, what: str, condition: Condition | None, dtype: torch.dtype) -> None:
    """Raises NonFinite, naming the place of the first, where x, on the host, is not finite; x (windows, tokens)."""
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        window, token = (int(i) for i in bad[0][:2])
        raise non_finite(f"{what} of window {window}, target {token},", condition, dtype)


def require_finite_parameters(parameters: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Raises NonFinite, naming the first, where scales took a parameter out of its number format."""
    largest: dict[torch.device, list[Tensor]] = {}
    for value in parameters.values():
        largest.setdefault(value.device, []).append(value.abs().amax())
    if all(bool(torch.stack(values).amax().isfinite()) for values in largest.values()):
        return
    name = next(name for name, value in parameters.items() if not bool(value.isfinite().all()))
    raise NonFinite(
        f"{name} times its scales is not finite",
        where=str(dtype).removeprefix("torch."),
        do=f"{LIMITS.get(dtype, 'search within narrower bounds')}, {SCALED}",
    )


def require_finite_rope(inv_freq: Tensor, attention_factor: float, words: str) -> None:
    """Raises NonFinite for frequencies or a factor on cos and sin that are no numbers. `words`: the interpolation."""
    bad = (~inv_freq.isfinite()).nonzero()
    if len(bad):
        raise NonFinite(f"the frequency of RoPE pair {int(bad[0])} is not finite", where=words, do=ROPE)
    if not torch.tensor(attention_factor).isfinite():
        raise NonFinite("the attention factor is not finite", where=words, do=ROPE)


def non_finite(what: str, condition: Condition | None, dtype: torch.dtype) -> NonFinite:
    """The one line: what is not finite, under which condition, and what to do in this number format."""
    where, do = str(dtype).removeprefix("torch."), LIMITS.get(dtype, WEIGHTS)
    if condition is not None:
        where = f"{setting_words(condition.rope, condition.quant)}, {where}"
        if condition.scales is not None and not condition.scales.is_identity:
            where, do = f"with scales, {where}", f"{do}, {SCALED}"
    return NonFinite(f"{what} is not finite", where=where, do=do)
