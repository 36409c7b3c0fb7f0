"""Rows and columns of W_Q and W_K, and what they carry of the weights' error, against loops in float64."""

import statistics

import pytest
import torch

from qroar_core.diagnostics.outliers.weights import matrices_of, quantizers
from qroar_core.specs import WeightQuantSpec
from qroar_core.transforms.scales import identity

BAND = torch.tensor([0] * 4 + [1] * 4 + [0] * 4 + [1] * 4)  # half pairing, two bands of four pairs


def rounded(w: torch.Tensor, bits: int, per: str, group: int) -> torch.Tensor:
    """Symmetric rounding to nearest of a matrix (out, in), in float64, by loop over what shares a step."""
    w, top = w.double(), 2 ** (bits - 1) - 1
    pieces = {"tensor": w.reshape(1, -1), "channel": w, "group": w.reshape(-1, group)}[per]
    steps = [float(row.abs().max()) / top for row in pieces]
    return torch.stack([(row / step).round() * step for row, step in zip(pieces, steps)]).view_as(w)


def test_errors_by_row_and_column_are_those_of_the_projection_rounded(tiny):
    loaded = tiny("llama")
    found = matrices_of(loaded, None, WeightQuantSpec(3, "channel"))["W_K"]
    whole = loaded.model.model.layers[1].self_attn.k_proj.weight.data
    names = list(quantizers(whole.shape[1], None))
    group = int(names[2].split()[-1])
    assert whole.shape[1] % group == 0
    cases = {name: (int(name[3]), name.split()[2], group) for name in names} | {"in force": (3, "channel", group)}
    assert set(found.row_error) == set(cases)
    assert len(cases) == 7
    for name, (bits, per, size) in cases.items():
        error = (rounded(whole, bits, per, size) - whole.double()) ** 2
        # a step lies in float32: a weight on the edge between two levels may go either way
        assert found.row_error[name][1].flatten().numpy() == pytest.approx(error.sum(1).numpy(), rel=1e-3)
        assert found.column_error[name][1].numpy() == pytest.approx(error.sum(0).numpy(), rel=1e-3)


def test_one_step_for_the_matrix_leaves_outlier_rows_no_more_than_their_share_and_a_step_a_row_does(tiny):
    """Row 5 of head 0 is 30 times the others: per tensor every row errs alike, per channel the large row errs most."""
    loaded = tiny("llama")
    loaded.model.model.layers[0].self_attn.k_proj.weight.data[5] *= 30
    matrix = matrices_of(loaded, None, None)["W_K"]
    found = matrix.by_rule(BAND, "iqr", 3.0, ())
    rows = loaded.geometry.n_kv_heads * 8  # of a band
    assert found.count[0] == [0.0, 1.0]
    assert found.row_share[0] == pytest.approx([0.0, 1 / rows], rel=1e-3)
    head = matrix.rows[0, 0].tolist()
    assert found.magnitude[0][1] == pytest.approx(head[5] / statistics.median(head), rel=1e-3)
    assert found.magnitude[0][0] is None
    assert found.error_share["int8 per channel"][0][1] > 0.9
    # 1/30 of the range is a few levels of int8: the rest errs as much as the outlier, of int4 it is rounded to zero
    assert found.error_share["int8 per tensor"][0][1] < 2 / rows
    assert matrix.map().error_by_channel["int8 per channel"][0][5] > 0.8
    assert sum(matrix.map().error_by_channel["int8 per channel"][0]) == pytest.approx(1.0, rel=1e-3)
    assert matrix.by_rule(BAND, "iqr", 3.0, (0,)).count[0] == [None, None]  # a layer without RoPE has no bands


def test_outlier_columns_are_counted_over_the_whole_matrix(tiny):
    loaded = tiny("llama")
    for layer in loaded.model.model.layers:
        layer.self_attn.q_proj.weight.data[:, [3, 7]] *= 20
    matrix = matrices_of(loaded, None, None)["W_Q"]
    found = matrix.by_rule(BAND, "iqr", 5.0, ())
    width = matrix.columns.shape[1]
    assert found.columns == [2.0] * loaded.geometry.n_layers
    assert found.column_share == pytest.approx([2 / width] * loaded.geometry.n_layers, rel=1e-3)
    e = matrix.column_error["int4 per channel"]
    assert found.column_error_share["int4 per channel"] == pytest.approx(
        [float(row[[3, 7]].sum() / row.sum()) for row in e], rel=1e-3
    )


def test_as_many_rows_at_random_carry_the_share_of_rows(tiny):
    """The null that the figure draws, drawn."""
    loaded = tiny("llama")
    loaded.model.model.layers[0].self_attn.q_proj.weight.data[5] *= 30
    error = matrices_of(loaded, None, None)["W_Q"].row_error["int4 per channel"][0][:, BAND == 1].flatten()
    generator = torch.Generator().manual_seed(0)
    drawn = [float(error[torch.randperm(len(error), generator=generator)[:4]].sum() / error.sum()) for _ in range(2000)]
    assert statistics.mean(drawn) == pytest.approx(4 / len(error), rel=0.15)


def test_scales_are_in_the_weights_that_are_measured(tiny):
    loaded = tiny("llama")
    geo = loaded.geometry
    scales = identity(geo.n_layers, geo.n_kv_heads, ((0, 3), (4, 7)), "symmetric", "kv_head")
    scaled = type(scales)(scales.mode, scales.granularity, scales.bands, scales.g * 2, None)
    plain, with_scales = matrices_of(loaded, None, None), matrices_of(loaded, scaled, None)
    assert torch.allclose(with_scales["W_Q"].rows, 2 * plain["W_Q"].rows)
    assert torch.allclose(with_scales["W_K"].rows, plain["W_K"].rows / 2)
