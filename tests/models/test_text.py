"""Windows of text: whole, apart, spread, repeatable; splits that share nothing; bad files refused in one line."""

from __future__ import annotations

import hashlib
import os
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qroar_core.errors import BadText
from qroar_core.models.text import (
    COLLECTIONS,
    SPLITS,
    TEXTS,
    Document,
    encode,
    longest_held,
    longest_in_all,
    open_text,
    read_text,
    split,
    thirds,
    windows,
    windows_held,
)


class Letters:
    """One token a character, so that offsets can be checked against the text itself."""

    def __call__(self, text, add_special_tokens=True, verbose=True):
        assert not add_special_tokens
        return {"input_ids": [ord(c) for c in text]}


def document(name, length, first=0):
    """`length` characters, every one different and in no other document with another `first`."""
    return Document(name, "".join(chr(0x4E00 + first + i) for i in range(length)))


def three():
    return [document("a", 1000), document("b", 300, 2000), document("c", 99, 4000)]


lengths = st.lists(st.integers(0, 400), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(2, 50), st.integers(1, 12), st.integers(0, 1000))
def test_windows_are_whole_apart_and_of_one_document(sizes, length, count, seed):
    documents = [document(f"d{i}", size, 1000 * i) for i, size in enumerate(sizes)]
    if sum(size // length for size in sizes) < count:
        with pytest.raises(BadText):
            windows(Letters(), documents, length, count, seed)
        return
    got = windows(Letters(), documents, length, count, seed)
    assert got.ids.shape == (count, length) == (len(got), length)
    assert got.ids.dtype == torch.int64
    texts = {d.name: d.text for d in documents}
    for row, (name, at) in zip(got.ids.tolist(), got.origin, strict=True):
        assert "".join(map(chr, row)) == texts[name][at : at + length]  # where it says, and within the document
    assert len(torch.unique(got.ids)) == count * length  # no token twice: nothing overlaps
    shares = [sum(name == d.name for name, _ in got.origin) for d in documents]
    room = [size // length for size in sizes]
    for i, share in enumerate(shares):
        for j, other in enumerate(shares):
            assert share <= other + 1 or other == room[j], (shares, room, i, j)  # as even as there is room


def test_the_seed_decides_and_nothing_else():
    one, two, three_ = (windows(Letters(), three(), 20, 6, seed) for seed in (1, 1, 2))
    assert one.origin == two.origin
    assert one.digest == two.digest
    assert one.origin != three_.origin
    assert one.digest != three_.digest
    assert len(one.digest) == 8


def test_windows_reach_all_of_a_document():
    offsets = [at for seed in range(40) for _, at in windows(Letters(), [document("a", 1000)], 100, 4, seed).origin]
    assert min(offsets) < 100
    assert max(offsets) > 800
    assert len(set(offsets)) > 100


def test_a_text_that_fits_exactly_is_used_whole():
    got = windows(Letters(), [document("a", 60)], 20, 3)
    assert got.origin == (("a", 0), ("a", 20), ("a", 40))


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_text_shorter_than_the_window_names_the_length_that_fits():
    with pytest.raises(BadText) as error:
        windows(Letters(), three(), 1001, 1)
    assert one_line(error) == (
        "a, b, c: the longest document has 1000 tokens, one window needs 1001; "
        "give a longer text or a length of at most 1000"
    )
    with pytest.raises(BadText, match="holds 11 windows of 100 tokens, 14 are asked; give"):
        windows(Letters(), [document("a", 1100)], 100, 14)
    with pytest.raises(BadText, match="0 tokens"):
        windows(Letters(), [], 10, 1)


def test_tokens_are_the_tokenizers_own_without_special_ones(byte_tokenizer):
    ids = encode(byte_tokenizer, Document("x", "née\n"))
    assert ids.dtype == torch.int64
    assert len(ids) == len("née\n".encode())
    assert byte_tokenizer.decode(ids) == "née\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give a text"),
        (b"  \n\t \n", "is empty; give a text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "not UTF-8 text; give a plain"),
        ("word ".encode("utf-16"), "not UTF-8 text; give a plain"),
        (b"abc\x00\x01\x02\x03" * 50, "looks binary; give a plain"),
    ],
    ids=["empty", "blank", "png", "utf-16", "control"],
)
def test_empty_and_binary_files_are_refused(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(BadText, match=message) as error:
        read_text(path)
    assert one_line(error).startswith(f"{path}: ")


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, "nul\0byte"):
        with pytest.raises(BadText, match="check the path") as error:
            read_text(path)
        one_line(error)


