"""What was exported, read again and held against what it was made of.

Are the files the ones that were written (hashes), and no others there; does a scaled GGUF copy still hold the
source's codes, its keys and g times its rows; are config.json, the number formats and the promised context those of
such an export; does its tokenizer give the source's tokens, and does it, reloaded, give the logits of the source model
with the same scales and interpolation. A runtime that is named is asked too. What cannot be asked here is said, never
passed over, as is what readers do not do with such an export.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

from qroar_core.errors import BadCheckpoint, BadScales, BadSpec, QRoarError
from qroar_core.exporters import (
    cache_scales,
    verify_config,
    verify_files,
    verify_gguf,
    verify_logits,
    verify_tokenizer,
    verify_types,
)
from qroar_core.exporters.check import Check
from qroar_core.exporters.exported import of_folder, of_setting
from qroar_core.exporters.folder import NOTE
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.forward_pass import sample_ids, scored, tokens_past
from qroar_core.exporters.gguf_compare import compare, compare_keys
from qroar_core.exporters.older_readers import with_older_names
from qroar_core.exporters.readers import limits_of, readers
from qroar_core.exporters.verify_rope import interpolation
from qroar_core.exporters.verify_runtime import as_transformers_rounds, require_runtime, verify_runtime
from qroar_core.exporters.verify_weights import weights
from qroar_core.models import load
from qroar_core.models.checkpoint_files import table_in
from qroar_core.models.formats.digest import sha256
from qroar_core.models.formats.gguf.header import read_header
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import Condition
from qroar_core.plain_file import read_json
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import QuantSpec, RopeSpec, WeightQuantSpec
from qroar_core.transforms.file import rope_from
from qroar_core.transforms.registry import switches
from qroar_core.transforms.result import LARGEST, GroupMap, PolishedGroup
from qroar_core.transforms.scales import Scales, from_nested

LARGEST_NOTE = LARGEST  # every scale and every file's hash


def run(asked: Path | str, on_step: OnStep = no_progress, runtime: str = "") -> list[Check]:
    """Verify an exported folder, or the .gguf file in one.

    Args:
        runtime: a name of `exporters.readers` that is run on it, too; "" asks none.
    Raises:
        BadCheckpoint: nothing there that this software exported, or files that cannot be read.
        BadSpec: a runtime that is not known, not installed, or does not read this format.
    """
    folder = _folder(asked)
    note = _note(folder)
    runtime = runtime.replace(".", "_")  # llama.cpp, as its makers write it
    if runtime:
        require_runtime(runtime, str(note.get("format", "hf")))
    on_step(Step("verify", 0, 3, "hashes"))
    checks = verify_files.hashes(folder, note)
    if any(check.passed is False for check in checks):
        return checks  # another file's logits would say nothing
    whole_file = FORMATS[str(note.get("format", "hf"))].whole_file
    checks.append(verify_files.unlisted(folder, note, whole_file))
    if whole_file and not checks[-1].passed:
        return checks  # which of two files was meant is not known
    on_step(Step("verify", 1, 3, "reload"))
    if note.get("format") == "gguf":
        checks += _copy(folder, note)
        if runtime:
            why = "not compared: a copy is held against its source by its bytes, above"
            checks.append(Check(f"log-probabilities in {readers()[runtime].label}", why, None))
    else:
        checks += _logits(folder, note, runtime, on_step)
    on_step(Step("verify", 3, 3, "done"))
    return checks


def limits(asked: Path | str) -> list[str]:
    """What runtimes do otherwise with an exported folder, each sentence with a name and version.

    Raises:
        BadCheckpoint: as `run`.
    """
    folder = _folder(asked)
    format = str(_note(folder).get("format", "hf"))
    return limits_of(of_folder(folder, format))


def _folder(asked: Path | str) -> Path:
    folder = Path(asked).expanduser()
    return folder.parent if folder.is_file() else folder


def _note(folder: Path) -> dict[str, Any]:
    path = folder / NOTE
    try:
        note = read_json(path, LARGEST_NOTE)
        if not isinstance(note, dict) or not isinstance(note.get("files"), dict) or not note["files"]:
            raise ValueError("it lists no files")
        if str(note.get("format", "hf")) not in FORMATS:
            raise ValueError(f"its format {str(note['format'])[:60]!r} is not known here")
        for name, said in note["files"].items():
            pure = PurePosixPath(name)
            if pure.is_absolute() or ".." in pure.parts or "\\" in name or not isinstance(said, dict):
                raise ValueError(f"it lists {name[:60]!r}, no file of this folder")
        return note
    except FileNotFoundError as error:
        raise BadCheckpoint(f"no {NOTE}", where=str(folder), do="give a folder that `export` wrote") from error
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{NOTE} cannot be read ({str(error)[:120]})", where=str(folder)) from error


def _copy(folder: Path, note: dict[str, Any]) -> list[Check]:
    """A GGUF whose scales were edited, against the file it was made of."""
    said = note.get("from", {})
    source = Path(str(said.get("file", "")))
    if not source.is_file() or sha256(source) != said.get("sha256"):
        return [Check("codes and rows against the source", f"{source} is gone or changed", None)]
    rope, file = rope_from(note["rope"]), _gguf_in(folder)
    interpolated = rope.method != "default" or bool(rope.tie)
    found = compare(source, file, _scales(note), factor=_factor(note), interpolated=interpolated)
    return [
        Check(*verify_tokenizer.keys(source, file)),
        Check(*compare_keys(source, file, rope)),
        Check("tensors that must not change", f"{found.untouched} byte for byte", found.others_same),
        Check("codes of attn_q and attn_k", f"{found.edited} tensors byte for byte", found.codes_same),
        Check("rows against g times the source", f"within {found.half_steps:.3f} half steps", found.half_steps <= 1),
    ]


def _logits(folder: Path, note: dict[str, Any], runtime: str, on_step: OnStep) -> list[Check]:
    """The reloaded export against the source model under the same scales and interpolation, and its tokenizer."""
    question, format = verify_logits.QUESTION, str(note.get("format", "hf"))
    try:
        source = load.run(_source_of(note), device="cpu", dtype="float32")
        if source.fingerprint != note.get("from", {}).get("fingerprint"):
            raise BadCheckpoint("another model or dtype than the export was made of", where=source.name)
    except QRoarError as error:
        return [Check(question, f"not compared: {error}"[:160], None)]
    rope, scales = rope_from(note["rope"]), _scales(note)
    ids = sample_ids(source)
    weights_as = _weights(note)
    if format.startswith("gguf"):
        path = _gguf_in(folder)
        found = verify_types.in_gguf(source, rope, scales, path, format)
        return found + verify_gguf.checks(source, rope, scales, path, format, _factor(note), ids)
    checks = [
        Check(*verify_tokenizer.files(source.template, folder)),
        *verify_config.checks(source, rope, scales, note, folder),
        _context(source, rope, folder, format),
        verify_types.in_folder(source, note, folder),
    ]
    try:
        again = load.run(str(folder), device="cpu", dtype="float32")
    except QRoarError as error:
        return [*checks, Check(question, f"the export is refused: {error}"[:160], False)]
    factor = _factor(note)
    checks += [
        Check(*verify_tokenizer.tokens(source.tokenizer, again.tokenizer)),
        weights(source, again, scales, factor, note),
        interpolation(source, rope, again, factor),
        _older(folder),
        verify_logits.logits(source, Condition(rope, weights_as, scales), again, ids),
        *cache_scales.checks(again, note),
    ]
    if runtime:
        on_step(Step("verify", 2, 3, readers()[runtime].label))
        ids = sample_ids(source, tokens_past(source))  # dynamic NTK that is frozen shows past the native window alone
        _, wanted = scored(again, Condition(RopeSpec()), ids)
        if "cache_scales" in note and (rounded := as_transformers_rounds(folder, ids)) is not None:
            wanted = rounded
        checks.append(verify_runtime(runtime, folder, ids, wanted, source.geometry.original_context))
    return checks


def _context(source: LoadedModel, rope: RopeSpec, folder: Path, format: str) -> Check:
    """The longest text that the folder is made for, against the setting's."""
    found, wanted = of_folder(folder, format), of_setting(source, rope, format, None)
    times = f", {found.context / found.window:g} times max_position_embeddings" if found.window != found.context else ""
    answer = f"{found.context:,} tokens{times}"
    same = found.context == wanted.context
    return Check("context that it promises", answer if same else f"{answer}, not {wanted.context:,}", same)


