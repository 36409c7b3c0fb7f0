"""What is shared is made once, let go in order, and never kept where making it failed."""

import pytest

from qroar_core.shared import Shared


def test_the_newest_are_kept_and_counted():
    gone = []
    shared = Shared(most=2, close=gone.append)
    asked = ["a", "b", "a", "c", "a", "b"]
    assert [shared.of(name, lambda name=name: name.upper()) for name in asked] == ["A", "B", "A", "C", "A", "B"]
    assert gone == ["B", "C"]  # b is the oldest when c comes, c when b comes again
    assert (shared.made, shared.taken) == (4, 2)
    shared.clear()
    assert sorted(gone) == ["A", "B", "B", "C"]


def test_the_oldest_goes_before_another_is_made():
    there = []
    shared = Shared(close=there.remove)

    def make(name):
        assert there == []
        there.append(name)
        return name

    shared.of("a", lambda: make("a"))
    shared.of("b", lambda: make("b"))
    assert there == ["b"]


def test_what_could_not_be_made_is_tried_again():
    shared = Shared()

    def fail():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        shared.of("a", fail)
    assert shared.of("a", lambda: 1) == 1
    assert (shared.made, shared.taken) == (1, 0)
