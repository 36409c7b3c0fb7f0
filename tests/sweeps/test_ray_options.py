"""What a sweep asks of Ray, without Ray: options, pieces, resources, and one line for what cannot be."""

import sys

import pytest
import torch

import qroar_core as qroar
from qroar_core.errors import BadSpec
from qroar_core.models.needed_memory import NeededMemory, read
from qroar_core.sweeps.pieces import in_pieces
from qroar_core.sweeps.ray_connection import connected
from qroar_core.sweeps.ray_need import Need, bytes_needed, need_of
from qroar_core.sweeps.ray_options import RayOptions, ray_options
from qroar_core.sweeps.sweep_file import sweep_of

GIB = 2**30
ASKED = {
    "models": ["demo"],
    "ropes": [{"method": "yarn", "factor": 4}],
    "quantizers": [{"k": "int4"}, {"kv": "q4_0"}],
    "remedies": ["none", "scales"],
    "lengths": [512],
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": 2.5}, "workers"),
        ({"cpus": 0, "workers": 1}, "cpus"),
        ({"cpus": 2}, "cpus: is for workers of Ray; give workers or address as well"),
        ({"address": " "}, "address: must be an address, got ' '; give auto, HOST:PORT or ray://HOST:10001"),
        ({"cells": "s3://bucket/cells"}, "cells: s3://bucket/cells is a URL, not a folder; mount it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(given, said, tmp_path):
    with pytest.raises(BadSpec, match=said):
        qroar.sweep(ASKED, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_without_options_there_is_no_ray():
    assert ray_options(None, None, None) is None
    assert ray_options(2, None, 3) == RayOptions(2, None, 3)
    assert ray_options(None, "auto", None) == RayOptions(None, "auto", None)


def test_ray_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    said = r'sweep: needs Ray, which is not installed; pip install "qroar-dashboard\[cluster\]"$'
    with pytest.raises(BadSpec, match=said), connected(RayOptions(2)):
        pass


def test_a_url_in_the_environment_is_refused_too(monkeypatch):
    from qroar_core.sweeps.address import cells_root

    monkeypatch.setenv("QROAR_CELLS", "gs://bucket")
    with pytest.raises(BadSpec, match="QROAR_CELLS: gs://bucket is a URL"):
        cells_root()


def test_pieces_are_groups_or_their_quantizers():
    cells = sweep_of(ASKED | {"seeds": [0, 1]}, "here").cells

    def of(at):
        return cells[at].seed, cells[at].quantizer_words

    assert [[of(at) for at in piece] for piece in in_pieces(cells, 2)] == [
        [(seed, words)] * 2 for seed in (0, 1) for words in ("k=int4", "kv=q4_0")
    ]
    many = sweep_of(ASKED | {"seeds": list(range(8))}, "here").cells
    pieces = in_pieces(many, 2)  # enough groups for two workers: none is parted
    assert [{many[at].seed for at in piece} for piece in pieces] == [{seed} for seed in range(8)]
    assert sorted(at for piece in pieces for at in piece) == list(range(32))


def test_memory_of_a_model_before_it_is_loaded(demo):
    """Against the loaded model, its parameters counted and its cache by hand."""
    found = read("demo", torch.device("cpu"), "auto")
    geo = demo.geometry
    assert found.weights == 4 * sum(one.numel() for one in demo.model.parameters())
    assert found.numbers_per_token == geo.n_layers * geo.n_kv_heads * 2 * geo.head_dim
    assert found.cache_per_token == 4 * found.numbers_per_token
    assert found.native == geo.original_context
    assert read("demo", torch.device("cuda"), "auto").weights * 2 == found.weights  # bfloat16 there


def test_what_a_worker_reserves():
    sizes = NeededMemory(weights=9 * GIB, cache_per_token=2**10, numbers_per_token=2**9, native=2**10)
    assert sizes.of(2**19) == pytest.approx((9 + 1) * GIB / 0.9 + GIB, abs=1)
    assert sizes.of(2**19, 2**18, True) == pytest.approx((18 + 1 + 0.5) * GIB / 0.9 + GIB, abs=1)
    assert need_of(5 * GIB, 3 * GIB, 4, 0) == Need(4, 0, 5 * GIB)
    assert need_of(5 * GIB, 3 * GIB, 4, 8 * GIB) == Need(4, 1, 3 * GIB)
    assert need_of(17 * GIB, 3 * GIB, 4, 8 * GIB) == Need(4, 3, 3 * GIB)
    assert Need(4, 2, 3 * GIB).words == "4 CPUs, 2 GPUs and 3.0 GiB"
    node = {"CPU": 4.0, "GPU": 2.0, "memory": 4.0 * GIB}
    assert Need(4, 2, 4 * GIB).fits(node)
    assert not any(need.fits(node) for need in (Need(5), Need(1, 3), Need(1, 0, 5 * GIB)))


def test_the_cell_that_needs_most_decides(demo):
    """By hand: 1,024 tokens of K and V twice, and q, K and V of two windows for the search; 512 tokens need less."""
    cells = [cell.as_dict() for cell in sweep_of(ASKED | {"lengths": [512, 1024], "windows": 2}, "here").cells]
    geo, weights = demo.geometry, 4 * demo.geometry.parameters
    token = 4 * geo.n_layers * geo.n_kv_heads * 2 * geo.head_dim
    computed, loaded = bytes_needed(cells, "auto", False, ".")
    assert computed == int((weights + 2 * 1024 * token + 2 * 1024 * token) / 0.9) + GIB
    assert loaded == weights + GIB
    gone = [cell | {"model": "no such"} for cell in cells]
    assert bytes_needed(gone, "auto", False, ".") == (0, 0)  # its row says what is wrong
