"""Only plain files of a sane size are read, and never more of them than the limit; JSON of a sane depth alone."""

import json
import os
import tracemalloc

import pytest

from qroar_core.plain_file import DEEPEST, HEAD, NotPlain, check, is_there, parsed, read_bytes, read_json, read_text
from tests.helpers.strange_files import DEEP, NO_FILES, at_once, pipe, sparse


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_neither_absent_nor_read(tmp_path, kind):
    make, said = NO_FILES[kind]
    path = tmp_path / "config.json"
    make(path)
    for ask in (is_there, lambda path: check(path, 10), lambda path: read_bytes(path, 10)):
        with at_once(), pytest.raises(OSError) as caught:  # noqa: PT011 (NotPlain, or what the system says of a loop)
            ask(path)
        if ask is is_there:
            assert said in str(caught.value)


def test_an_absent_file_is_absent(tmp_path):
    assert not is_there(tmp_path / "config.json")
    (tmp_path / "file").touch()
    assert not is_there(tmp_path / "file" / "config.json")
    assert is_there(tmp_path / "file")


def test_a_link_to_a_file_is_a_file(tmp_path):
    """As every file of a snapshot in the hub's cache."""
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "config.json").symlink_to("blob")
    assert is_there(tmp_path / "config.json")
    assert read_json(tmp_path / "config.json", 2) == {}


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, 3 * HEAD])
def test_a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert read_bytes(path, size) == path.read_bytes()
    if size:
        with pytest.raises(NotPlain, match=f"more than {size - 1:,} bytes, which no real one reaches"):
            read_bytes(path, size - 1)


def test_a_file_of_gigabytes_costs_no_memory(tmp_path):
    path = tmp_path / "config.json"
    sparse(2**32)(path)
    tracemalloc.start()
    with pytest.raises(NotPlain):
        read_json(path, 2**20)
    with pytest.raises(ValueError, match="no JSON"):
        read_json(path, 2**33)  # within the limit, its first byte is enough
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_still_cut_off(tmp_path):
    """/proc says 0 bytes of everything in it."""
    with pytest.raises(NotPlain, match="more than 10 bytes"):
        read_bytes(type(tmp_path)("/proc/self/status"), 10)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "file"
    pipe(path)
    monkeypatch.setattr("qroar_core.plain_file.check", lambda path, most: None)  # it was a file when it was looked at
    with at_once(), pytest.raises(NotPlain, match="a pipe"):
        read_bytes(path, 10)


@pytest.mark.parametrize("kind", DEEP)
def test_what_is_nested_too_deeply_is_refused(tmp_path, kind):
    path = tmp_path / "config.json"
    path.write_text(DEEP[kind])
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path, 2**22)


def test_the_depth_that_is_allowed():
    def nested(depth):
        return json.dumps([{"a": 1}] if depth == 2 else nested_list(depth)).encode()

    def nested_list(depth):
        found = []
        for _ in range(depth - 1):
            found = [found]
        return found

    assert parsed(nested(DEEPEST)) == nested_list(DEEPEST)
    with pytest.raises(ValueError, match="nested too deeply"):
        parsed(nested(DEEPEST + 1))


def test_what_is_not_utf8_is_said_with_its_place(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a": "\xff"}')
    for read in (read_text, read_json):
        with pytest.raises(ValueError, match="not UTF-8 text at byte 7"):
            read(path, 99)
