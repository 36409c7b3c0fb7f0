"""W4A16: a folder of 4-bit weights as vLLM serves it, packed by the compressed-tensors library.

Scales first, then round to nearest: symmetric int4 in groups of inputs, levels -8..7, step absmax / 7.5, the
library's scheme W4A16. Its scales lie in one output row, so Q(g w) = g Q(w): a scaled model has the codes of the
unscaled one, and symmetric scales act on the K cache alone (docs/method.md section 4). Codes come from the step before
it is stored, so every weight is the fake-quant reference's but for the rounding of that step.
Source: vllm-project/compressed-tensors quantization/quant_scheme.py W4A16, compressors/pack_quantized.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qroar_core.errors import BadCheckpoint, BadSpec, UnsupportedModel
from qroar_core.exporters.cache_scales import CacheScales, noted, tensors_of, with_scheme
from qroar_core.exporters.folder import NOTE, new_folder, note_of, origin_of, write_about
from qroar_core.exporters.forward_pass import require_finite_pass
from qroar_core.exporters.hf import changed_parts, key_bias_parts, mixed_parts, narrowed, save
from qroar_core.exporters.key_bias import bias_switch, brought
from qroar_core.exporters.written_rope import written_gains, written_parameters, written_rope
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import kept_dtype, noted_dtype, word
from qroar_core.models.patch import replaced_parameters
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.quantizers.weights import TIE
from qroar_core.specs import RopeSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales

BITS, GROUP_SIZE = 4, 128
SERVED = (128, 64, 32)  # group sizes that vLLM's kernels take
SIXTEEN = (torch.bfloat16, torch.float16)


def run(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    folder: Path | str,
    *,
    format: str = "w4a16",
    group_size: int | None = None,
    cache_scales: CacheScales | None = None,
    command: str = "",
    on_step: OnStep = no_progress,
) -> Path:
    """Write the folder; returns it. What is not packed is written in 16 bits: the model's own, else bfloat16.

    Args:
        group_size: inputs that share a step; None is the scheme's own, 128.
        cache_scales: of an fp8 K/V cache, measured under this very interpolation and these scales; None: none.
        command: the line that repeats it, kept in qroar.json.
    Raises:
        BadSpec: a group size that does not divide a layer's inputs, or an interpolation the config cannot say.
        UnsupportedModel: weights that are no linear layers, such as experts kept in one tensor.
        BadOutput: the folder exists, or cannot be written.
        NonFinite: the model's own numbers overflow, or a weight leaves the format it is written in.
    """
    said = written_rope(loaded, rope)
    spec = rounded_weights(group_size)
    linear = linear_layers(loaded, spec.group_size)
    folder = Path(folder).expanduser()
    on_step(Step("export", 0, 3, "scale weights"))
    dtype = next((kind for kind in (loaded.dtype, kept_dtype(loaded)) if kind in SIXTEEN), torch.bfloat16)
    changed = [] if written_gains(loaded.geometry, scales, said.factor) is None else changed_parts(loaded)
    need = sum(p.numel() for p in loaded.model.parameters()) * dtype.itemsize
    parameters = written_parameters(loaded, scales, said.factor)
    switch, zeros = bias_switch(loaded, brought(loaded, parameters))
    with new_folder(folder, need) as built:
        require_finite_pass(loaded, rope, scales)
        with loaded.lock, replaced_parameters(loaded.model, parameters):
            tensors = dict(_tensors(loaded, linear, spec, dtype, on_step))
            tensors |= {name: torch.zeros(shape, dtype=dtype) for name, shape in zeros.items()}
            on_step(Step("export", 2, 3, "write weights"))
            if cache_scales is not None:
                tensors |= tensors_of(loaded, cache_scales)
            packing = _config(loaded, linear, spec, cache_scales is not None)
            save(loaded, said, built, tensors, {"dtype": word(dtype), "quantization_config": packing, **switch})
        note = note_of(
            origin_of(loaded, rope),
            rope,
            scales,
            format=format,
            command=command,
            changed=changed,
            mixed=mixed_parts(loaded, scales),
            dtype=f"{word(dtype)}, what is not packed",
            factor=said.factor,
            bias=key_bias_parts(loaded, scales),
        ) | noted(cache_scales)
        note["weights"] = asdict(spec)
        write_about(built, note, loaded.template)
    on_step(Step("export", 3, 3, "done"))
    return folder


def write_config(
    loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, note: Mapping[str, Any], folder: Path
) -> None:
    """The folder that `run` wrote with this qroar.json, without weights; `verify` compares its settings."""
    dtype, _ = noted_dtype(str(note.get("dtype")))
    if dtype is None or not note.get("weights"):
        raise BadCheckpoint("it does not say what the weights were rounded to", where=NOTE)
    said, spec = written_rope(loaded, rope), WeightQuantSpec(**note["weights"])
    switch, _ = bias_switch(loaded, brought(loaded, written_parameters(loaded, scales, said.factor)))
    packing = _config(loaded, linear_layers(loaded, spec.group_size), spec, "cache_scales" in note)
    save(loaded, said, folder, {}, {"dtype": word(dtype), "quantization_config": packing, **switch})


def group_sizes(loaded: LoadedModel) -> list[int]:
    """Group sizes this model can be packed in, the scheme's own first; none where it cannot be packed at all."""
    fits = []
    for size in SERVED:
        try:
            linear_layers(loaded, size)
        except (BadSpec, UnsupportedModel):
            continue
        fits.append(size)
    return fits


