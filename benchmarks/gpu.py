"""What diagnosis, search and evaluation cost on a GPU, against transformers' own prefill of the same model there.

Random models of the shapes of Llama 2 7B and Llama 3 8B are built on the card in bfloat16: nothing is downloaded, and
the time does not depend on the weights. Before anything is timed, short passes run under
`torch.cuda.set_sync_debug_mode("error")`. A row that would not end in the time left is skipped, with a line.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

from qroar_core.diagnostics import run as diagnose
from qroar_core.errors import OutOfMemory, QRoarError
from qroar_core.evaluation import run as evaluate
from qroar_core.models.families import family_of
from qroar_core.models.finite import Watch
from qroar_core.models.hidden_state_file import HiddenStateFile
from qroar_core.models.load import run as load_model
from qroar_core.models.loaded import LoadedModel, fingerprint
from qroar_core.models.memory import cache_bytes_per_token
from qroar_core.models.stream import HiddenChunk, Stream
from qroar_core.models.text import Document, split
from qroar_core.scale_search import run as search
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec, SearchSpec

LENGTHS = (8192, 32768, 131072)
MINUTES = 8.0
WINDOWS = 2  # of a search and of an evaluation
CHARACTERS = 8  # of text for a token, more than any tokenizer takes
GIB = 2**30
QUANT = QuantSpec(k=QuantizerSpec(4), v=QuantizerSpec(4))


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama of random weights."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    theta: float = 10_000.0


SHAPES = (
    Shape("Llama 3 8B", 4096, 32, 32, 8, 14336, 128256, 8192, 500_000.0),
    Shape("Llama 2 7B", 4096, 32, 32, 32, 11008, 32000, 4096),
)


def main(minutes: float = MINUTES) -> None:
    """Print the table of the first CUDA device.

    Raises:
        QRoarError: there is none.
    """
    if not torch.cuda.is_available():
        raise QRoarError("gpu: this machine has no CUDA device, nothing was measured")
    torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name(0)}, {torch.cuda.get_device_properties(0).total_memory / GIB:.0f} GiB\n")
    run(SHAPES, LENGTHS, torch.device("cuda"), torch.bfloat16, minutes)


def run(
    shapes: Sequence[Shape], lengths: Sequence[int], device: torch.device, dtype: torch.dtype, minutes: float
) -> None:
    """Print a row for every shape, length and stage; each shape has the same share of what time is left."""
    began = time.monotonic()
    print("| model | tokens | stage | seconds | bare passes it needs, seconds | ratio | tokens/s | peak GiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    said = []
    for i, shape in enumerate(shapes):
        end = time.monotonic() + (60 * minutes - (time.monotonic() - began)) / (len(shapes) - i)
        bench = Bench(shape, built(shape, device, dtype), end)
        said += [f"{shape.name}: {bench.waits(min(2048, min(lengths)))}"]
        for length in sorted(lengths):
            bench.rows(length)
        del bench
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print("\nPeak GiB: in brackets what is beyond the model and the K/V cache of the tokens.\n")
    print("\n".join(said))


def built(shape: Shape, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """A model of this shape with random weights, made on the device, and the demo's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.feed_forward,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        architectures=["LlamaForCausalLM"],
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model: Any = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    family = family_of(config.architectures, shape.name)
    return LoadedModel(
        model=model,
        tokenizer=load_model("demo", device="cpu").tokenizer,
        family=family,
        geometry=family.geometry(config, sum(p.numel() for p in model.parameters())),
        name=shape.name,
        source=shape.name,
        fingerprint=fingerprint(model),
        checksum="random",
        device=device,
        dtype=dtype,
    )


