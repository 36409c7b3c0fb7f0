"""Expert matrices: stacked in one tensor, or one tensor an expert as Mixtral files of 2023 have them.

transformers keeps all experts of a layer in two tensors: gate above up, and down. They are filled in place.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import Built, Config, take
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.reading import TensorPart, assembled, at_rows


def experts(files: GgufFiles, layer: int, target: str, count: int, inner: int, hidden: int) -> Built:
    """`{target}.gate_up_proj` (count, 2 * inner, hidden) and `{target}.down_proj` (count, hidden, inner).

    Raises:
        BadCheckpoint: a tensor that is missing or has another shape.
    """
    stem = f"blk.{layer}.ffn"
    fused = f"{stem}_gate_up_exps.weight"
    both, down = (count, 2 * inner, hidden), (count, hidden, inner)
    gate_up, downs = [], []
    if fused in files.tensors:
        gate_up = [TensorPart(take(files, fused, both))]
        downs = [TensorPart(take(files, f"{stem}_down_exps.weight", down))]
    elif f"{stem}_down.0.weight" in files.tensors:
        for e in range(count):
            for part, half in (("gate", 0), ("up", inner)):
                source = take(files, f"{stem}_{part}.{e}.weight", (inner, hidden))
                gate_up.append(TensorPart(source, at_rows(range(e * 2 * inner + half, e * 2 * inner + half + inner))))
            source = take(files, f"{stem}_down.{e}.weight", (hidden, inner))
            downs.append(TensorPart(source, at_rows(range(e * hidden, (e + 1) * hidden))))
    else:
        for part, half in (("gate", 0), ("up", inner)):
            source = take(files, f"{stem}_{part}_exps.weight", (count, inner, hidden))
            rows = [e * 2 * inner + half + i for e in range(count) for i in range(inner)]
            gate_up.append(TensorPart(source, at_rows(rows)))
        downs = [TensorPart(take(files, f"{stem}_down_exps.weight", down))]
    return {
        f"{target}.gate_up_proj": (assembled(both, gate_up), _names(gate_up)),
        f"{target}.down_proj": (assembled(down, downs), _names(downs)),
    }


def expert_layers(config: Config, files: GgufFiles, layers: range, count: int, inner: int) -> Built:
    """The experts of several layers, under `model.layers.N.mlp.experts`."""
    found: Built = {}
    for i in layers:
        found |= experts(files, i, f"model.layers.{i}.mlp.experts", count, inner, config["hidden_size"])
    return found


def _names(pieces: list[TensorPart]) -> tuple[str, ...]:
    return tuple(piece.source.info.name for piece in pieces)
