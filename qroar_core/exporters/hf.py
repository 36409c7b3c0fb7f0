"""Stage 5: the scaled model as a Hugging Face folder that plain transformers (and vLLM) load unchanged.

The scales are multiplied into W_Q and W_K (and their biases), the position interpolation is written into config.json,
weights come in shards, the tokenizer and the source's generation_config.json go along, and `qroar.json` and the model
card say what was changed.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qroar_core.errors import BadCheckpoint, BadSpec, NonFinite
from qroar_core.exporters.cache_scales import CacheScales, noted, tensors_of, with_scheme
from qroar_core.exporters.folder import NOTE, new_folder, note_of, origin_of, write_about
from qroar_core.exporters.formats import written_by
from qroar_core.exporters.forward_pass import require_finite_pass
from qroar_core.exporters.key_bias import bias_switch, brought
from qroar_core.exporters.older_readers import older_tokenizer_config, with_older_names, without_rope_beside
from qroar_core.exporters.written_rope import WrittenRope, written_gains, written_parameters, written_rope
from qroar_core.models.checkpoint_files import check_files, has, table_in
from qroar_core.models.generation import FILE
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import announced_dtype, noted_dtype, word, written_dtype
from qroar_core.models.patch import replaced_parameters
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.tokenizer import CONFIG as TOKENIZER_CONFIG
from qroar_core.models.tokenizer import LAW, tokenizer_files
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales

SHARD = "5GB"  # largest file of weights; a larger model comes in several, with an index


def run(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    folder: Path | str,
    *,
    format: str = "hf",
    dtype: torch.dtype | None = None,
    cache_scales: CacheScales | None = None,
    command: str = "",
    on_step: OnStep = no_progress,
) -> Path:
    """Write the checkpoint; returns its folder. `scales` None exports the interpolation alone.

    Args:
        dtype: the number format that was asked for; None keeps that of the checkpoint's files, where what is loaded
            holds it.
        cache_scales: of an fp8 K/V cache, measured under this very interpolation and these scales; None: none.
        command: the line that repeats it, kept in qroar.json.
    Raises:
        BadOutput: the folder exists, or cannot be written.
        NonFinite: the model's own numbers overflow, or a weight leaves the format it is written in.
        BadSpec: an unknown format, or an interpolation this family's config cannot say.
    """
    if format not in (mine := written_by("hf")):
        raise BadSpec(f"unknown format {format!r}", where="--format", do=f"choose one of {', '.join(mine)}")
    said = written_rope(loaded, rope)
    folder = Path(folder).expanduser()
    on_step(Step("export", 0, 3, "scale weights"))
    written, why = written_dtype(loaded, dtype)
    changed = [] if written_gains(loaded.geometry, scales, said.factor) is None else changed_parts(loaded)
    parameters = written_parameters(loaded, scales, said.factor)
    switch, zeros = bias_switch(loaded, brought(loaded, parameters))
    with new_folder(folder, sum(p.numel() for p in loaded.model.parameters()) * written.itemsize) as built:
        require_finite_pass(loaded, rope, scales)
        with loaded.lock, replaced_parameters(loaded.model, parameters):
            on_step(Step("export", 1, 3, "write weights"))
            own = written == loaded.dtype and not zeros and cache_scales is None
            tensors = None if own else all_narrowed(loaded.model, written)
            if tensors is not None:
                tensors |= {name: torch.zeros(shape, dtype=written) for name, shape in zeros.items()}
            if cache_scales is not None and tensors is not None:
                tensors |= tensors_of(loaded, cache_scales)
            config = _entries(announced_dtype(loaded, written, dtype), switch, cache_scales is not None)
            save(loaded, said, built, tensors, config)
        on_step(Step("export", 2, 3, "write tokenizer and manifest"))
        note = note_of(
            origin_of(loaded, rope),
            rope,
            scales,
            format=format,
            command=command,
            changed=changed,
            mixed=mixed_parts(loaded, scales),
            dtype=why,
            factor=said.factor,
            bias=key_bias_parts(loaded, scales),
        ) | noted(cache_scales)
        write_about(built, note, loaded.template)
    on_step(Step("export", 3, 3, "done"))
    return folder


def offered(loaded: LoadedModel) -> str | None:
    """Every model has a folder."""
    return ""


def write_config(
    loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, note: Mapping[str, Any], folder: Path
) -> None:
    """The folder that `run` wrote with this qroar.json, without weights; `verify` compares its settings."""
    said = written_rope(loaded, rope)
    switch, _ = bias_switch(loaded, brought(loaded, written_parameters(loaded, scales, said.factor)))
    written, asked = noted_dtype(str(note.get("dtype")))
    if written is None:
        raise BadCheckpoint("it does not say the number format of the weights", where=NOTE)
    announced = announced_dtype(loaded, written, written if asked else None)
    save(loaded, said, folder, {}, _entries(announced, switch, "cache_scales" in note))


def _entries(dtype: torch.dtype, switch: Mapping[str, bool], cache_scales: bool) -> dict[str, Any]:
    """What is set in config.json over the model's own."""
    asked = {"quantization_config": with_scheme(None)} if cache_scales else {}
    return {"dtype": word(dtype), **switch, **asked}


