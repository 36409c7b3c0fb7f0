"""What `export` does beyond the plain Hugging Face folder. Writers are imported when they are asked for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.errors import BadSpec
from qroar_core.exporters.formats import FORMATS, written_by
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.interpolations.tie import ties_words
from qroar_core.specs import RopeSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.exporters.cache_scales import CacheScales
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Texts
    from qroar_core.transforms.scales import Scales


def writer(options: dict[str, Any], scales: CacheScales | None = None) -> Callable[..., Path]:
    """The writer of the asked format.

    Raises:
        BadSpec: --group-size with a format that has no groups to choose.
    """
    from qroar_core.exporters.writers import writer_of
    from qroar_core.models.own_dtype import DTYPES

    format, group_size = options["format"], options.get("weight_group")
    if group_size is not None and not FORMATS[format].takes_group_size:
        raise BadSpec(f"--format {format} has no group size", where="--group-size", do="drop it, or --format w4a16")
    return writer_of(format, group_size=group_size, dtype=DTYPES.get(options.get("dtype", "auto")), cache_scales=scales)


def tell_about(loaded: LoadedModel, rope: RopeSpec, options: dict[str, Any]) -> None:
    """Once it is written, say what an export changed unasked: the checkpoint's own interpolation, its number format."""
    from qroar_core.models.own_dtype import DTYPES, kept_dtype, written_dtype
    from qroar_core.models.own_rope import own_rope, replaced_rope

    _tell_rope(rope, own_rope(loaded), replaced_rope(loaded, rope))
    if FORMATS[options["format"]].takes_dtype:
        dtype, why = written_dtype(loaded, DTYPES.get(options["dtype"]))
        if dtype != kept_dtype(loaded):
            tables.note(f"weights were written as {why}")


def _tell_rope(rope: RopeSpec, own: str, replaced: str) -> None:
    """Whether the interpolation that the checkpoint has itself was kept or replaced, and how tied pairs are written.

    Nothing where it has none and none are tied.
    """
    from qroar_core.models.own_rope import NONE

    if replaced:
        tables.note(
            f"the checkpoint's own interpolation was replaced: {rope.method} x{rope.factor:g} replaces {replaced}"
        )
    elif own != NONE:
        tables.note(f"the checkpoint's own interpolation was kept: {own}")
    if rope.attention_factor is not None and not rope.tie:
        tables.note(
            f"the attention factor of {rope.attention_factor:g}, over the one that {rope.method} has itself, is in W_Q "
            "and W_K: not every runtime reads it from a config"
        )
    if rope.tie:
        tables.note(
            f"pairs {ties_words(rope.tie)}: frequencies are written as a divisor per pair, and the attention factor, "
            "where it is not 1, is in W_Q and W_K"
        )


def require_heard(options: dict[str, Any]) -> None:
    """Refuse what is said of serving where nobody asks how to serve, and scales that nothing could hold.

    Raises:
        BadSpec: names the option.
    """
    from qroar_core.cli.settings import quant_spec
    from qroar_core.specs import QuantSpec

    scales = options["cache_scales"]
    for name in ("k", "v", "kv", "length"):
        if options.get(name) is not None and not (options["print_serving"] or scales):
            do = "add --print-serving or --cache-scales, or drop it"
            raise BadSpec("an export is not written by it", where=f"--{name}", do=do)
    for name in ("text", "dataset"):
        if options.get(name) is not None and not scales:
            raise BadSpec("an export reads no text", where=f"--{name}", do="add --cache-scales, or drop it")
    if scales:
        from qroar_core.exporters.cache_scales import require_scaled_cache

        require_scaled_cache(quant_spec(options) or QuantSpec(), options["format"])


def cache_scales(
    loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, options: dict[str, Any], texts: Texts | None
) -> CacheScales | None:
    """Those of --cache-scales; None without it.

    Raises:
        BadText: too little text.
    """
    if texts is None:
        return None
    from qroar_core.exporters.writers import cache_scales_of
    from qroar_core.setting import default_setting

    length = default_setting(loaded, rope, length=options.get("length")).search.length or 0
    return cache_scales_of(
        options["format"],
        loaded,
        rope,
        scales,
        texts["calibration"],
        length,
        group_size=options.get("weight_group"),
    )


def require_promised(loaded: LoadedModel, rope: RopeSpec, options: dict[str, Any]) -> None:
    """Refuse to serve more than the export promises, before it is written.

    Raises:
        BadSpec: a longer --length.
    """
    if not options.get("length"):
        return
    from qroar_core.exporters.exported import of_setting
    from qroar_core.models.own_rope import exported_context

    promised = of_setting(loaded, rope, options["format"], None).context
    if not promised:  # of a file, which says its window itself
        promised = exported_context(loaded.model.config.max_position_embeddings, loaded.geometry, rope)
    if options["length"] > promised:
        do = "add --rope and --factor" if rope.method == "default" else "raise --factor"
        raise BadSpec(f"the export promises {promised:,} tokens", where="--length", do=f"{do}, or give less")


def say_written(folder: Path, options: dict[str, Any]) -> None:
    """The folder, and with --print-serving how each runtime serves it."""
    if not options["print_serving"]:
        tables.line(str(folder))
        return
    from qroar_core.cli.settings import quant_spec
    from qroar_core.exporters.folder import NOTE
    from qroar_core.exporters.readers import limits_of, recipes
    from qroar_core.exporters.served import served_folder
    from qroar_core.models.family_preset import for_family
    from qroar_core.specs import QuantSpec

    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    quant = for_family(quant_spec(options) or QuantSpec(), note["from"]["family"])
    served = served_folder(folder, note, rope_of_block(note["rope"]), options.get("length") or 0, quant)
    tables.serving(folder, recipes(served), limits_of(served.export), options["json"])


def repeats(options: dict[str, Any]) -> str:
    """The line that repeats this command."""
    return "python -m qroar_core " + shlex.join(options["arguments"] or [])


def copy(options: dict[str, Any], rope: RopeSpec | None) -> Path:
    """`export FILE.gguf --format gguf`: the file's own codes, scaled.

    Raises:
        BadSpec: MODEL is no .gguf file, or there is nothing to change.
    """
    from qroar_core.models.formats.gguf.source import gguf_of

    with tables.progress() as on_step:
        source = gguf_of(options["model"], on_step)
    if source is None:
        raise BadSpec(
            f"{options['model']} is no .gguf file",
            where="--format gguf",
            do=f"choose one of {', '.join(written_by('gguf_write'))}",
        )
    if not options.get("scales") and rope is None:
        raise BadSpec("nothing to change", where="--format gguf", do="add --scales FILE, or --rope and --factor")
    from qroar_core.exporters import gguf_copy
    from qroar_core.exporters.folder import NOTE

    with tables.progress() as on_step:
        folder = gguf_copy.run(
            source, options.get("scales"), rope, options["out"], command=repeats(options), on_step=on_step
        )
    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    _tell_rope(rope_of_block(note["rope"]), note["own_rope"], note["replaces"])
    return folder
