"""From what a person types to a `LoadedModel`: demo, smollm2, a folder, a .gguf file or a hub id.

Only safetensors and GGUF are read, code from a checkpoint is never run, and a checkpoint with
missing or non-finite weights is refused rather than filled in.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from qroar_core.errors import BadCheckpoint, BadSpec, OutOfMemory, UnsupportedModel
from qroar_core.models.devices import choose_devices
from qroar_core.models.families import Family, family_of
from qroar_core.models.formats.declared import KEYS as QUANTIZATION_KEYS
from qroar_core.models.formats.declared import quantization_of
from qroar_core.models.formats.quantized_folder import stored_tensors
from qroar_core.models.loaded import LoadedModel, fingerprint
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.sources import Source, locate
from qroar_core.models.spreading import spread
from qroar_core.progress import OnStep, Step, ignore, patiently

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a CPU (bfloat16 is no faster there) and bfloat16 elsewhere."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise BadSpec(f"unknown dtype {name!r}", where="--dtype", do=f"choose auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def load_model(source: str, *, device: str = "auto", dtype: str = "auto", on_step: OnStep = ignore) -> LoadedModel:
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
    config = read_config(found)
    family = family_of(config.architectures, found.label)
    family.geometry(config, 0)  # refuses a bad layout before gigabytes are read
    found = _with_tensors(found)
    read = Step("load", 1, 4, "read weights")
    model = patiently(lambda: _read_weights(found, config, kind, family.implementation), on_step, read)
    patiently(lambda: _refuse_non_finite(model, found.label), on_step, Step("load", 2, 4, "check weights"))
    tokenizer = _read_tokenizer(found)
    move = Step("load", 3, 4, f"move to {' and '.join(map(str, devices))}")
    loaded = patiently(lambda: as_loaded(model, tokenizer, family, found, *devices), on_step, move)
    on_step(Step("load", 4, 4, "loaded"))
    return loaded


def as_loaded(model: Any, tokenizer: Any, family: Family, found: Source, *devices: torch.device) -> LoadedModel:
    """Wrap a transformers model that is in memory already (tests build tiny ones), over one device or several."""
    model.eval().requires_grad_(False)
    identity = fingerprint(model)
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
        fingerprint=identity,
        device=devices[0],
        dtype=model.dtype,
        note=found.note,
        template=found.folder,
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


def read_config(found: Source) -> Any:
    """The checkpoint's config.

    Raises:
        BadCheckpoint: no config.json, or one that does not parse.
        UnsupportedModel: an architecture no family knows, or weights that are quantized already.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    path = found.folder / "config.json"
    if not path.is_file():
        raise BadCheckpoint("no config.json", where=str(found.folder), do="give a Hugging Face model folder")
    try:
        raw = json.loads(path.read_text())
        if not isinstance(raw, dict):
            raise ValueError("it is not a table")
        family_of(raw.get("architectures"), found.label)  # before transformers, which knows fewer reasons
        quantization_of(found.folder)  # says what is wrong with settings that transformers would fall over
        config = AutoConfig.from_pretrained(found.folder, trust_remote_code=False)
        for key in QUANTIZATION_KEYS:  # the weights come dequantized
            config.__dict__.pop(key, None)
        return config
    except (ValueError, KeyError, TypeError, AttributeError, OSError, StrictDataclassError) as error:
        raise BadCheckpoint(f"config.json cannot be read: {_message(error)}", where=str(found.folder)) from error


def _with_tensors(found: Source) -> Source:
    """The source with its weights as they are dequantized, where they are quantized."""
    _refuse_pickle(found.folder)
    tensors, label = stored_tensors(found.folder)
    return replace(found, note=f"dequantized from {label}", tensors=tensors) if label else found


def _read_weights(found: Source, config: Any, dtype: torch.dtype, implementation: str) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    given = {} if found.tensors is None else {"config": config, "state_dict": found.tensors}
    reader: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] if given else AutoModelForCausalLM
    try:
        with quiet_transformers():
            read: Any = reader.from_pretrained(
                None if given else found.folder,
                **given,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=implementation,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadCheckpoint(
            f"weights cannot be read: {_message(error)}", where=str(found.folder), do="fetch the checkpoint again"
        ) from error
    model, info = read
    extra = {key for key in info["unexpected_keys"] if ".layers." in key and key.endswith((".weight", ".bias"))}
    for names, wrong in (
        (info["missing_keys"], "are missing"),
        ({key for key, *_ in info["mismatched_keys"]}, "have another shape than config.json says"),
        (extra, "have no place in the model of config.json"),
    ):
        if names:
            raise BadCheckpoint(
                f"{len(names)} weights {wrong}, first {min(names)}",
                where=str(found.folder),
                do="fetch the checkpoint again",
            )
    return model


def _refuse_pickle(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
    if pickles:
        raise BadCheckpoint(
            f"only pickled weights ({pickles[0]})", where=str(folder), do="convert them to safetensors first"
        )
    raise BadCheckpoint("no .safetensors file", where=str(folder), do="give a folder with safetensors, or a .gguf file")


def _refuse_non_finite(model: nn.Module, label: str) -> None:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise BadCheckpoint(f"{name} holds NaN or infinity", where=label, do="fetch the checkpoint again")


def _read_tokenizer(found: Source) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(found.folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing narrower for a file it can't read
        raise BadCheckpoint(f"tokenizer cannot be read: {_message(error)}", where=str(found.folder)) from error


def _message(error: BaseException) -> str:
    """What an error of another library says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