def test_a_byte_order_mark_and_form_feeds_are_no_obstacle(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfOne page.\f\r\nAnother.\tEnd")
    assert read_text(path) == Document("text.txt", "One page.\f\nAnother.\tEnd")


def test_thirds_share_nothing_and_lose_nothing():
    whole = document("mine.txt", 1003)
    parts = thirds(whole)
    assert tuple(parts) == SPLITS
    assert "".join(d.text for name in SPLITS for d in parts[name]) == whole.text
    assert [len(parts[name][0].text) for name in SPLITS] == [376, 250, 377]  # 3, 2 and 3 eighths
    assert all(len(part) == 1 and part[0].name.startswith("mine.txt[") for part in parts.values())


def test_an_unknown_split_is_refused():
    with pytest.raises(BadText, match="unknown split 'test'; choose one of calibration, development, heldout"):
        split("test")


def test_splits_are_disjoint_by_document_and_by_content():
    splits = {name: split(name) for name in SPLITS}
    assert all(splits.values())
    names = [d.name for documents in splits.values() for d in documents]
    assert len(set(names)) == len(names)
    paragraphs = {
        name: {p for d in documents for p in d.text.split("\n\n") if len(p) > 200} for name, documents in splits.items()
    }
    assert min(map(len, paragraphs.values())) > 50
    for one, other in (SPLITS[:2], SPLITS[1:], SPLITS[::2]):
        assert not paragraphs[one] & paragraphs[other]


def test_provenance_lists_every_file_with_its_hash():
    table = re.findall(r"^\| (\S+\.txt) \| (\d+) \| `([0-9a-f]{64})` \|$", (TEXTS / "PROVENANCE.md").read_text(), re.M)
    on_disk = {
        path.relative_to(TEXTS).as_posix(): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for folder in COLLECTIONS.values()
        for name in SPLITS
        for path in (TEXTS / folder / name).iterdir()
    }
    assert {name: (int(size), digest) for name, size, digest in table} == on_disk


def test_windows_that_nobody_asked_for_are_as_many_as_there_are_and_it_is_said():
    some = windows(Letters(), [document("a", 95), document("b", 45, 2000)], 20, 8, fewer=True)
    assert len(some) == 6  # 4 and 2
    assert some.counted == "6 windows (all that the text holds, 8 by default)"
    assert some.counted_as("held-out") == "6 held-out windows (all that the text holds, 8 by default)"
    enough = windows(Letters(), [document("a", 1000)], 20, 8, fewer=True)
    asked = windows(Letters(), [document("a", 1000)], 20, 8)
    assert torch.equal(enough.ids, asked.ids)
    assert enough.counted == asked.counted == "8 windows"
    assert windows(Letters(), [document("a", 20)], 20, 1).counted == "1 window"
    with pytest.raises(BadText, match="the text holds 1 window of 20 tokens, at least 2 are needed; give"):
        windows(Letters(), [document("a", 39)], 20, 8, fewer=True, least=2)
    with pytest.raises(BadText, match="one window needs 20"):
        windows(Letters(), [document("a", 19)], 20, 8, fewer=True)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(2, 50), st.integers(2, 50), st.integers(1, 3), st.integers(0, 1000))
def test_windows_apart_from_others_share_no_token_with_them(sizes, length, other, taken, seed):
    documents = [document(f"d{i}", size, 1000 * i) for i, size in enumerate(sizes)]
    if sum(size // other for size in sizes) < taken:
        return
    first = windows(Letters(), documents, other, taken, seed)
    free = []  # lengths of what is left, counted token by token
    for d in documents:
        read = {i for (name, at) in first.origin if name == d.name for i in range(at, at + other)}
        marks = "".join("x" if i in read else "." for i in range(len(d.text)))
        free += [len(piece) for piece in marks.split("x") if piece]
    held = sum(piece // length for piece in free)
    assert windows_held(Letters(), documents, length, first) == held
    longest = max((n for n in range(1, 401) if sum(piece // n for piece in free) >= 2), default=0)
    assert longest_held(Letters(), documents, 400, 2, first) == longest
    assert longest_held(Letters(), documents, 5, 2, first) == min(longest, 5)
    if not held:
        with pytest.raises(BadText):
            windows(Letters(), documents, length, 1, seed, apart_from=first)
        return
    got = windows(Letters(), documents, length, held, seed, apart_from=first)
    assert len(torch.unique(torch.cat((first.ids.flatten(), got.ids.flatten())))) == taken * other + held * length
    texts = {d.name: d.text for d in documents}
    for row, (name, at, end) in zip(got.ids.tolist(), got.spans, strict=True):
        assert "".join(map(chr, row)) == texts[name][at:end]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_read_as_lf_and_noted(tmp_path, newline):
    path = tmp_path / "text.txt"
    path.write_bytes(f"One.{newline}{newline}Two.\nThree.".encode())
    got = read_text(path)
    assert got.text == "One.\n\nTwo.\nThree."
    assert windows(Letters(), [got], 8, 2).noted == ", line ends other than LF read as LF"
    path.write_text("One.\n\nTwo.\nThree.")
    assert read_text(path).note == ""


def test_the_parts_of_a_text_keep_how_windows_start_and_what_is_noted():
    whole = Document("mine", "x" * 80, "off", "a note")
    assert [(d.bos, d.note) for (d,) in thirds(whole).values()] == [("off", "a note")] * 3
    assert {d.bos for d in split("development", "novels", "on")} == {"on"}
    assert {d.bos for d in split("development")} == {"auto"}


def test_a_pipe_or_a_device_is_refused_before_it_is_read(tmp_path):
    """A pipe waits for ever for who writes it, /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        for read in (open_text, read_text):
            with pytest.raises(BadText, match=f"^{path}: not a file but a pipe or a device; save the text in a file"):
                read(path)


class Counted(Letters):
    """Notes what was tokenized."""

    def __init__(self):
        self.read = []

    def __call__(self, text, **asked):
        self.read.append(text)
        return super().__call__(text, **asked)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), max_size=4), min_size=1, max_size=4))
def test_the_longest_window_of_every_split_is_the_least_of_their_longest_documents(sizes):
    splits = [[document(f"{i} {j}", size) for j, size in enumerate(split)] for i, split in enumerate(sizes)]
    assert longest_in_all(Letters(), splits) == min(max(split, default=0) for split in sizes)


def test_no_more_is_tokenized_for_it_than_decides():
    tokenizer = Counted()
    splits = [[document("a", 90), document("b", 400)], [document("c", 300), document("d", 200)], [document("e", 500)]]
    assert longest_in_all(tokenizer, splits) == 300
    assert sorted(map(len, tokenizer.read)) == [200, 300, 400, 500]  # `a` cannot make its split the one
