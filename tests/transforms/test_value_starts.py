"""Value maps from statistics: even, and the least that any linear map can reach, by closed form and by trying."""

import pytest
import torch

from qroar_core.transforms import value_starts as starts


def random_moment(size, seed, heads=2):
    drawn = torch.randn(heads, size, 3 * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scaled = drawn * torch.logspace(-1, 1, size, dtype=torch.float64)[:, None]
    return scaled @ scaled.mT


def cost(maps, second, metric):
    """tr(M S M^T) tr(M^-T G M^-1): the error of evenly spread tokens, but for a factor."""
    inverse = torch.linalg.inv(maps)
    return (maps @ second @ maps.mT).diagonal(dim1=-2, dim2=-1).sum(-1) * (inverse.mT @ metric @ inverse).diagonal(
        dim1=-2, dim2=-1
    ).sum(-1)


def by_eigenvalues(second, metric):
    """(tr (S G)^1/2)^2: S G has the eigenvalues of S^1/2 G S^1/2, which no code of the module is needed for."""
    return torch.linalg.eigvals(second @ metric).real.clamp_min(0).sqrt().sum(-1) ** 2


@pytest.mark.parametrize("size", [4, 6, 7, 16, 80])
def test_a_spread_matrix_is_orthonormal_and_even(size):
    matrix = starts.spread_matrix(size)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(size, dtype=torch.float64))
    bound = size**-0.5 if size in (4, 16) else (2 / size) ** 0.5
    assert float(matrix.abs().max()) <= bound + 1e-12


def test_balancing_reaches_the_closed_form_and_no_neighbour_is_below(monkeypatch):
    monkeypatch.setattr(starts, "FLOOR", 0.0)
    second, metric = random_moment(6, 1), random_moment(6, 2).flip(-1, -2)  # loud where it is hardly read
    stretch = starts.balancing(second, metric)
    least = by_eigenvalues(second, metric)
    torch.testing.assert_close(cost(stretch, second, metric), least, rtol=1e-8, atol=0)
    torch.testing.assert_close(torch.linalg.det(stretch), torch.ones(2, dtype=torch.float64))
    one = torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    assert (cost(one, second, metric) > 1.5 * least).all()
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        step = 0.1 * torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
        assert (cost(stretch @ (one + step), second, metric) >= least * (1 - 1e-9)).all()


def test_the_starts_by_name():
    moments = torch.stack((random_moment(8, 1), random_moment(8, 4), random_moment(8, 2)))
    found = starts.value_starts(moments)
    assert list(found) == ["identity", "spread", "principal axes, spread", "balanced, spread"]
    assert torch.equal(found["identity"], torch.eye(8, dtype=torch.float64).expand(2, 8, 8))
    trace = moments[:2].diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    second = (moments[:2] / trace).sum(0)
    for name in ("principal axes, spread", "balanced, spread"):  # every channel carries as much
        sizes = (found[name] @ second @ found[name].mT).diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(sizes, sizes.mean(-1, keepdim=True).expand_as(sizes))
    axes = found["principal axes, spread"]
    torch.testing.assert_close(axes @ axes.mT, found["identity"])
    assert (cost(found["balanced, spread"], second, moments[2]) < cost(axes, second, moments[2])).all()


def test_heads_that_are_never_read_never_speak_or_use_one_channel_keep_maps_that_can_be_undone():
    moments = torch.stack([random_moment(8, seed, heads=3) for seed in (1, 4, 2)])
    moments[0, 0] = moments[1, 0] = 0
    moments[1, 1] = moments[2, 1] = 0
    moments[:2, 2] = 0
    moments[:2, 2, 3, 3] = 5.0
    for maps in starts.value_starts(moments).values():
        assert float(torch.linalg.cond(maps).max()) < 30