class Bench:
    """The rows of one model."""

    def __init__(self, shape: Shape, loaded: LoadedModel, end: float) -> None:
        self.shape, self.loaded, self.end = shape, loaded, end
        self.model_bytes = sum(p.nbytes for p in loaded.model.parameters())
        self.factor = dict.fromkeys(STAGES, 2.0)  # of the bare passes a stage needs: as measured at the last length
        self.bare: tuple[int, float] | None = None  # length and seconds of the longest bare pass so far

    def rows(self, length: int) -> None:
        """The bare pass of this length, and every stage that there is time for."""
        expected = None if self.bare is None else self.bare[1] * (length / self.bare[0]) ** 2
        ids = torch.randint(0, 100, (1, length), device=self.loaded.device)
        short = ids[:, : min(512, length // 4)].expand(8, -1)
        if self.bare is None:
            self._prefill(ids)  # kernels are chosen and loaded
        if not self._time_for(length, "transformers' prefill", expected):
            return
        measured = self._row(length, "transformers' prefill", length, None, lambda: self._prefill(ids))
        long = expected if measured is None else measured  # no room: scaled from before
        if long is None:
            return
        self.bare = length, long
        brief = self._seconds(lambda: self._prefill(short))
        for name, stage in STAGES.items():
            needed = (2 * long + 2 * brief) if name == "diagnosis" else stage.passes * long
            if self._time_for(length, name, self.factor[name] * needed):
                took = self._row(length, name, stage.passes * length, needed, lambda s=stage: s.call(self, length))
                self.factor[name] = self.factor[name] if took is None else took / needed

    def waits(self, length: int) -> str:
        """Whether the host waits for the device within a pass: every stage once, refused at the first wait."""
        for name, stage in STAGES.items():
            try:
                with refusing_waits():
                    stage.call(self, length)
            except RuntimeError as error:
                what = "waits within a pass" if "synchroniz" in str(error) else "failed"
                return f"{name} {what}: {str(error).splitlines()[0]}"
        return f"no stage waits within a pass ({length} tokens, torch.cuda.set_sync_debug_mode)"

    def setting(self, length: int) -> Setting:
        """YaRN as far as the length needs it, K and V in int4."""
        rope = RopeSpec("yarn", max(2.0, length / self.shape.context))
        return Setting(
            rope,
            QUANT,
            diagnosis=DiagnosisSpec(length=length, short_length=min(512, length // 4)),
            search=SearchSpec(length=length, windows=WINDOWS),
            evaluation=EvaluationSpec(lengths=(length,), windows=WINDOWS, rotation=False),
        )

    @torch.inference_mode()
    def _prefill(self, ids: Tensor) -> None:
        for row in ids:
            self.loaded.model(row[None], use_cache=True, logits_to_keep=1)

    def _seconds(self, job: Callable[[], object]) -> float:
        self._wait()
        started = time.perf_counter()
        job()
        self._wait()
        return time.perf_counter() - started

    def _row(
        self, length: int, name: str, tokens: int, needed: float | None, job: Callable[[], object]
    ) -> float | None:
        """Run and print; None where memory does not suffice, which the row says."""
        on_gpu = self.loaded.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            took = self._seconds(job)
        except (OutOfMemory, torch.OutOfMemoryError) as error:
            return self._ended(length, name, f"no room: {str(error).splitlines()[0]}")
        except RuntimeError as error:  # time on a card is short: the other rows go on
            traceback.print_exc()
            return self._ended(length, name, f"failed: {str(error).splitlines()[0]}")
        peak = torch.cuda.max_memory_allocated() if on_gpu else 0
        beyond = peak - self.model_bytes - length * cache_bytes_per_token(self.loaded)
        against = ("", "") if needed is None else (f"{needed:.2f}", f"{took / needed:.2f}")
        memory = f"{peak / GIB:.1f} ({beyond / GIB:.1f})" if on_gpu else ""
        self._say(length, name, f"{took:.2f}", *against, f"{tokens / took:,.0f}", memory)
        return took

    def _ended(self, length: int, name: str, why: str) -> None:
        self._say(length, name, why, "", "", "", "")
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()

    def _time_for(self, length: int, name: str, expected: float | None) -> bool:
        left = self.end - time.monotonic()
        if left > (expected or 0):
            return True
        self._say(length, name, f"skipped: about {expected or 0:.0f} s, {max(left, 0):.0f} s are left", "", "", "", "")
        return False

    def _say(self, length: int, *cells: str) -> None:
        print(f"| {self.shape.name} | {length} | {' | '.join(cells)} |", flush=True)

    def _wait(self) -> None:
        if self.loaded.device.type == "cuda":
            torch.cuda.synchronize()


def texts(length: int) -> dict[str, list[Document]]:
    """The bundled text, over and over, long enough for the windows of any stage."""
    found = {}
    for name in ("calibration", "development", "heldout"):
        text = "\n".join(document.text for document in split(name))
        times = ceil(CHARACTERS * (length + 1024) * 2 * WINDOWS / len(text))
        found[name] = [Document(name, "\n".join([text] * times))]
    return found


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the tool, and how many windows of the length it reads at the least."""

    passes: int
    call: Callable[[Bench, int], object]


STAGES = {
    "diagnosis": Stage(2, lambda bench, n: diagnose.run(bench.loaded, bench.setting(n), texts(n)["calibration"])),
    "search": Stage(WINDOWS, lambda bench, n: search.run(bench.loaded, bench.setting(n), texts(n))),
    "evaluation": Stage(
        2 * WINDOWS, lambda bench, n: evaluate.run(bench.loaded, bench.setting(n), None, None, texts(n)["heldout"])
    ),
}


@contextmanager
def refusing_waits() -> Iterator[None]:
    """Have CUDA refuse what the host would wait for, from a stream's first chunk to the end of its last.

    The end of a pass waits once (`Watch.ask`); hidden states that a divergence needs are written to disk within one.
    """
    run, ask, spill = Stream.run, Watch.ask, HiddenStateFile._spill
    mode = torch.cuda.set_sync_debug_mode if torch.cuda.is_available() else _no_mode

    def watched(stream: Stream, *args: Any, **kwargs: Any) -> Iterator[HiddenChunk]:
        pieces = run(stream, *args, **kwargs)
        try:
            mode("error")
            yield from pieces
        finally:
            mode("default")

    def asked(watch: Watch) -> None:
        mode("default")
        ask(watch)

    def spilled(file: HiddenStateFile) -> None:
        before = torch.cuda.get_sync_debug_mode() if torch.cuda.is_available() else "default"
        mode("default")
        try:
            spill(file)
        finally:
            mode(before)

    with replaced(Stream, "run", watched), replaced(Watch, "ask", asked), replaced(HiddenStateFile, "_spill", spilled):
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute that is another for the while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _no_mode(name: str | int) -> None:
    """Without CUDA there is nothing to refuse."""
