"""A large text is read only where its windows lie: the same tokens as of the whole, in little memory, and said."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qroar_core.errors import BadText
from qroar_core.models import text_files
from qroar_core.models.document_tokens import tokens_held
from qroar_core.models.text import (
    Document,
    LargeDocument,
    longest_held,
    open_text,
    split,
    thirds,
    windows,
    windows_held,
)
from qroar_core.specs import RetrievalSpec

ROOT = Path(__file__).parents[2]
MIB = 2**20


@pytest.fixture
def large(tmp_path, monkeypatch):
    """`large(text)` -> the document of a file with this text, which counts as large from 64 KiB on."""
    monkeypatch.setattr(text_files, "LARGE", 2**16)

    def build(text, encoding="utf-8"):
        path = tmp_path / "large.txt"
        path.write_bytes(text.encode(encoding))
        return open_text(path)

    return build


@pytest.fixture(scope="module")
def messages():
    """Five times what counts as large here."""
    return "\n\n".join(d.text for d in split("calibration"))[: 5 * 2**16]


@cache
def unigram(text):
    """As SentencePiece writes words: a space becomes the first letter of a word, one more before the text."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    made.train_from_iterator(text[:40_000].splitlines(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made)


@cache
def merged(text):
    """Byte-level merges, words split as GPT-2 does."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text[:20_000]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made)


def within(row, whole):
    """Is this row of ids a run of the whole text's ids?"""
    row, whole = row.to(torch.int32).numpy().tobytes(), whole.to(torch.int32).numpy().tobytes()
    at = whole.find(row)
    while at % 4 and at >= 0:
        at = whole.find(row, at + 1)
    return at >= 0


DRAW = random.Random(0)
CHINESE = "".join(chr(0x4E00 + int(300 * DRAW.random() ** 3)) for i in range(60_000))  # some far more often than others


@pytest.mark.parametrize("make", [unigram, merged])
@pytest.mark.parametrize("kind", ["english", "one line", "no spaces"])
def test_the_tokens_are_those_of_the_whole_text(large, messages, make, kind):
    text = {"english": messages, "one line": messages.replace("\n", " "), "no spaces": CHINESE}[kind]
    tokenizer, document = make(text), large(text)
    assert isinstance(document, LargeDocument)
    whole = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    for seed in range(3):
        got = windows(tokenizer, [document], 300, 8, seed)
        assert got.ids.shape == (8, 300)
        assert all(within(row, whole) for row in got.ids)
        assert len(torch.unique(got.ids, dim=0)) == 8