def save(
    loaded: LoadedModel,
    rope: WrittenRope,
    folder: Path,
    tensors: dict[str, Tensor] | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Write the model as it is patched now. Its own config stays in place: pages read it while this runs.

    Args:
        rope: how the config says its interpolation.
        tensors: what to write instead of the model's own parameters, by the names of the checkpoint.
        config: entries of config.json to set.
    """
    model = copy.copy(loaded.model)  # the same parameters under another config
    model.config = _config(loaded, rope)
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=tensors, max_shard_size=SHARD)
    _copy_tokenizer(loaded, folder)
    if loaded.template is not None and has(loaded.template, FILE):
        shutil.copyfile(loaded.template / FILE, folder / FILE)  # in place of what transformers made of the config
    path, source = folder / "config.json", loaded.template
    own = table_in(source / path.name) if source and has(source, path.name) else {}
    said = json.loads(path.read_text())
    if rope.changed:
        said = without_rope_beside(said, loaded.model.config)
    said |= config or {}
    said = with_older_names(said | {"torch_dtype": said["dtype"]}, own, loaded.model.config.attribute_map)
    path.write_text(json.dumps(said, indent=2) + "\n")


def _copy_tokenizer(loaded: LoadedModel, folder: Path) -> None:
    """The checkpoint's own tokenizer files; written anew where it had no tokenizer.json."""
    source = loaded.template
    if source is None or not has(source, LAW):
        loaded.tokenizer.save_pretrained(folder)
    else:
        check_files(source)  # they may have changed since they were read
        for path in tokenizer_files(source):
            target = folder / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
    if (older := older_tokenizer_config(folder)) is not None:
        (folder / TOKENIZER_CONFIG).write_text(older, encoding="utf-8")


def _config(loaded: LoadedModel, rope: WrittenRope) -> Any:
    written = copy.deepcopy(loaded.model.config)
    written.rope_parameters = rope.parameters
    if getattr(written, "head_dim", 0) is None:  # transformers' YaRN cannot do without it
        written.head_dim = loaded.geometry.head_dim
    if rope.changed:
        written.max_position_embeddings = rope.context
        if hasattr(written, "original_max_position_embeddings"):  # Phi-3 says it here, too, and believes this one
            written.original_max_position_embeddings = rope.native
    return written


def all_narrowed(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's tensors in the number format that they are written in; those that share memory still share it.

    A tied output matrix is then written once, as `save_pretrained` does with the model's own.
    """
    once: dict[tuple[int, torch.Size], Tensor] = {}
    tensors = {}
    for name, value in model.state_dict().items():
        at = (value.data_ptr(), value.shape)
        if at not in once:
            once[at] = narrowed(name, value, dtype)
        tensors[name] = once[at]
    return tensors


def narrowed(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of the model on the CPU, in the number format that it is written in where it holds numbers.

    Raises:
        NonFinite: a value past the end of that format.
    """
    if not value.is_floating_point():
        return value.detach().cpu()
    new = value.detach().to("cpu", dtype)
    if not bool(new.isfinite().all()):
        raise NonFinite(
            f"{name} holds {float(value.abs().amax()):.3g}, {word(dtype)} ends at {torch.finfo(dtype).max:.3g}",
            where="export",
            do=f"add --dtype {'bfloat16' if dtype == torch.float16 else 'float32'}",
        )
    return new


def changed_parts(loaded: LoadedModel) -> list[str]:
    """The modules of an attention layer that scales change: projections, or the norms whose gains take the scale."""
    first = next(i for i in range(loaded.geometry.n_layers) if i not in loaded.geometry.without_rope)
    names = [slot.norm_gain or slot.weight for slot in loaded.slots()[first]]
    return list(dict.fromkeys(name.split(".")[-2] for name in names))


def key_bias_parts(loaded: LoadedModel, scales: Scales | None) -> list[str]:
    """The module of an attention layer whose bias takes an offset of K; none without any."""
    if scales is None or not scales.shifts:
        return []
    return [loaded.slots()[0][1].weight.split(".")[-2]]


def mixed_parts(loaded: LoadedModel, scales: Scales | None) -> list[str]:
    """The modules of an attention layer that value maps change; none without any."""
    if scales is None or not scales.mixes_values:
        return []
    values, output = loaded.value_slots()[0]
    return [name.split(".")[-2] for name in (values.weight, output)]
