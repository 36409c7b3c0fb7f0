"""One cell: its run folder found or filled, and its row. All that a worker has to call."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from qroar_core.errors import BadOutput, BadSpec, Cancelled, QRoarError
from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.result import Evaluation
from qroar_core.interpolations.frequencies import rope_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, no_progress
from qroar_core.remedies import run as compare
from qroar_core.remedies.applicable import ROTATION
from qroar_core.remedies.layer_memory import cache_bytes
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.result import Comparison
from qroar_core.runs import pipeline
from qroar_core.runs.folder import UNTUNED, RunFolder, has
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.stage_files import file_of
from qroar_core.setting import Setting
from qroar_core.specs import ComparisonSpec, QuantSpec
from qroar_core.statistics.intervals import ends_of_kl, mean_interval, paired_interval
from qroar_core.sweeps.address import address, diagnosis_digest
from qroar_core.sweeps.cell import Cell
from qroar_core.sweeps.claims import Claims, Held
from qroar_core.sweeps.remedy_words import WORDS, RemedyWord
from qroar_core.sweeps.result import DONE, FAILED, NOT_KEPT, SweepRow
from qroar_core.sweeps.shared_work import SharedWork
from qroar_core.transforms.file import from_file
from qroar_core.transforms.refusals import why_not
from qroar_core.transforms.registry import switches

COMMAND = "made by a sweep"
TUNED, KEPT, DIAGNOSIS, MANIFEST = "evaluation.json", "scales.json", "diagnosis.json", "manifest.json"
REFERENCE = "reference/identity"
SETTLED, UNTUNED_STAGE, COMPARED = "settle", "untuned evaluation", "compare"  # stages


def run_cell(
    cell: Cell, shared: SharedWork, root: Path, on_step: OnStep = no_progress, compute: bool = True
) -> SweepRow | None:
    """The row of a cell: from its folder below `root` where it is finished, else measured into it.

    What goes wrong is the row's one line: no other cell stops for it.

    Args:
        shared: caches of this process.
        compute: False: None where the cell is not finished.
    Raises:
        Cancelled: raised by `on_step`; finished stages stay on disk. Held: another process computes the cell now.
    """
    try:
        work = _Work.of(cell, shared, root, on_step)
        if not work.finished:
            if not compute:
                return None
            with Claims(root, shared.work).held(work.path.name, on_step) as on_step_here:
                if not work.finished:  # else another process was faster
                    work.fill(on_step_here)
        return work.row()
    except (Cancelled, Held):
        raise
    except QRoarError as problem:
        return SweepRow.of(cell, status=FAILED, why=str(problem))
    except Exception as fault:  # an internal error of one cell stops no other
        said = " ".join(f"internal error ({type(fault).__name__}): {fault}".split())
        return SweepRow.of(cell, status=FAILED, why=said[:300])


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    cell: Cell
    word: RemedyWord
    loaded: LoadedModel
    setting: Setting
    texts: Texts
    digest: str  # of the texts
    shared: SharedWork
    root: Path

    @classmethod
    def of(cls, cell: Cell, shared: SharedWork, root: Path, on_step: OnStep) -> _Work:
        """Everything that a cell stands for on its model.

        Raises:
            QRoarError: a model or text that cannot be read, or a setup that the model does not take.
        """
        word = WORDS[cell.remedy]
        loaded = shared.model(cell.model, on_step)
        texts, digest = shared.text(cell.text)
        return cls(cell, word, loaded, _setting(cell, word, loaded), texts, digest, shared, root)

    @property
    def path(self) -> Path:
        measured = "" if self.word.condition else self.cell.remedy
        return self.root / address(self.loaded, self.setting, self.digest, measured or self.file)

    @property
    def file(self) -> str:
        """What a finished cell has."""
        if self.word.kinds is not None:
            return TUNED
        return UNTUNED if self.word.condition else str(file_of(("compare", "", "", "", "", self.comparison)))

    @property
    def stage(self) -> str:
        """The last one of a cell, as its manifest notes it."""
        if self.word.kinds is not None:
            return SETTLED
        return UNTUNED_STAGE if self.word.condition else COMPARED

    @property
    def comparison(self) -> ComparisonSpec:
        """The remedy alone, on the windows of the evaluation."""
        asked = self.setting.evaluation
        return ComparisonSpec(
            methods=(self.cell.remedy,),
            band_scales=False,
            search=self.setting.search,
            windows=asked.windows,
            fewer=asked.fewer,
            seed=self.cell.seed,
        )

    @property
    def finished(self) -> bool:
        needed = (self.file, MANIFEST, *([KEPT] if self.word.kinds is not None else ()))
        if not all(has(self.path, name) for name in needed):
            return False
        return self.stage in Manifest.from_file(self.path / MANIFEST, BadOutput).stages  # noted behind its file

    def fill(self, on_step: OnStep) -> None:
        """Compute what the folder lacks, each stage saved as soon as it is there."""
        quant = self.setting.quant
        if self.cell.remedy == ROTATION and evaluate.rotated(quant) is None:
            raise BadSpec("a rotation does not apply", where="rotation", do=f"it needs {BY_NAME[ROTATION].needs}")
        if quant.is_none and self.cell.remedy != "none":
            raise BadSpec("nothing is quantized", where=self.cell.remedy, do="exclude it, or choose a quantizer")
        if not self.word.condition and BY_NAME[self.cell.remedy].under(quant) is None:
            do = f"it needs {BY_NAME[self.cell.remedy].needs}"
            raise BadSpec("does not apply to this quantizer", where=self.cell.remedy, do=do)
        folder = RunFolder.open(self.path, self.loaded, self.setting, COMMAND)
        if self.word.kinds is not None:
            self._tuned(folder, on_step)
        elif self.word.condition:
            started = time.perf_counter()
            made = evaluate.run(
                self.loaded, self.setting, None, None, self.texts["heldout"], on_step, shared=self.shared.losses
            )
            folder.save(UNTUNED, made, UNTUNED_STAGE, time.perf_counter() - started)
        else:
            started = time.perf_counter()
            compared = compare.run(
                self.loaded, self.setting, self.comparison, self.texts, on_step, shared=self.shared.losses
            )
            folder.save(self.file, compared, COMPARED, time.perf_counter() - started)

    def _tuned(self, folder: RunFolder, on_step: OnStep) -> None:
        """As `run` does it, with the diagnosis that cells of one quantizer share."""
        loaded, setting, texts, shared = self.loaded, self.setting, self.texts, self.shared
        started = time.perf_counter()
        if not has(folder.path, DIAGNOSIS):
            name = diagnosis_digest(loaded, setting, self.digest)
            diagnosis = shared.diagnosis(loaded, setting, texts, name, self.root, on_step)
            folder.save(DIAGNOSIS, diagnosis, "diagnose", time.perf_counter() - started)
        captures, losses = shared.captures, shared.losses
        pipeline.tuned(loaded, setting, texts, folder, on_step, baseline=False, captures=captures, losses=losses)

    def row(self) -> SweepRow:
        """What the folder's files say.

        Raises:
            BadOutput: a file of it cannot be read. BadSpec: the remedy turned out to have nothing to measure.
        """
        numbers = self._of_evaluation() if self.word.condition else self._of_comparison()
        loss = paired_interval(numbers.window_nll, numbers.window_nll_reference)
        kl_low, kl_high = numbers.ends_of_kl
        seconds = Manifest.from_file(self.path / MANIFEST, BadOutput).stages.values()
        return SweepRow.of(
            replace(self.cell, length=self.length, windows=len(numbers.window_nll)),
            nll=numbers.nll,
            nll_reference=numbers.nll_reference,
            loss=loss.mean,
            loss_low=loss.low,
            loss_high=loss.high,
            kl=numbers.kl,
            kl_low=kl_low,
            kl_high=kl_high,
            bytes_per_token=cache_bytes(self.loaded.geometry, numbers.quant, self.length),
            kept=self._kept() if self.word.kinds is not None else "",
            seconds=round(sum(seconds), 3),
            status=DONE,
            run=self.path.name,
        )

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.setting.evaluation.lengths[-1]

    def _of_evaluation(self) -> _Numbers:
        found = Evaluation.from_file(self.path / self.file, BadOutput)
        quant = self.setting.quant
        rows = {f"{row.model}/{row.scales}": row for row in found.rows}
        name = REFERENCE if quant.is_none else self.word.condition
        nll = {one: found.window_nll[f"{self.length}/{one}"] for one in (name, REFERENCE)}
        if self.cell.remedy == ROTATION:
            quant = evaluate.must_rotate(quant)
        mine = rows[name]
        kl_se = None if mine.close is None else mine.close.kl_mean_se
        return _Numbers(mine.nll, rows[REFERENCE].nll, nll[name], nll[REFERENCE], mine.kl_mean, kl_se, quant)

    def _of_comparison(self) -> _Numbers:
        found = Comparison.from_file(self.path / self.file, BadOutput)
        row = next((one for one in found.rows if one.method == self.cell.remedy), None)
        if row is None:
            raise BadSpec("has no row here", where=self.cell.remedy, do=found.sentences[-1])
        quant = BY_NAME[self.cell.remedy].under(self.setting.quant) or self.setting.quant
        quant = replace(quant, keep_layers=tuple(row.kept_layers))
        before = found.reference_window_nll
        kl_se = None if row.window_kl is None else mean_interval(row.window_kl).se
        return _Numbers(row.nll, found.reference_nll, row.window_nll, before, row.kl, kl_se, quant)

    def _kept(self) -> str:
        """Whether the run keeps what the search found, which is what the row's NLL is of."""
        scales, _ = from_file(self.path / KEPT, self.loaded)
        return NOT_KEPT if scales.is_identity else "found"


