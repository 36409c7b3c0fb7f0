"""BOS before a text: found by asking the tokenizer, put before every window, said in words, never guessed."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from qroar_core.errors import BadCheckpoint, BadSpec
from qroar_core.models.bos import Opening, adds_bos, opening, starts
from qroar_core.models.formats.gguf.tokenizer_entries import _special
from qroar_core.models.text import Document, encode, windows, windows_held
from qroar_core.models.tokenizer import read_tokenizer


@pytest.fixture
def with_bos(byte_tokenizer):
    """`with_bos(put)` -> the byte tokenizer with <s> as BOS; it puts the tokens `put` before a text, </s> behind."""

    def build(put="<s>", **named):
        made = PreTrainedTokenizerFast(
            tokenizer_object=type(byte_tokenizer.backend_tokenizer).from_str(byte_tokenizer.backend_tokenizer.to_str()),
            **({"bos_token": "<s>", "eos_token": "</s>"} | named),
        )
        made.add_special_tokens({"additional_special_tokens": ["[gMASK]", "<sop>"]})
        names = [*put.split(), "</s>"]
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{put} $A </s>".strip(),
            pair="$A $B",
            special_tokens=[(name, made.convert_tokens_to_ids(name)) for name in dict.fromkeys(names)],
        )
        return made

    return build


def test_the_tokenizer_itself_is_asked(with_bos, byte_tokenizer):
    assert adds_bos(with_bos())
    assert not adds_bos(with_bos(""))  # has a BOS token, puts none before a text
    assert not adds_bos(byte_tokenizer)


@pytest.mark.parametrize(
    ("put", "bos", "ids", "said"),
    [
        ("<s>", "auto", ["<s>"], "each window starts with <s>"),
        ("<s>", "on", ["<s>"], "each window starts with <s>"),
        ("<s>", "off", [], "no window starts with <s>, which the tokenizer puts before a text"),
        ("", "auto", [], ""),
        ("", "on", ["<s>"], "each window starts with <s>"),
        ("", "off", [], ""),
        ("[gMASK] <sop>", "auto", [], "no window starts with [gMASK] <sop>, which the tokenizer puts before a text"),
        ("<s> <s>", "auto", [], "no window starts with <s> <s>, which the tokenizer puts before a text"),
    ],
)
def test_what_windows_start_with_is_said(with_bos, put, bos, ids, said):
    tokenizer = with_bos(put)
    found = opening(tokenizer, bos)
    assert list(found.ids) == tokenizer.convert_tokens_to_ids(ids)
    assert found.said() == said


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>", "$A <s>", "$A"])
@pytest.mark.parametrize("vocabulary", ["proteins", "no vowels", "words of digits"])
def test_a_vocabulary_without_small_letters_is_asked_with_what_it_has(tmp_path, vocabulary, template):
    letters = "12" if vocabulary == "words of digits" else "ACDEFGHIKLMNPQRSTVWY"
    words = {"<s>": 0, "</s>": 1} | {letter: 2 + i for i, letter in enumerate(letters)}
    model = models.BPE(vocab=words | {"a": len(words)} if vocabulary == "no vowels" else words, merges=[])
    backend = Tokenizer(model)
    backend.add_special_tokens(["<s>", "</s>"])
    if vocabulary == "no vowels":
        backend.normalizer = normalizers.Replace(Regex("[aeiouAEIOU0]"), "")
    backend.post_processor = TemplateProcessing(template, "$A $B", [("<s>", 0), ("</s>", 1)])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    text = letters[:2] + letters[1]
    given = AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    wanted = given[: given.index(words[text[1]])][:1] if template.startswith("<s>") else []
    found = opening(read_tokenizer(tmp_path, "m"), "auto")
    assert list(found.ids) == wanted == ([0] if template.startswith("<s>") else [])
    assert found.left_out == ""
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')  # what stands behind a text is no BOS
    assert read_tokenizer(tmp_path, "m").bos_token == ("<s>" if template.startswith("<s>") else None)


def test_a_tokenizer_that_gives_no_token_at_all_is_refused(with_bos):
    tokenizer = with_bos()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s>", "$A $B", [("<s>", 0)])
    with pytest.raises(BadCheckpoint) as error:
        opening(tokenizer, "auto")
    assert "gives no token for any word of its vocabulary; look at the normalizer" in str(error.value)


@pytest.mark.parametrize("bos", ["auto", "on"])
def test_the_token_that_is_put_counts_not_the_one_that_a_config_names(with_bos, bos):
    tokenizer = with_bos("<s>")
    tokenizer.bos_token = "</s>"
    assert tokenizer("b")["input_ids"][0] == tokenizer.convert_tokens_to_ids("<s>") != tokenizer.bos_token_id
    found = opening(tokenizer, bos)
    assert (found.ids, found.token) == ((tokenizer.convert_tokens_to_ids("<s>"),), "<s>")
    assert adds_bos(tokenizer)
    written = {entry.key: entry.value for entry in _special(tokenizer)}
    assert written["tokenizer.ggml.bos_token_id"] == found.ids[0]
    assert written["tokenizer.ggml.add_bos_token"] is True


def test_on_without_a_bos_token_is_refused_in_one_line(byte_tokenizer):
    with pytest.raises(BadSpec) as error:
        opening(byte_tokenizer, "on")
    assert str(error.value) == "--bos on: the tokenizer has no BOS token; drop it, or choose --bos off"


def test_a_window_is_bos_and_one_token_less_of_text(with_bos):
    tokenizer = with_bos()
    text = "".join(chr(33 + i % 90) for i in range(1000))
    documents = [Document("a", text), Document("b", text[::-1][:300])]
    got = windows(tokenizer, documents, 40, 6, seed=3)
    coded = {d.name: [ord(c) for c in d.text] for d in documents}
    alphabet = tokenizer.convert_ids_to_tokens(range(256))
    assert got.opening == 1
    assert got.ids.shape == (6, 40)
    for row, (name, at) in zip(got.ids.tolist(), got.origin, strict=True):
        assert row[0] == tokenizer.bos_token_id
        assert [ord(alphabet[i]) for i in row[1:]] == coded[name][at : at + 39]
    assert got.notes == ("each window starts with <s>",)
    assert got.noted == ", each window starts with <s>"
    plain = windows(tokenizer, [Document(d.name, d.text, "off") for d in documents], 39, 6, seed=3)
    assert torch.equal(plain.ids, got.ids[:, 1:])
    assert plain.origin == got.origin
    assert plain.digest != got.digest


def test_the_room_counts_bos(with_bos):
    tokenizer, text = with_bos(), [Document("a", "x" * 78)]
    assert len(encode(tokenizer, text[0])) == 78
    assert windows_held(tokenizer, text, 40) == 2  # 2 x 39 tokens of text
    assert windows_held(tokenizer, [Document("a", "x" * 77)], 40) == 1
    assert len(windows(tokenizer, text, 40, 2)) == 2


def test_tokens_of_the_text_stay_in_front_when_a_window_is_shortened():
    ids = torch.arange(10)[None] + torch.tensor([[0], [100]])
    assert starts(ids, 4, 1).tolist() == [[0, 7, 8, 9], [100, 107, 108, 109]]
    assert starts(ids, 4, 0).tolist() == [[6, 7, 8, 9], [106, 107, 108, 109]]
    assert torch.equal(starts(ids, 10, 1), ids)


def test_an_opening_goes_before_every_row():
    assert Opening((7,)).before(torch.tensor([[1, 2], [3, 4]])).tolist() == [[7, 1, 2], [7, 3, 4]]
    assert Opening((7,)).before(torch.tensor([1, 2])).tolist() == [7, 1, 2]
    nothing = torch.tensor([[1, 2]])
    assert Opening().before(nothing) is nothing
