import pytest
import torch

from qroar_core.diagnostics.measurement import Measurement
from qroar_core.maths.positions import PositionBins, dealt, log_spaced


@pytest.mark.parametrize(("length", "count"), [(10, 3), (4096, 16), (7, 7), (3, 5), (1, 1), (1000, 7)])
def test_segments_and_edges_agree_with_the_bin_of_each_position(length, count):
    bins = PositionBins(length, count)
    edges = bins.edges()
    assert edges[0] == 0
    assert edges[-1] == length
    for m in range(length):
        assert edges[bins.of(m)] <= m < edges[bins.of(m) + 1]
    for start, tokens in ((0, length), (length // 3, length - length // 3), (length // 2, 1)):
        walked = [(p, m) for p, cut in bins.segments(start, tokens) for m in range(start + cut.start, start + cut.stop)]
        assert walked == [(bins.of(m), m) for m in range(start, start + tokens)]


@pytest.mark.parametrize(("length", "count"), [(10, 3), (64, 16), (7, 7), (3, 5), (1, 1), (100, 7)])
def test_bins_inside_a_shorter_context_by_a_walk_over_every_position(length, count):
    bins = PositionBins(length, count)
    for short in range(1, length + 1):
        reaching_out = {bins.of(m) for m in range(short, length)}
        filled = {bins.of(m) for m in range(length)}
        wholly = filled - reaching_out
        assert {p for p in range(bins.inside(short)) if p in filled} == wholly, short


@pytest.mark.parametrize(("length", "short", "expected"), [(1024, 256, 4), (2048, 256, 2), (128, 4, 1), (128, 128, 16)])
def test_the_last_bin_of_the_short_context_belongs_to_it(length, short, expected):
    """16 bins: a quarter of the length is 4 of them, an eighth 2; a context under one bin still has the first."""
    measurement = Measurement(None, (), length, PositionBins(length, 16), windows=(), paired_tokens=1, tail_keep={})
    assert measurement.short_bins(short) == slice(0, expected)


def test_dealt_bins_share_out_every_run_and_do_not_depend_on_chunks():
    bins, cpu = PositionBins(4096, 16), torch.device("cpu")
    whole = dealt(bins, 0, 4096, 3, cpu)
    assert whole.bincount().tolist() == [256] * 16  # as many tokens as the bins of position
    assert bool((whole.view(-1, 16).sort(1).values == torch.arange(16)).all())
    for chunk in (1, 7, 64, 1000):
        parts = [dealt(bins, at, min(chunk, 4096 - at), 3, cpu) for at in range(0, 4096, chunk)]
        assert torch.equal(torch.cat(parts), whole)
    # a place within a run falls into every bin about as often: 256 runs, chi square of 15 degrees under 45 each
    table = torch.zeros(16, 16)
    for place in range(16):
        table[place] = whole[place::16].bincount(minlength=16)
    assert float(((table - 16).square() / 16).sum(1).max()) < 45
    other = dealt(bins, 0, 4096, 4, cpu)
    assert 0.03 < float((other == whole).double().mean()) < 0.1  # another seed, another dealing: 1 in 16 agree


def test_positions_past_the_length_count_into_the_last_bin():
    assert PositionBins(8, 4).segments(6, 5) == [(3, slice(0, 5))]


def test_log_spaced_rows():
    rows = log_spaced(4095, 48)
    assert rows[0] == 1
    assert rows[-1] == 4095
    assert bool((rows.diff() > 0).all())
    assert 36 <= len(rows) <= 48
    ratio = rows[-20:].double().diff() / rows[-20:-1]
    assert float(ratio.max() - ratio.min()) < 0.02  # evenly spaced in logarithm, up to rounding
    assert log_spaced(5, 1).tolist() == [5]
    assert log_spaced(1, 9).tolist() == [1]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="length"):
        PositionBins(0, 1)
    with pytest.raises(ValueError, match="last"):
        log_spaced(0, 3)
    assert torch.is_tensor(log_spaced(3, 2))
