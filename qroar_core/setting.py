"""All specs of one run together, and what they default to for a given model and machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qroar_core.interpolations.checkpoint_rope import promised_length
from qroar_core.models.bos import opening
from qroar_core.models.family_preset import for_family
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import NONE, own_rope
from qroar_core.models.text import SPLITS, Texts, split
from qroar_core.specs import (
    BandSpec,
    Bos,
    DiagnosisSpec,
    EvaluationSpec,
    QuantizerSpec,
    QuantSpec,
    RopeSpec,
    SearchSpec,
)
from qroar_core.specs.written import written

CPU_LENGTH, GPU_LENGTH = 2048, 16384  # default context, tokens, unless the PI's own window is shorter
DEMO_ROPE = RopeSpec("yarn", 4.0)
INT4_K = QuantSpec(k=QuantizerSpec(4), name="int4 K cache")
INT3_K = QuantSpec(k=QuantizerSpec(3), name="int3 K cache")


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that decides a run's numbers, besides the model: what every stage takes.

    `text` names the texts: an embedded collection (models.text.COLLECTIONS), or a file with its hash. `bos`: every
    window of text starts with the tokenizer's BOS token. Runs of before there was a choice have none. `own_rope`: the
    interpolation that the checkpoint ships with, "" for none: equal weights under another one are another model.
    """

    rope: RopeSpec
    quant: QuantSpec
    diagnosis: DiagnosisSpec = DiagnosisSpec()
    search: SearchSpec = SearchSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    text: str = "messages"
    bos: bool = False
    own_rope: str = ""

    @property
    def reading(self) -> str:
        """The text, how its windows start, and the model's own RoPE: what a job's key says beside the weights."""
        own = f"the checkpoint's own RoPE {self.own_rope}" if self.own_rope else ""
        return ", ".join(filter(None, (self.text, "windows start with BOS" * self.bos, own)))

    @property
    def bos_word(self) -> Bos:
        """What documents of this setting's text are told (models.text)."""
        return "on" if self.bos else "off"

    def texts(self) -> Texts:
        """Calibration, development and held-out documents of the collection.

        Raises:
            BadText: the text is no embedded collection: a run of the command line on a file of its own.
        """
        return {name: split(name, self.text, self.bos_word) for name in SPLITS}

    def as_dict(self) -> dict[str, Any]:
        """The specs, for the manifest; equal settings give equal dicts. The text has its own line there."""
        left_out = ("text", *(name for name in ("bos", "own_rope") if not getattr(self, name)))
        return {name: spec for name, spec in written(self).items() if name not in left_out}


def default_setting(
    loaded: LoadedModel,
    rope: RopeSpec | None = None,
    quant: QuantSpec | None = None,
    length: int | None = None,
    bos: Bos = "auto",
) -> Setting:
    """Fill in what was not asked.

    Without a RoPE the demo gets YaRN x4, other models keep their own; without a quantizer it is the
    K cache in int4 per token and head. The length is what the interpolation promises (the checkpoint's own
    where that is kept), at most 2,048 tokens on a CPU and 16,384 on a GPU. Windows start with BOS where the
    tokenizer puts it before a text.

    Raises:
        BadSpec: bos `on` with a tokenizer that has no BOS token.
    """
    if rope is None:
        rope = DEMO_ROPE if loaded.source == "demo" else RopeSpec()
    if quant is not None and quant.keep_layers:
        loaded.geometry.require_cache(quant)
    native = loaded.geometry.original_context
    promised = promised_length(loaded, rope)
    if length is None:
        length = min(promised, CPU_LENGTH if loaded.device.type == "cpu" else GPU_LENGTH)
    bands = BandSpec.default(loaded.geometry.n_pairs)
    short = min(native, length, max(64, length // 4))
    lengths = (short, length) if short < length else (length,)
    return Setting(
        rope=rope,
        quant=for_family(quant if quant is not None else INT4_K, loaded.geometry.family),
        diagnosis=DiagnosisSpec(length=length, short_length=min(short, max(2, length // 2)), bands=bands),
        search=SearchSpec(length=length, bands=bands, granularity=loaded.geometry.finest, fewer=True),
        evaluation=EvaluationSpec(lengths=lengths, windows=16 if length <= 1024 else 8, fewer=True),
        bos=len(opening(loaded.tokenizer, bos)) > 0,
        own_rope="" if (own := own_rope(loaded)) == NONE else own,
    )
