"""Stage 2: the diagnostics of docs/method.md section 3, in one streamed pass and its short windows.

The long context is read once under the interpolation, unquantized; every meter rides on that pass,
and the chosen quantizers are applied to the q and k it shows. The paired short windows are read once
under the interpolation and once under native RoPE, without any interpolation (none where that is the one in use, or
cannot be had), and the long context once more quantized, for the hidden states. Maps, constants and a polish of tied
pairs, which turn apart under native RoPE, are left out of that native pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qroar_core.diagnostics.assemble import Passes, Recorders, assemble
from qroar_core.diagnostics.bands.next_token_cost import output_costs
from qroar_core.diagnostics.measurement import LongContext, Measurement, Rounding
from qroar_core.diagnostics.quantized_pass import QuantizedPass, Reference
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.similarity.measure import SimilarityMeter
from qroar_core.diagnostics.similarity.observe import HiddenRows
from qroar_core.diagnostics.tail_inflation.observe import PairedTails
from qroar_core.errors import BadSpec
from qroar_core.interpolations.checkpoint_rope import promised_length, without_interpolation
from qroar_core.interpolations.frequencies import bands_of, layer_group_ropes
from qroar_core.maths.positions import PositionBins, Sampled, log_spaced
from qroar_core.maths.sketches import TopTail
from qroar_core.models.bos import starts
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import require_room, return_freed_pages
from qroar_core.models.own_rope import replacing
from qroar_core.models.stream import Condition, Observer, Stream, open_stream
from qroar_core.models.text import Documents, windows
from qroar_core.progress import OnStep, Step, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, QuantSpec, RopeSpec
from qroar_core.specs.stages import LEAST_DIAGNOSED
from qroar_core.transforms.groups import part_alike
from qroar_core.transforms.scales import Scales

SHORT_BATCH_TOKENS = 2048  # short windows read together, at most this many tokens
LEAST_PAIRED = 8  # tokens of a short window that are compared, at the least: below, more windows are not worth it


@dataclass(frozen=True, slots=True, eq=False)
class DiagnosisPlan:
    """A DiagnosisSpec with every length filled in, and the tokens to read."""

    spec: DiagnosisSpec
    length: int
    short_length: int
    chunk: int
    ids: Tensor  # (length,)
    ends: tuple[int, ...]  # end of each paired window, none of them the start of the text itself
    short_ids: Tensor  # (windows, short_length)
    text: str


def plan(loaded: LoadedModel, setting: Setting, documents: Documents) -> DiagnosisPlan:
    """Fill in what the spec leaves open and pick the text.

    Raises:
        BadSpec: short windows that do not fit, or a cache quantizer where the cache holds no K and V.
        BadText: too little text.
    """
    rope, quant, spec = setting.rope, setting.quant, setting.diagnosis
    loaded.geometry.require_cache(quant)
    native = loaded.geometry.original_context
    length = spec.length or min(promised_length(loaded, rope), 4096)
    short = spec.short_length or min(native, max(2, length // 4))
    if short > min(native, length):
        raise BadSpec(f"short windows of {short} tokens exceed the native window {native} or the length {length}")
    block = quant.block_tokens
    chunk = -(-min(spec.chunk, length) // block) * block
    text = windows(loaded.tokenizer, documents, length, 1, spec.seed)
    ids = text.ids[0]
    spec, ends = _paired_windows(spec, length, short, text.opening)
    if spec.paired:
        short_ids = torch.stack([starts(ids[:end], short, text.opening) for end in ends])
    else:
        short_ids = windows(loaded.tokenizer, documents, short, len(ends), spec.seed + 1).ids
    name, at = text.origin[0]
    label = f"{length} tokens of {name} from {text.unit} {at}, digest {text.digest}{text.noted}"
    label += replacing(loaded, rope) + what_a_query_reads(quant)
    return DiagnosisPlan(spec, length, short, chunk, ids, ends, short_ids, label)


def _paired_windows(
    spec: DiagnosisSpec, length: int, short: int, opening: int
) -> tuple[DiagnosisSpec, tuple[int, ...]]:
    """Where the short windows end, evenly from behind the first `short` tokens to the last one, and `spec` with the
    tokens compared at each end: as many as asked, fewer where the windows would share tokens.

    No window ends at `short`: it would be the start of the long context itself, equal to it whatever the model.

    Args:
        opening: tokens before the text (BOS), which stand nowhere else and are never compared.
    Raises:
        BadSpec: fewer than two windows, of which there is neither an interval nor a null.
    """
    room, most = length - short, min(spec.paired_tokens, short - opening)
    least = min(LEAST_PAIRED, most)
    if spec.windows < 2:
        raise BadSpec("one short window gives no interval", where="diagnose", do="ask for at least 2 short windows")
    if least < 1 or room < 2 * least:
        raise BadSpec(
            f"{length} tokens leave no room for two short windows of {short} tokens behind the first one",
            where="diagnose",
            do=f"give a length of at least {max(LEAST_DIAGNOSED, short + 2 * max(1, least))} or shorter windows",
        )
    paired = min(most, max(least, room // spec.windows))
    count = min(spec.windows, room // paired)
    ends = tuple(short + round(room * (i + 1) / count) for i in range(count))
    return replace(spec, paired_tokens=paired), ends


def run(
    loaded: LoadedModel,
    setting: Setting,
    documents: Documents,
    on_step: OnStep = no_progress,
    scales: Scales | None = None,
) -> Diagnosis:
    """All diagnostics of `loaded` under the setting's interpolation and quantizers.

    Args:
        scales: put into W_Q and W_K for every pass, the reference's too, and taken out again bit for bit.
            `symmetric` ones leave the reference's logits as they are, so that noise compares like for like.
    Raises:
        BadText, BadSpec: text or lengths that do not fit. BadScales: scales of another model.
        OutOfMemory: names the length that does.
    """
    with loaded.lock:
        return _Run(loaded, setting.rope, setting.quant, plan(loaded, setting, documents), on_step, scales).result()


class _Run:
    """The passes of one diagnosis, in order."""

    def __init__(
        self,
        loaded: LoadedModel,
        rope: RopeSpec,
        quant: QuantSpec,
        plan: DiagnosisPlan,
        on_step: OnStep,
        scales: Scales | None = None,
    ) -> None:
        self.scales = scales
        self.loaded, self.rope, self.quant, self.plan, self.on_step = loaded, rope, quant, plan, on_step
        self.seconds: dict[str, float] = {}
        self.done, self.what = 0, ""
        short = plan.short_ids.numel()
        native = without_interpolation(loaded)
        self.native = None if native == rope else native  # what the native pass runs with; None: there is none
        self.total = plan.length * (1 if quant.is_none else 2) + short * (1 if self.native is None else 2)
        geo = loaded.geometry
        self.bands = bands_of(loaded, plan.spec.bands)
        widest = max(last - first + 1 for first, last in self.bands) * 2
        per_window = plan.spec.paired_tokens * widest
        n = len(plan.ends)
        keep = {
            "q": TopTail.kept_for(plan.spec.eps, per_window * geo.queries_per_kv, n),
            "k": TopTail.kept_for(plan.spec.eps, per_window, n),
        }
        bins = PositionBins(plan.length, plan.spec.position_bins)
        self.measurement = Measurement(
            geo, self.bands, plan.length, bins, plan.ends, plan.spec.paired_tokens, keep, plan.spec
        )

    def result(self) -> Diagnosis:
        """Run every pass and assemble."""
        if self.quant.changes_projections:  # the quantized pass reads beside the reference's K: asked before either
            require_room(self.loaded, self.plan.length, weights_copied=self.quant.weights is not None, keys_kept=True)
        served = Condition(self.rope, self.quant, self.scales)
        quantized = calibrated(self.loaded, served, self.plan.ids, self.plan.chunk)
        turning = layer_group_ropes(self.loaded, self.rope, self.plan.length)
        long_tails = PairedTails(self.measurement)
        hidden = HiddenRows(self.measurement, self.plan.spec.seed)
        rows = Sampled(log_spaced(self.plan.length - 1, self.plan.spec.query_rows))
        kept = Reference(self.measurement, rows) if self.quant.changes_projections else None
        with open_stream(self.loaded, self._reference(self.rope), self.plan.length, chunk=self.plan.chunk) as stream:
            rounding = Rounding(self.loaded.geometry, self.quant, stream, quantized.static)
            local = Recorders.of(self.measurement, rounding, turning, rows, self.plan.short_length)
            long = LongContext(self.measurement, rounding, rows, local.on_long_pass())
            riding: list[Observer] = [long_tails, long, *([] if self.quant.is_none else [hidden])]
            self._read("long", stream, self.plan.ids[None], riding + ([kept] if kept else []))
        short = self._short("short", self._reference(self.rope))
        native = None
        if self.native is not None:
            mine = part_alike(self.loaded.geometry, self.native, self.scales)
            native = self._short("native", Condition(self.native, scales=mine))
        if not self.quant.is_none:
            hidden.meter = SimilarityMeter(self.loaded.geometry.n_layers, self.measurement.bins)
            with open_stream(self.loaded, quantized, self.plan.length, chunk=self.plan.chunk) as stream:
                watching: list[Observer] = [hidden]
                if kept is not None and local.propagated is not None:
                    rounding = Rounding(self.loaded.geometry, self.quant, stream, quantized.static)
                    watching.append(QuantizedPass(self.measurement, rows, rounding, kept, *local.of_quantized_pass()))
                self._read("quantized", stream, self.plan.ids[None], watching)
        passes = Passes(turning, long_tails, local, short, native, hidden.meter, self.scales)
        found = assemble(self.loaded, self.rope, self.quant, self.plan, self.measurement, passes, self.seconds)
        return self._with_output_costs(found) if self.plan.spec.band_cost else found

    def _with_output_costs(self, found: Diagnosis) -> Diagnosis:
        """What each band alone costs the next token, beside what it costs the attention."""
        assert found.band_cost is not None
        started = time.perf_counter()
        say = subprogress(
            lambda step: self.on_step(replace(step, stage="diagnose")), self.total, self.total, self.total
        )
        costs, tokens = output_costs(self.loaded, self.rope, self.scales, self.plan.ids, self.measurement, say)
        self.seconds["band cost"] = time.perf_counter() - started
        kept = found.band_cost.model_copy(update={"output_kl": costs, "output_tokens": tokens})
        return found.model_copy(update={"band_cost": kept, "seconds": self.seconds})

    def _reference(self, rope: RopeSpec) -> Condition:
        """Unquantized, with the scales in the weights."""
        return Condition(rope, scales=self.scales)

    def _short(self, name: str, condition: Condition) -> PairedTails:
        """One pass over the short windows, several at a time."""
        ids = self.plan.short_ids
        tails = PairedTails(self.measurement, short_length=self.plan.short_length)
        batch = max(1, min(len(ids), SHORT_BATCH_TOKENS // ids.shape[1]))
        with open_stream(self.loaded, condition, ids.shape[1], chunk=ids.shape[1], batch=batch) as stream:
            for first in range(0, len(ids), batch):
                tails.first_window = first
                self._read(name, stream, ids[first : first + batch], [tails])
        return tails

    def _read(self, name: str, stream: Stream, ids: Tensor, observers: list[Observer]) -> None:
        started = time.perf_counter()
        for piece in stream.run(ids, observers):
            return_freed_pages()
            self.done += piece.hidden.shape[0] * piece.hidden.shape[1]
            self.on_step(Step("diagnose", self.done, self.total, f"{name} pass"))
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