def rounded_weights(group_size: int | None) -> WeightQuantSpec:
    """What the linear layers are rounded to; None: groups of the scheme's own size."""
    return WeightQuantSpec(BITS, "group", GROUP_SIZE if group_size is None else group_size, full_range=True)


def offered(loaded: LoadedModel) -> str | None:
    """The groups that are taken where nobody asks."""
    sizes = group_sizes(loaded)
    return f"groups of {sizes[0]}" if sizes else None


def linear_layers(loaded: LoadedModel, group_size: int) -> set[str]:
    """Names of the decoder's linear layers; refuses what the format, its kernels or the group size cannot take."""
    if group_size not in SERVED:
        raise BadSpec(
            f"no kernel serves groups of {group_size}",
            where="--group-size",
            do=f"choose {', '.join(map(str, SERVED[:-1]))} or {SERVED[-1]}",
        )
    modules = [m for layer in loaded.family.layers(loaded.model) for m in layer.modules()]
    decoder = {id(m) for m in modules}
    for module in modules:
        if any(p.ndim == 3 for p in module.parameters(recurse=False)):
            what = "its layers convolve" if isinstance(module, nn.Conv1d) else "its experts are kept in one tensor"
            raise UnsupportedModel(f"{what}, W4A16 packs linear layers", where=loaded.name, do="choose --format hf")
    linear = {n: m for n, m in loaded.model.named_modules() if isinstance(m, nn.Linear) and id(m) in decoder}
    for name, module in linear.items():
        if module.in_features % group_size:
            fits = [g for g in SERVED if all(m.in_features % g == 0 for m in linear.values())]
            raise BadSpec(
                f"groups of {group_size} do not divide the {module.in_features} inputs of {name}",
                where="--group-size",
                do=f"add --group-size {fits[0]}" if fits else "choose --format hf",
            )
    return set(linear)


def _tensors(
    loaded: LoadedModel, linear: set[str], spec: WeightQuantSpec, dtype: torch.dtype, on_step: OnStep
) -> Iterator[tuple[str, Tensor]]:
    """What goes into the files: the parts of every linear layer, everything else in 16 bits."""
    kept = loaded.model.state_dict()  # a tied output projection too, which transformers leaves out when it writes
    for i, (name, value) in enumerate(kept.items()):
        stem = name.removesuffix(".weight")
        if stem in linear:
            on_step(Step("export", 1 + i / len(kept), 3, f"pack {stem}"))
            yield from ((f"{stem}.{part}", t) for part, t in _packed(stem, value.detach(), spec, dtype).items())
        else:
            yield name, narrowed(name, value, dtype)


def _packed(name: str, weight: Tensor, spec: WeightQuantSpec, dtype: torch.dtype) -> dict[str, Tensor]:
    """The library's parts of one weight (out, in): weight_packed, weight_scale (out, groups), weight_shape.

    The library leaves a group's negative extreme, which lies on the tie -7.5, to rounding noise; a step 2^-20
    smaller gives it the lowest level, as in `quantizers.weights`.
    """
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.quantization.utils import calculate_qparams

    scheme = _scheme(spec)
    wide = weight.float().cpu()
    groups = wide.unflatten(1, (-1, spec.group_size))  # (out, groups, group_size)
    step, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)  # (out, groups)
    parts = PackedQuantizationCompressor.compress({"weight": wide, "weight_scale": step * (1 - TIE)}, scheme)
    parts |= {"weight_scale": narrowed(f"{name}.weight_scale", step, dtype)}
    return {part: value.contiguous() for part, value in parts.items()}


def _scheme(spec: WeightQuantSpec) -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    args = QuantizationArgs(num_bits=spec.bits, strategy="group", group_size=spec.group_size, symmetric=True)
    return QuantizationScheme(targets=["Linear"], weights=args, format="pack-quantized")


def _config(loaded: LoadedModel, linear: set[str], spec: WeightQuantSpec, cache_scales: bool) -> dict[str, Any]:
    """`quantization_config` of config.json, spelled by the library; what stays whole is listed by name."""
    from compressed_tensors import __version__
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus

    whole = [n for n, m in loaded.model.named_modules() if isinstance(m, nn.Linear) and n not in linear]
    config = QuantizationConfig(
        config_groups={"group_0": _scheme(spec)},
        format="pack-quantized",
        quantization_status=QuantizationStatus.COMPRESSED,
        ignore=sorted(whole),
    )
    packing = config.model_dump(mode="json") | {"version": __version__}
    return with_scheme(packing) if cache_scales else packing
