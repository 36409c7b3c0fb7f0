"""Outlier rows and input columns of W_Q and W_K, and what they carry of the weights' own rounding error.

A row of W_Q or W_K makes one channel of one head, so it has a RoPE pair and a band; a column reads one channel of the
hidden state. Fused projections are rounded whole, as a quantizer of the product does, and then cut into q and k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.outliers.result_matrices import MatrixByRule, MatrixMap
from qroar_core.diagnostics.outliers.rules import by_band, chance_count, outlier_limit, standing_out
from qroar_core.diagnostics.tensor_lists import listed, significant
from qroar_core.maths.meters import CPU, accumulator_device
from qroar_core.models.families import QKSlot
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import parameters_under
from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.specs import WeightQuantSpec
from qroar_core.transforms.scales import Scales

BITS = (8, 4)
GROUP = 128  # inputs that share a step, or the largest power of two below it that fits


def quantizers(in_features: int, in_force: WeightQuantSpec | None) -> dict[str, WeightQuantSpec]:
    """int8 and int4 with every kind of scale that the product has, and the setting's own."""
    group = next((g for g in (GROUP, 64, 32, 16, 8, 4, 2) if in_features % g == 0), None)
    found = {}
    for bits in BITS:
        found[f"int{bits} per tensor"] = WeightQuantSpec(bits, "tensor")
        found[f"int{bits} per channel"] = WeightQuantSpec(bits, "channel")
        if group is not None:
            found[f"int{bits} per group of {group}"] = WeightQuantSpec(bits, "group", group)
    return found if in_force is None else found | {"in force": in_force}


def unavailable(loaded: LoadedModel) -> str:
    """Why W_Q and W_K have no rows by head and band; empty where they have."""
    if loaded.geometry.latent_dim:
        return (
            f"{loaded.geometry.family} makes K from a latent and one rotated key for all heads, so no matrix has a "
            "row for every channel of every head"
        )
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """W_Q or W_K of every layer; CPU float64. Squared errors are by quantizer.

    rows: mean |w| of each output row, (layers, heads, head_dim). columns: of each input column, (layers, in).
    row_error: name -> (layers, heads, head_dim). column_error: name -> (layers, in). uneven: name -> (layers,), sum
    over heads and inputs of the variance of squared errors over a head's channels.
    """

    rows: Tensor
    columns: Tensor
    row_error: dict[str, Tensor]
    column_error: dict[str, Tensor]
    uneven: dict[str, Tensor]

    def map(self) -> MatrixMap:
        """What the file keeps whatever the rule."""
        by_channel = {name: e.sum(1) for name, e in self.row_error.items()}
        return MatrixMap(
            rows=listed(significant(self.rows)),
            columns=listed(significant(self.columns)),
            error_by_channel={name: listed(significant(e / e.sum(-1, keepdim=True))) for name, e in by_channel.items()},
            error_spread={name: listed(self.uneven[name].sqrt() / e.mean(-1)) for name, e in by_channel.items()},
        )

    def by_rule(self, band_of_channel: Tensor, rule: str, parameter: float, still: Sequence[int]) -> MatrixByRule:
        """What one rule calls outliers; rows among those of their head, columns among all of the matrix."""
        found = [standing_out(rows, band_of_channel, rule, parameter) for rows in self.rows]
        count, magnitude = (torch.stack(values) for values in zip(*found))
        far = self.rows > outlier_limit(self.rows, rule, parameter)[..., None]  # (layers, heads, head_dim)
        wide = self.columns > outlier_limit(self.columns, rule, parameter)[:, None]  # (layers, in)
        heads = self.rows.shape[1]
        every = by_band(torch.full_like(self.rows, heads).mean(1), band_of_channel)

        def share(part: Tensor, whole: Tensor) -> list:
            kept = part / whole
            kept[list(still)] = torch.nan
            return listed(significant(kept))

        return MatrixByRule(
            count=share(count, torch.ones_like(count)),
            magnitude=share(magnitude, torch.ones_like(magnitude)),
            row_share=share(count, every),
            error_share={
                name: share(by_band((e * far).sum(1), band_of_channel), by_band(e.sum(1), band_of_channel))
                for name, e in self.row_error.items()
            },
            columns_by_chance=chance_count(self.columns.shape[-1], rule, parameter)[0],
            columns=listed(wide.sum(-1).double()),
            column_share=listed(significant(wide.double().mean(-1))),
            column_error_share={
                name: listed(significant((e * wide).sum(-1) / e.sum(-1))) for name, e in self.column_error.items()
            },
        )


def matrices_of(loaded: LoadedModel, scales: Scales | None, in_force: WeightQuantSpec | None) -> dict[str, Matrix]:
    """W_Q and W_K of the loaded model, with scales in them; empty where they have no rows by head."""
    if unavailable(loaded):
        return {}
    changed = parameters_under(loaded, scales)
    parameters = {name: p.data for name, p in loaded.model.named_parameters()} | changed
    slots = loaded.slots()
    return {
        name: _matrix([_layer(parameters, pair[at], loaded.geometry.head_dim, in_force) for pair in slots])
        for at, name in enumerate(("W_Q", "W_K"))
    }


def _layer(parameters: dict[str, Tensor], slot: QKSlot, head_dim: int, in_force: WeightQuantSpec | None) -> dict:
    whole = parameters[slot.weight]
    rows = slot.rows.to(whole.device)
    exact = whole[rows]
    out: dict[str, tuple[Tensor, ...]] = {"": _sums(exact.abs(), head_dim, mean=True)}
    for name, spec in quantizers(whole.shape[1], in_force).items():
        error = (fake_quantize_weight(whole, spec)[rows].float() - exact.float()).square_()
        uneven = error.unflatten(0, (-1, head_dim)).var(1, correction=0).sum()
        out[name] = (*_sums(error, head_dim), uneven.to(CPU, torch.float64))
    return out


def _sums(x: Tensor, head_dim: int, mean: bool = False) -> tuple[Tensor, Tensor]:
    """Sums, or means, of x (heads * head_dim, in) over each row (heads, head_dim) and each column (in,)."""
    exact = torch.float64 if accumulator_device(x.device) == x.device else torch.float32
    reduce = torch.mean if mean else torch.sum
    rows, columns = (reduce(x.to(exact), dim).to(CPU, torch.float64) for dim in (1, 0))
    return rows.view(-1, head_dim), columns


def _matrix(layers: Sequence[dict]) -> Matrix:
    rows = {name: torch.stack([layer[name][0] for layer in layers]) for name in layers[0]}
    columns = {name: torch.stack([layer[name][1] for layer in layers]) for name in layers[0]}
    uneven = {name: torch.stack([layer[name][2] for layer in layers]) for name in layers[0] if name}
    return Matrix(rows.pop(""), columns.pop(""), rows, columns, uneven)
