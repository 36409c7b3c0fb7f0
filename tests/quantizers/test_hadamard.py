"""The rotation against scipy's Hadamard matrix, and the block rule against llama.cpp's loop."""

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qroar_core.errors import BadSpec
from qroar_core.quantizers.hadamard import hadamard, hadamard_block, hadamard_matrix


def llama_cpp_k_block(head_dim: int) -> int:
    """PR 21038, spelled as its do-while: 1 means not rotated."""
    if head_dim % 64:
        return 1
    n = 64
    while True:
        n *= 2
        if head_dim % n:
            return n // 2


@pytest.mark.parametrize("n", [1, 2, 8, 64, 128, 256])
def test_matrix_is_scipys_over_root_n(n):
    expected = torch.from_numpy(scipy.linalg.hadamard(n).astype("float64")) / n**0.5
    got = hadamard_matrix(n, torch.float64, torch.device("cpu"))
    assert torch.equal(got, expected)
    assert torch.allclose(got @ got, torch.eye(n, dtype=torch.float64), atol=1e-14)


@pytest.mark.parametrize(("head_dim", "block"), [(64, 64), (128, 128), (96, 32), (80, 16), (192, 64), (6, 2)])
def test_rotation_is_block_diagonal_scipy(head_dim, block):
    x = torch.randn(3, 5, head_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = scipy.linalg.hadamard(block).astype("float64") / block**0.5
    expected = x.numpy() @ scipy.linalg.block_diag(*[one] * (head_dim // block))
    assert torch.allclose(hadamard(x), torch.from_numpy(expected), atol=1e-13)


@pytest.mark.parametrize("head_dim", [64, 96, 128])
def test_twice_is_the_identity_and_logits_stay(head_dim):
    gen = torch.Generator().manual_seed(1)
    q, k = (torch.randn(7, head_dim, dtype=torch.float64, generator=gen) for _ in "qk")
    assert torch.allclose(hadamard(hadamard(q)), q, atol=1e-13)
    assert torch.allclose(hadamard(q) @ hadamard(k).T, q @ k.T, atol=1e-12)
    assert not torch.allclose(hadamard(q) @ k.T, q @ k.T, atol=1e-3)  # one-sided rotation is wrong


@pytest.mark.parametrize("head_dim", [32, 48, 64, 80, 96, 112, 128, 192, 256, 320, 512, 576])
def test_llama_cpp_rule(head_dim):
    assert hadamard_block(head_dim, least=64) == llama_cpp_k_block(head_dim)
    assert hadamard_block(head_dim, block=64, least=64) == (64 if head_dim % 64 == 0 else 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2048))
def test_default_block_is_the_largest_power_of_two_that_divides(head_dim):
    n = hadamard_block(head_dim)
    assert head_dim % n == 0
    assert (head_dim // n) % 2 == 1
    assert n & (n - 1) == 0


def test_one_outlier_channel_spreads_evenly():
    x = torch.zeros(1, 64)
    x[0, 17] = 8.0
    assert torch.equal(hadamard(x).abs(), torch.ones(1, 64))


def test_bad_blocks_are_refused():
    with pytest.raises(BadSpec, match="does not divide"):
        hadamard(torch.zeros(2, 96), block=64)
    with pytest.raises(BadSpec, match="power of two"):
        hadamard(torch.zeros(2, 96), block=96)
    with pytest.raises(BadSpec, match="head_dim"):
        hadamard_block(0)
