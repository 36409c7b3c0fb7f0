"""The run folder: what is finished is a whole file, what is not is absent, so a killed run resumes."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from qroar_core.errors import BadOutput
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replaced_rope
from qroar_core.plain_file import is_there, reason
from qroar_core.result import Result, rounded
from qroar_core.runs.manifest import CHECKSUM_COVERS, Manifest
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, EvaluationSpec, SearchSpec
from qroar_core.specs.written import under_todays_names
from qroar_core.transforms.file import identity_of, temporary_prefix, write_atomically
from qroar_core.version import VERSION

R = TypeVar("R", bound=Result)
DEFAULTS: dict[str, Any] = {"diagnosis": DiagnosisSpec(), "search": SearchSpec(), "evaluation": EvaluationSpec()}
FILES = (
    "manifest.json",
    "diagnosis.json",
    "scales_found.json",
    "scales_smooth_attention.json",
    "scales_mad.json",
    "scales_rotation.json",
    "search.json",
    "evaluation.json",
    "scales.json",
    "report.html",
)
ROTATED = "scales_rotation.json"
SEARCHED = {"scales_found.json": "found", "scales_smooth_attention.json": "smooth", "scales_mad.json": "mad"}
UNTUNED = "evaluation_untuned.json"  # the dashboard's, where the quantized model was measured before any search
TASK_SCORES = "lm_eval.json"  # of the command `lm-eval`, whose folder is a run with this alone
RETRIEVALS = {True: "retrieval.json", False: "retrieval_untuned.json"}  # with scales, before any search
SEVERAL = {  # stages of which a run holds a STAGE-DIGEST.json a question, and what it holds: one and several
    "compare": ("comparison of remedies", "comparisons of remedies"),
    "controls": ("controls", "sets of controls"),
    "replicate": ("claims", "sets of claims"),
    "predict": ("prediction", "predictions"),
    "tune_rope": ("search of interpolations", "searches of interpolations"),
}
FORMERLY = {"compare": "league"}  # the names of such stages in runs of before 2026-11-29
CHECKSUMS = "2026-11-28"  # since then a run knows its model by all that decides its numbers
PACKAGES = ("torch", "transformers", "numpy", "pandas", "plotly", "streamlit")


def has(folder: Path, name: str) -> bool:
    """Does a run hold this file?

    Raises:
        BadOutput: something stands there that is no plain file; taken for an absent one, its stage would run again.
    """
    try:
        return is_there(folder / name)
    except OSError as error:
        said = f"cannot be read: {reason(error)}"
        raise BadOutput(said, where=str(folder / name), do="remove it, or choose another run") from error


def lying(folder: Path, name: str) -> Path:
    """Where a run's file lies: under its name, or the one that an older version gave it."""
    stage, _, rest = name.partition("-")
    former = folder / f"{FORMERLY.get(stage, stage)}-{rest}"
    return former if rest and former.is_file() and not (folder / name).is_file() else folder / name


def answers_of(folder: Path, stage: str) -> list[str]:
    """Names of the files of a stage of which a run holds several, sorted; those of older versions too."""
    names = {stage, FORMERLY.get(stage, stage)}
    return sorted({path.name for name in names for path in folder.glob(f"{name}-*.json")})