def test_windows_lie_apart_spread_over_the_file_and_repeat(large, messages):
    tokenizer, document = merged(messages), large(messages)
    one, two, other = (windows(tokenizer, [document], 100, 10, seed) for seed in (1, 1, 2))
    assert torch.equal(one.ids, two.ids)
    assert one.digest != other.digest
    at = [byte for _, byte in one.origin]
    size = len(messages.encode())
    assert all(size * j // 10 <= byte < size * (j + 1) // 10 for j, byte in enumerate(at))
    assert one.unit == "byte"
    assert one.notes == ("places chosen by bytes of a large text, each read from a line or word start",)


def test_a_small_text_is_read_as_ever(large, messages):
    small = messages[:60_000]
    got = large(small)
    assert got == Document("large.txt", small)
    made = windows(merged(messages), [got], 100, 5)
    assert (made.unit, made.notes) == ("token", ())


def test_the_parts_of_a_large_text_do_not_meet(large, messages):
    parts = thirds(large(messages))
    size = len(messages.encode())
    spans = [(part.first, part.last) for (part,) in parts.values()]
    assert spans == [(0, 3 * size // 8), (3 * size // 8, 5 * size // 8), (5 * size // 8, size)]
    assert parts["heldout"][0].name == f"large.txt[bytes {5 * size // 8}:{size}]"
    tokenizer = merged(messages)
    for (part,) in parts.values():
        ours = torch.tensor(tokenizer(messages.encode()[part.first : part.last].decode(errors="ignore"))["input_ids"])
        assert all(within(row, ours) for row in windows(tokenizer, [part], 200, 3).ids)


def test_what_a_large_text_holds_is_estimated_with_care(large, messages):
    tokenizer, document = merged(messages), large(messages)
    whole = len(tokenizer(messages)["input_ids"])
    assert 0.7 * whole < tokens_held(tokenizer, document) < 0.9 * whole
    held = windows_held(tokenizer, [document], 1000)
    assert len(windows(tokenizer, [document], 1000, held)) == held
    with pytest.raises(BadText, match=f"holds about {held} windows of 1000 tokens, {held + 1} are asked; give"):
        windows(tokenizer, [document], 1000, held + 1)
    with pytest.raises(BadText, match=r"the longest document has about \d+ tokens, one window needs 10000000"):
        windows(tokenizer, [document], 10_000_000, 1)


def test_windows_of_a_large_text_apart_from_others_share_no_token_with_them(large, messages):
    tokenizer, document = merged(messages), large(messages)
    first = windows(tokenizer, [document], 2000, 2)
    held = windows_held(tokenizer, [document], 1000, first)
    assert 0 < held < windows_held(tokenizer, [document], 1000)
    got = windows(tokenizer, [document], 1000, held, apart_from=first)
    whole = torch.tensor(tokenizer(messages)["input_ids"])
    places = [at for row in (*first.ids, *got.ids) for at in start_of(row, whole)]
    spans = sorted(zip(places, [2000] * 2 + [1000] * held, strict=True))
    assert all(a + size <= b for (a, size), (b, _) in zip(spans, spans[1:], strict=False))
    longest = longest_held(tokenizer, [document], 10**6, 2, first)
    held_at = [windows_held(tokenizer, [document], length, first) for length in (longest, longest + 1)]
    assert held_at[0] >= 2 > held_at[1]
    assert len(windows(tokenizer, [document], longest, 2, apart_from=first)) == 2


def start_of(row, ids):
    """Where in `ids` this row of tokens stands: one place."""
    row, ids = row.to(torch.int32).numpy().tobytes(), ids.to(torch.int32).numpy().tobytes()
    found, at = [], ids.find(row)
    while at >= 0:
        found += [at // 4] * (at % 4 == 0)
        at = ids.find(row, at + 1)
    assert len(found) == 1
    return found


def test_line_ends_of_a_large_text_are_read_as_lf_and_said(large, messages):
    tokenizer = merged(messages)
    document = large(messages.replace("\n", "\r\n"))
    whole = torch.tensor(tokenizer(messages)["input_ids"])
    got = windows(tokenizer, [document], 300, 6)
    assert all(within(row, whole) for row in got.ids)
    assert got.notes[-1] == "line ends other than LF read as LF"


def test_bytes_that_are_no_text_are_named(large, messages, tmp_path):
    tokenizer, document = merged(messages), large(messages)
    raw = bytearray(messages.encode())
    raw[len(raw) // 2] = 0xFF
    document.path.write_bytes(raw)
    with pytest.raises(BadText, match=rf"large.txt: not UTF-8 text at byte {len(raw) // 2}; give a plain"):
        document.read(len(raw) // 2 - 100, len(raw) // 2 + 100)
    document.path.write_bytes(b"\0\1\2\3" * 100_000)
    with pytest.raises(BadText, match="looks binary"):
        windows(tokenizer, [document], 100, 1)
    document.path.write_bytes(b"\n " * 600_000)
    with pytest.raises(BadText, match="its first 1048576 bytes are empty"):
        open_text(document.path)


def test_characters_of_several_bytes_are_cut_whole(large):
    document = large("é€𝄞" * 20_000)
    for first in range(20, 29):
        text, changed = document.read(first, first + 100)
        assert set(text) == set("é€𝄞")
        assert not changed


def test_prompts_hide_numbers_in_a_large_text(large, messages):
    from qroar_core.retrieval.prompts import prompts

    tokenizer = merged(messages)
    tokenizer.chat_template = None
    document = large(messages)
    whole = torch.tensor(tokenizer(messages)["input_ids"])
    spec = RetrievalSpec(("passkey",), depths=(1.0,), trials=3)
    for made in prompts(tokenizer, [document], spec, 1200):
        assert made.origin.startswith("large.txt, from byte ")
        assert len(made.ids) == 1200 - made.budget
        assert within(made.ids[300:800], whole)


@pytest.mark.slow
def test_half_a_gigabyte_starts_in_little_memory(tmp_path):
    """The texts of a run of 500 MB, their windows chosen, coded and named, in seconds and below 1 GB."""
    path = tmp_path / "big.txt"
    block = ("".join(d.text for d in split("heldout", "technical")).encode())[: 4 * MIB]
    with path.open("wb") as file:
        while file.tell() < 500 * MIB:
            file.write(block)
    script = (
        "import re, sys, time\n"
        "from transformers import AutoTokenizer\n"
        "from qroar_core.cli.texts import documents, text_label\n"
        "from qroar_core.models.text import windows\n"
        "tokenizer = AutoTokenizer.from_pretrained('assets/demo')\n"
        "began = time.perf_counter()\n"
        "options = {'text': sys.argv[1]}\n"
        "texts = documents(options)\n"
        "assert 'sha256' in text_label(options)\n"
        "for name, found in texts.items():\n"
        "    assert windows(tokenizer, found, 2048, 8).ids.shape == (8, 2048)\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"  # ru_maxrss knows the parent's
        "print(time.perf_counter() - began, peak)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    seconds, kibibytes = map(float, out.stdout.split())
    assert seconds < 30
    assert kibibytes < MIB
