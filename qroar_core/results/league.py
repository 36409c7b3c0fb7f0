"""league.json: remedies side by side, alone and with band scales on top, and what each asks of the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from qroar_core.axes import ANY, axes
from qroar_core.result import Result, Unbounded
from qroar_core.specs import Method


@dataclass(frozen=True, slots=True)
class About:
    """A remedy in words. `group`: what it acts on. `free`: no run-time cost and nothing to change in the runtime."""

    name: str
    group: str
    run_time: str
    runtime_change: str
    source: str
    free: bool = True


FREE = "none"
ABOUT: dict[Method, About] = {
    "plain": About("no remedy", "", FREE, "nothing", "round to nearest"),
    "smooth_attention": About(
        "SmoothAttention", "K cache", FREE, "nothing: one scale a RoPE pair inside W_Q and W_K",
        "QServe, arXiv 2405.04532, section 4.2, alpha 0.5",
    ),
    "per_channel": About(
        "K per channel before RoPE", "K cache",
        "every cached key rotated again at every step; two numbers a group of 32 tokens, the newest 128 exact",
        "a cache layout and an attention kernel of its own",
        "KIVI, arXiv 2402.02750 (groups of 32 tokens, residual 128); before RoPE as in KVQuant, arXiv 2401.18079",
        free=False,
    ),
    "rotation": About(
        "Hadamard rotation of q and k", "K cache", "one Hadamard transform a token, layer and head, online",
        "a rotation before the cache (llama.cpp has it)", "QuaRot's R3, arXiv 2404.00456; llama.cpp PR 21038",
        free=False,
    ),
    "awq": About(
        "AWQ scale search", "weights", FREE, "nothing: scales inside the weights and what stands before them",
        "arXiv 2306.00978, section 3.2",
    ),
    "gptq": About("GPTQ", "weights", FREE, "nothing: other codes in the same format", "arXiv 2210.17323, algorithm 1"),
    "smoothquant": About(
        "SmoothQuant", "activations", FREE, "nothing: scales inside the weights and the norms before them",
        "arXiv 2211.10438, equation 4, alpha 0.5",
    ),
}  # fmt: skip


class Standing(Result):
    """One remedy on the held-out windows. NLL in nats per token, intervals paired over windows.

    `gain` is the plain quantizer's NLL minus this one's; `gap_recovered` its share of what quantization costs, None
    where that cost is not significant. `added` is the same remedy's NLL without band scales minus this one's, only
    where `band_scales`; `angles`: every pair is turned too. `no_op` says why band scales cannot act on top of this
    remedy.
    """

    method: Method
    band_scales: bool = False
    angles: bool = False  # only with band scales
    nll: float
    nll_se: float
    ppl: Unbounded
    gain: float | None = None  # None on plain itself
    gain_low: float | None = None
    gain_high: float | None = None
    gap_recovered: float | None = None
    added: float | None = None
    added_low: float | None = None
    added_high: float | None = None
    no_op: str = ""
    window_nll: Annotated[list[float], axes("window")]

    @property
    def about(self) -> About:
        """The remedy in words."""
        return ABOUT[self.method]

    @property
    def name(self) -> str:
        """The remedy's name, with what is on top."""
        if not self.band_scales:
            return self.about.name
        return self.top if self.method == "plain" else f"{self.about.name} + {self.top}"

    @property
    def top(self) -> str:
        """What is on top, in words; empty where nothing is."""
        return f"band scales{' and angles' * self.angles}" if self.band_scales else ""

    @property
    def key(self) -> str:
        """Method, and `+` where band scales are on top, `++` where angles are too."""
        return self.method + "+" * (self.band_scales + self.angles)


class League(Result):
    """Every remedy measured; `standings` in the order of the methods, each alone, with band scales, with angles."""

    reference_nll: float
    reference_ppl: Unbounded
    reference_window_nll: Annotated[list[float], axes("window")]
    gap: float  # plain minus reference, nats per token
    gap_low: float
    gap_high: float
    standings: Annotated[list[Standing], axes("standing")]
    sentences: Annotated[list[str], axes(ANY)]  # the findings in plain words
    length: int
    confidence: float
    text: str  # windows, digest, seed; what was calibrated and searched on