class RunFolder:
    """One run on disk. Opening an existing folder resumes it, and only if it is the same run."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: Path | str, loaded: LoadedModel, setting: Setting, command: str) -> RunFolder:
        """Make the folder, or take up the same run again.

        Raises:
            BadOutput: it exists and is not a run, or a run of another model, setting or text.
        """
        path = Path(path).expanduser()
        wanted = manifest_of(loaded, setting, command)
        _sweep(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            existing = path / "manifest.json"
            if not has(path, existing.name):
                raise BadOutput("exists and is not a run", where=str(path), do="choose a new folder")
            found = Manifest.from_file(existing, BadOutput)
            other = _other(found, wanted)
            if other is None:
                return cls(path, found)
            if found.stages or any(file.name != existing.name for file in path.iterdir()):
                raise BadOutput(f"holds a run {other[0]}", where=str(path), do=other[1])
            # one that ended before its first stage holds nothing that is lost
        folder = cls(path, wanted)
        folder._write("manifest.json", wanted.to_json())
        return folder

    def load(self, name: str, kind: type[R]) -> R | None:
        """A finished result, or None when the stage has to run.

        Raises:
            BadOutput: what stands there cannot be read.
        """
        return kind.from_file(self.path / name, BadOutput) if has(self.path, name) else None

    def save(self, name: str, content: Result | str, stage: str, seconds: float) -> None:
        """Write a stage's file, then note the stage in the manifest."""
        self._write(name, content if isinstance(content, str) else content.to_json())
        stages = self.manifest.stages | {stage: round(seconds, 3)}
        self.manifest = self.manifest.model_copy(update={"stages": stages})
        self._write("manifest.json", self.manifest.to_json())

    def _write(self, name: str, text: str) -> None:
        write_atomically(self.path / name, text)


def _other(found: Manifest, wanted: Manifest) -> tuple[str, str] | None:
    """In what two runs differ and what to do, None where they are the same."""
    found = found.model_copy(update={"specs": under_todays_names(found.specs)})
    for what, word in (("model", "model"), ("specs", "setting"), ("text", "text"), ("dtype", "dtype")):
        one, two = (_plain(_filled(getattr(manifest, what))) for manifest in (found, wanted))
        if one != two:
            parts = [name for name in {**one, **two} if one.get(name) != two.get(name)] if what == "specs" else []
            said = f"{word} ({', '.join(parts)})" if parts else word
            return f"with another {said}", "choose a new folder or the same options"
    if found.identity == wanted.identity:
        return None
    if found.identity:
        return "of the same weights under another config or tokenizer", "choose a new folder"
    return f"of an older version, which knows its model {known_by(found)}", "choose a new folder"


def known_by(manifest: Manifest) -> str:
    """By what an older run knows its model."""
    if manifest.checksum:
        return "without its special tokens and its chat template"
    return f"by a sample of its weights only (before {CHECKSUMS})"


def _filled(noted: Any) -> Any:
    """A manifest's entry with the options that are younger than it: a run made without them has their defaults."""
    if not isinstance(noted, dict):
        return noted
    return {
        part: json.loads(json.dumps(rounded(asdict(DEFAULTS[part])))) | specs
        if part in DEFAULTS and isinstance(specs, dict)
        else specs
        for part, specs in noted.items()
    }


def _sweep(path: Path) -> None:
    """Remove what a kill in the middle of a write left: it holds nothing that is finished."""
    for name in (*FILES, UNTUNED, *RETRIEVALS.values(), *SEVERAL):  # of SEVERAL: whatever the digest
        for left in path.glob(f"{temporary_prefix(name)}*"):
            left.unlink(missing_ok=True)


def _plain(noted: Any) -> Any:
    """A manifest's entry without what decides no number: a quantizer's display name, and who asked for the windows."""
    if not isinstance(noted, dict):
        return noted
    left_out = {"quant": ("name",)}
    return {
        part: {name: value for name, value in specs.items() if name not in left_out.get(part, ("fewer",))}
        if isinstance(specs, dict)
        else specs
        for part, specs in noted.items()
    }


def manifest_of(loaded: LoadedModel, setting: Setting, command: str) -> Manifest:
    """What makes a run of this model and setting, begun now."""
    import torch

    device = torch.cuda.get_device_name() if loaded.device.type == "cuda" else f"{loaded.device} {platform.processor()}"
    specs: dict[str, Any] = json.loads(json.dumps(rounded(setting.as_dict())))
    return Manifest(
        versions={"qroar": VERSION, "python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        command=command,
        model=identity_of(loaded).model_dump(),
        specs=specs,
        seed=setting.search.seed,
        device=device.strip(),
        dtype=str(loaded.dtype).removeprefix("torch."),
        text=setting.text,
        source=loaded.source,
        replaces=replaced_rope(loaded, setting.rope),
        checksum=loaded.checksum,
        covers=CHECKSUM_COVERS,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