@dataclass(frozen=True, slots=True, eq=False)
class _Numbers:
    """What a finished cell measured, and the quantizers that the cache has."""

    nll: float
    nll_reference: float
    window_nll: list[float]
    window_nll_reference: list[float]
    kl: float | None
    kl_se: float | None  # over windows; None: not kept
    quant: QuantSpec

    @property
    def ends_of_kl(self) -> tuple[float | None, float | None]:
        """The ends of its interval."""
        return (None, None) if self.kl is None else ends_of_kl(self.kl, self.kl_se, len(self.window_nll))


def _setting(cell: Cell, word: RemedyWord, loaded: LoadedModel) -> Setting:
    """As the command line makes it of the same options, with `--lengths` the context alone."""
    setting = cell.setup.resolve(loaded)
    rope_of(loaded, setting.rope, setting.diagnosis.length or loaded.geometry.original_context)
    search_spec, asked = setting.search, setting.evaluation
    if cell.windows is not None:
        search_spec = replace(search_spec, windows=cell.windows, fewer=False)
        asked = replace(asked, windows=cell.windows, fewer=False)
    kinds = set(word.kinds or ())
    if word.where_taken:
        kinds -= set(why_not(loaded.geometry, setting.rope, setting.quant))
        kinds = {name for name in kinds if set(switches()[name].needs) <= kinds}
    return replace(
        setting,
        search=search_spec.of_kinds(kinds),
        evaluation=replace(asked, lengths=asked.lengths[-1:], rotation=cell.remedy == ROTATION),
    )
