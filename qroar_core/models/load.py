"""Stage 1: from what a person types to a `LoadedModel`: demo, smollm2, a folder, a .gguf file or a hub id.

Only safetensors and GGUF are read, code from a checkpoint is never run, and a checkpoint with
missing or non-finite weights is refused rather than filled in.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch

from qroar_core.errors import BadCheckpoint, BadSpec, OutOfMemory, QRoarError, UnsupportedModel
from qroar_core.models import cache_scales
from qroar_core.models.checkpoint_files import check_files, has, table_in
from qroar_core.models.checksum import checksum
from qroar_core.models.config_check import check_raw
from qroar_core.models.config_keys import check_keys, remark
from qroar_core.models.config_rope import check_rope, restated
from qroar_core.models.config_scales import check_scales, refuse_scales_of_layers
from qroar_core.models.device_map import spread
from qroar_core.models.devices import choose_devices
from qroar_core.models.families import Family, family_of
from qroar_core.models.file_stamp import stamp_of
from qroar_core.models.fill_weights import filled, refuse_non_finite
from qroar_core.models.formats.declared import KEYS as QUANTIZATION_KEYS
from qroar_core.models.formats.declared import quantization_of
from qroar_core.models.generation import generation_ends
from qroar_core.models.loaded import LoadedModel, fingerprint
from qroar_core.models.own_dtype import DTYPES
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.size_check import check_sizes
from qroar_core.models.sources import Source, locate
from qroar_core.models.tokenizer import read_tokenizer
from qroar_core.progress import OnStep, Step, no_progress, run_cancellable


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a CPU (bfloat16 is no faster there) and bfloat16 elsewhere."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise BadSpec(f"unknown dtype {name!r}", where="--dtype", do=f"choose auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def run(source: str, *, device: str = "auto", dtype: str = "auto", on_step: OnStep = no_progress) -> LoadedModel:
    """Load a checkpoint for inference.

    Raises:
        BadCheckpoint: missing, corrupt, pickle-only, incomplete, or holding NaN.
        UnsupportedModel: no RoPE, or a layout this software does not know.
        BadSpec: a device or dtype that cannot be had.
    """
    devices = choose_devices(device)
    kind = choose_dtype(dtype, devices[0])
    on_step(Step("load", 0, 4, f"find {source}"))
    found = locate(source, on_step)
    stamp = stamp_of(found.folder, found.file)  # before anything is read: a change from here on shows
    check_files(found.folder)  # before gigabytes of weights; the tokenizer is read last
    raw = _raw_config(found)
    found = replace(found, config=raw)
    family = family_of(_architectures(raw, found), found.label)  # before transformers, which knows fewer reasons
    check_raw(raw, str(found.folder / "config.json"))
    shapes = run_cancellable(found.shapes, on_step, Step("load", 0, 4, "read the headers"))
    check_sizes(raw, shapes, family.layers_at, str(found.folder))
    config = read_config(found, raw)
    family = family_of(config.architectures, found.label)
    _refuse_layout(family, config, found)  # before gigabytes are read
    read = Step("load", 1, 4, "read weights")
    stored, note = run_cancellable(found.tensors, on_step, read)
    found = replace(found, note="; ".join(filter(None, (note, remark(raw)))))
    model = run_cancellable(lambda: filled(config, stored, kind, family, str(found.folder)), on_step, read)
    refuse_scales_of_layers(model, str(found.folder / "config.json"))
    ends = generation_ends(found.folder)
    if ends is not None:
        model.generation_config.eos_token_id = ends
    run_cancellable(lambda: refuse_non_finite(model, found.label), on_step, Step("load", 2, 4, "check weights"))
    tokenizer = _read_tokenizer(found, model)
    move = Step("load", 3, 4, f"move to {' and '.join(map(str, devices))}")
    loaded = run_cancellable(lambda: as_loaded(model, tokenizer, family, found, *devices), on_step, move)
    loaded.stamp = stamp
    if found.file is None and (ranges := cache_scales.read(found.folder, raw, loaded)) is not None:
        loaded.cache_scales, loaded.checksum = ranges, cache_scales.checksum_with(loaded.checksum, ranges)
    run_cancellable(lambda: _refuse_what_does_not_run(loaded), on_step, move)
    on_step(Step("load", 4, 4, "loaded"))
    return loaded


def _refuse_layout(family: Family, config: Any, found: Source) -> None:
    """A family knows no folder: what it refuses is said of the file that the person can look at."""
    where, do = str(found.folder / "config.json"), "check config.json"
    if found.file is not None:
        where, do = str(found.file), "fetch it again"
    try:
        family.geometry(config, 0)
    except QRoarError as error:
        raise type(error)(error.what, where=where, do=error.do or do) from error
    except Exception as error:  # arithmetic on numbers that do not fit together
        raise BadCheckpoint(f"its numbers do not fit together: {_message(error)}", where=where, do=do) from error


@torch.inference_mode()
def _refuse_what_does_not_run(loaded: LoadedModel) -> None:
    """Two tokens through the model: sizes that only a forward pass brings together are refused here, not in a stage."""
    ids = torch.zeros(1, 2, dtype=torch.int64, device=loaded.device)
    try:
        loaded.model(ids, use_cache=False)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory("no room for a forward pass", where=str(loaded.device), do="choose --device cpu") from error
    except Exception as error:  # whatever the model's own code meets
        raise BadCheckpoint(
            f"its config and its weights do not run together: {_message(error)}",
            where=loaded.name,
            do="check config.json",
        ) from error


def as_loaded(model: Any, tokenizer: Any, family: Family, found: Source, *devices: torch.device) -> LoadedModel:
    """Wrap a transformers model that is in memory already (tests build tiny ones), over one device or several."""
    model.eval().requires_grad_(False)
    if found.config is None and found.folder is not None and has(found.folder, "config.json"):
        found = replace(found, config=_raw_config(found))
    weights, everything = fingerprint(model), checksum(model, tokenizer, found.config)
    try:
        if len(devices) > 1:
            spread(model, devices)
        else:
            model.to(devices[0])
    except torch.OutOfMemoryError as error:
        raise OutOfMemory("the weights do not fit", where=str(devices[0]), do="choose --device cpu") from error
    parameters = sum(p.numel() for p in model.parameters())
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        family=family,
        geometry=family.geometry(model.config, parameters),
        name=found.label,
        source=found.asked,
        fingerprint=weights,
        checksum=everything,
        device=devices[0],
        dtype=model.dtype,
        note=found.note,
        template=found.folder,
        config=found.config,
        stored=found.formats(),
        file=found.file,
    )
    loaded.slots()  # refuses a layout whose parameters are not where the family says
    turned = family.rotated_channels(model)
    if turned != {loaded.geometry.rotary_dim}:  # this family's code does not read partial_rotary_factor
        raise UnsupportedModel(
            f"its config asks for {loaded.geometry.rotary_dim} rotated channels, "
            f"{family.name} turns {', '.join(map(str, sorted(turned)))}",
            where=found.label,
            do="check partial_rotary_factor",
        )
    return loaded


def _raw_config(found: Source) -> dict[str, Any]:
    if not has(found.folder, "config.json"):
        raise BadCheckpoint("no config.json", where=str(found.folder), do="give a Hugging Face model folder")
    return table_in(found.folder / "config.json")


def read_config(found: Source, raw: dict[str, Any]) -> Any:
    """The checkpoint's config.

    Args:
        raw: config.json as it lies in the folder.
    Raises:
        BadCheckpoint: a config.json that transformers cannot read.
        UnsupportedModel: an architecture no family knows, or a key that its code does not compute with.
    """
    from transformers import AutoConfig

    path = found.folder / "config.json"
    family = family_of(_architectures(raw, found), found.label)
    check_raw(raw, str(path))
    said = restated(raw)
    if said is not raw:
        check_raw(said, str(path))
    quantization_of(found.folder, raw)  # says what is wrong with settings that transformers would fall over
    try:
        with quiet_transformers():
            if said is raw:
                config = AutoConfig.from_pretrained(found.folder, trust_remote_code=False)
            else:
                config = AutoConfig.for_model(**said)
    except Exception as error:  # configs compute: whatever numbers that do not fit together make them raise
        what, do = _not_taken(said, error)
        raise BadCheckpoint(what, where=str(found.folder), do=do) from error
    check_keys(raw, config, str(path))
    check_scales(config, str(path))
    check_rope(raw, config, family, str(path))
    if getattr(config, "head_dim", 0) is None:  # Mixtral's, which transformers' YaRN cannot do without
        config.head_dim = config.hidden_size // config.num_attention_heads
    for key in QUANTIZATION_KEYS:  # the tensors of `found` are dequantized while they are read
        config.__dict__.pop(key, None)
    return config


def _not_taken(raw: dict[str, Any], error: Exception) -> tuple[str, str]:
    """What is wrong with a config that transformers refuses, and what to do: it takes no 256.0 for 256."""
    named = re.search(r"field '(\w+)'", str(error))
    value = raw.get(named[1]) if named else None
    if named and isinstance(value, float) and value.is_integer():
        return f"{named[1]} in config.json is {value}, not a whole number", f"write {int(value)} there"
    return f"config.json cannot be read: {_message(error)}", "check config.json"


def _architectures(raw: dict[str, Any], found: Source) -> list[str] | None:
    names = raw.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise BadCheckpoint(
            "architectures in config.json is no list of names", where=str(found.folder), do="check config.json"
        )
    return names


def _read_tokenizer(found: Source, model: Any) -> Any:
    return read_tokenizer(found.folder, found.label, rows=model.get_input_embeddings().weight.shape[0])


def _message(error: BaseException) -> str:
    """What an error of another library says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