def _older(folder: Path) -> Check:
    """Whether readers older than transformers 5 find the interpolation under the names that they know."""
    content = table_in(folder / "config.json")
    wanted = with_older_names(content, {}, {})
    if "dtype" in content and "torch_dtype" in content:  # a quantized copy keeps its source's one name
        wanted |= {"torch_dtype": content["dtype"]}
    lacking = sorted(name for name in wanted if name not in content)
    other = sorted(name for name, value in wanted.items() if content.get(name, value) != value)
    answers = [f"config.json lacks {', '.join(lacking)}"] if lacking else []
    answers += [f"{', '.join(other)} say another thing than transformers 5 reads"] if other else []
    return Check("names that transformers 4 and mlx-lm read", "; ".join(answers) or "all there", not answers)


def _source_of(note: dict[str, Any]) -> str:
    """What to load again: the GGUF file that was read, as long as it is there; else what was asked for then."""
    file = note.get("file")
    if isinstance(file, str) and Path(file).is_file():
        return file
    return str(note.get("source") or note.get("from", {}).get("name"))


def _gguf_in(folder: Path) -> Path:
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise BadCheckpoint(
            f"{len(files)} .gguf files where one belongs", where=str(folder), do="write the export again"
        )
    read_header(files[0])
    return files[0]


def _weights(note: dict[str, Any]) -> QuantSpec:
    """What the export rounded its weights to, if it did."""
    block = note.get("weights")
    try:
        return QuantSpec(weights=None if block is None else WeightQuantSpec(**block))
    except (TypeError, BadSpec) as error:
        raise BadCheckpoint(f"its weights are not understood ({error})"[:160], where=NOTE) from error


def _factor(note: dict[str, Any]) -> float:
    """What q and k were multiplied by beside the scales."""
    factor = note.get("factor", 1.0)
    if not isinstance(factor, float) or not 0 < factor < math.inf:
        raise BadCheckpoint(f"its factor is {str(factor)[:40]}, no number above 0", where=NOTE, do="export it again")
    return factor


def _scales(note: dict[str, Any]) -> Scales | None:
    block, model = note.get("scales"), note.get("from", {})
    if block is None:
        return None
    try:
        bands = tuple((int(first), int(last)) for first, last in block["bands"])
        size = model["layers"], model["kv_heads"]
        tables = {name: block[name] for name in switches() if block.get(name)}
        if "maps" in tables:
            tables["maps"] = [GroupMap(**one) for one in tables["maps"]]
        if "polish" in tables:
            tables["polish"] = [PolishedGroup(**one) for one in tables["polish"]]
        return from_nested(block["g"], block["mode"], block["granularity"], bands, *size, **tables)
    except (KeyError, TypeError, ValueError, BadScales) as error:
        raise BadCheckpoint(f"its scales are not understood ({error})"[:160], where=NOTE) from error
